"""Compare baselines with the released code's logits: stage 7 of the recorded cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hcl.models.baselines import MatchingNet, RelationNet, clip_maps, clip_vectors, cosine_scores, prototype_scores
from tests.golden.weights import deterministic_state, uniform

GOLDEN = Path(__file__).parents[1] / "golden"
WAY, N_QUERIES = 5, 25
RELEASED_NAME = {
    "lstm.": "lstm.lstm.",
    "conv1.": "relation_network.layer1.0.",
    "norm1.": "relation_network.layer1.1.",
    "conv2.": "relation_network.layer2.0.",
    "norm2.": "relation_network.layer2.1.",
    "hidden.": "relation_network.fc1.",
    "out.": "relation_network.fc2.",
}


@pytest.mark.parametrize("shot", [1, 5])
@pytest.mark.parametrize(("method", "scores"), [("proto", prototype_scores), ("cosine", cosine_scores)])
def test_training_free_scores(method, scores, shot):
    recorded = np.load(GOLDEN / f"s7_{method}_shot{shot}.npz")
    query, support = episode(clip_vectors(torch.from_numpy(recorded["x"]).float()), shot)
    assert_same(scores(query, support), recorded)


def test_matching_net():
    recorded = np.load(GOLDEN / "s7_match_shot1.npz")
    query, support = episode(clip_vectors(torch.from_numpy(recorded["x"]).float()), shot=1)
    with torch.no_grad():
        assert_same(filled(MatchingNet(512))(query, support), recorded)


@pytest.mark.parametrize("chunk_size", [4, 25])
def test_relation_net(chunk_size):
    recorded = np.load(GOLDEN / "s7_relation_shot1.npz")
    query, support = episode(clip_maps(relation_inputs()), shot=1)
    with torch.no_grad():
        scores = filled(RelationNet(512, chunk_size=chunk_size)).eval()(query, support)
    # The release returns one row for each pair, queries outermost.
    assert relative_error(scores.reshape(-1, 1), recorded["logits"]) < 1e-4


@pytest.mark.parametrize(("method", "module"), [("match", MatchingNet), ("relation", RelationNet)])
def test_every_released_weight_has_its_place(method, module):
    """Check at the released width that each entry of the method exists here in the released shape."""
    released = json.loads((GOLDEN / "s10_state_dict_baselines_nonbackbone.json").read_text())[method]
    prefix = {"match": "lstm.", "relation": "relation_network."}[method]
    with torch.device("meta"):
        ours = {released_name(name): list(value.shape) for name, value in module(2048).state_dict().items()}
    assert ours == {name: shape for name, shape in released.items() if name.startswith(prefix)}


def episode(clips: Tensor, shot: int) -> tuple[Tensor, Tensor]:
    """Split recorded clips, which are the support, class after class, and then the queries."""
    support, query = clips.split([WAY * shot, N_QUERIES])
    return query, support.unflatten(0, (WAY, shot))


def filled(module: nn.Module) -> nn.Module:
    """Fill a module with the deterministic weights of the released names."""
    state = module.state_dict()
    values = deterministic_state({released_name(name): tuple(value.shape) for name, value in state.items()})
    module.load_state_dict({name: torch.from_numpy(values[released_name(name)]) for name in state})
    return module


def released_name(name: str) -> str:
    ours = next(prefix for prefix in RELEASED_NAME if name.startswith(prefix))
    return RELEASED_NAME[ours] + name.removeprefix(ours)


def relation_inputs() -> Tensor:
    """Compute feature maps (clip, 1, 512, 7, 7) of 5 support and 25 query clips, which are too large to store."""
    labels = np.concatenate([np.arange(WAY), np.repeat(np.arange(WAY), N_QUERIES // WAY)])
    n_clips = len(labels)
    of_class = uniform("bc", (WAY, 1, 512, 1, 1))[labels]
    of_place = uniform("bp", (n_clips, 1, 1, 7, 7))
    of_clip = uniform("bq", (n_clips, 1, 512, 1, 1))
    maps = np.maximum(0, 0.5 * (of_class + 0.8 * of_place + of_clip)).astype(np.float16)
    return torch.from_numpy(maps).float()


def assert_same(scores: Tensor, recorded: np.lib.npyio.NpzFile) -> None:
    assert scores.shape == (N_QUERIES, WAY)
    assert relative_error(scores, recorded["logits"]) < 1e-4
    np.testing.assert_array_equal(scores.argmax(dim=1).numpy(), recorded["pred"])


def relative_error(ours: Tensor, recorded: np.ndarray) -> float:
    assert tuple(ours.shape) == recorded.shape
    return float(np.linalg.norm(ours.numpy() - recorded) / np.linalg.norm(recorded))

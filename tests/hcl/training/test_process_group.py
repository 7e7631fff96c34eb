"""W workers compute what one computes: losses, gradients and updates, in real process groups.

Four processes are started once. They form a group of four, and then two of them a group of two; each group computes
everything that is compared and writes it down. The same functions run here for the one worker.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hcl.clips.batches import Batch
from hcl.clips.episodes import sample_episodes
from hcl.errors import NonFiniteLossError
from hcl.evaluation.matcher import Matcher
from hcl.training.epoch import BatchLoss, train_step
from hcl.training.losses import TERMS, classification_loss, contrastive_terms, neighbouring_pairs, weighted_total
from hcl.training.process_group import ProcessGroup, SingleProcess
from hcl.training.regimes import PairLoss
from hcl.training.validation import validate
from tests.hcl.evaluation.test_matcher import LABELS as VALIDATION_LABELS
from tests.hcl.evaluation.test_matcher import SIGMAS as FUSION
from tests.hcl.evaluation.test_matcher import Clips
from tests.hcl.models.test_hcl import pixels, tiny_model
from tests.hcl.training.process_groups import computed
from tests.hcl.training.test_epoch import LABELS, MATCHING, SIGMAS, Stripes, pair_batches

CLASSES_PER_BATCH = 4  # eight clips: four for each of two workers, a pair for each of four
EMBEDDING = 5
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"matching": {}, "model": {}},
    "multi-scale, anchor kept": {"matching": {"keep_anchor": True, "zoom_ranks": 2}, "model": {"multi_scale": True}},
    "semantic": {"matching": {"chunk_size": 1}, "model": {"embedding_dim": EMBEDDING}},
    "dropout": {"matching": {}, "model": {"dropout": 0.1}},
}
WORLDS = (4, 2)


# --- what each group computes ---------------------------------------------------------------------------------------


def wrapped(model: nn.Module, group: ProcessGroup) -> nn.Module:
    return model if isinstance(group, SingleProcess) else DistributedDataParallel(model)


def batches(group: ProcessGroup, count: int) -> list[Batch]:
    settings: dict[str, Any] = {"classes_per_batch": CLASSES_PER_BATCH, "batches": count, "seed": 0, "epoch": 0}
    return list(pair_batches(Stripes(), LABELS, rank=group.rank, world_size=group.world_size, **settings))


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    bare = getattr(model, "module", model)
    return {name: parameter.grad.clone() for name, parameter in bare.named_parameters() if parameter.grad is not None}


def terms_and_gradients(
    group: ProcessGroup, variant: str, dtype: torch.dtype = torch.float64
) -> dict[str, tuple[dict[str, float], dict[str, Tensor]]]:
    """The terms, and the gradients of each term alone and of the weighted total."""
    settings = VARIANTS[variant]
    model = wrapped(tiny_model(**settings["model"]).to(dtype), group).train()
    (batch,) = batches(group, 1)
    embeddings = None
    if variant == "semantic":
        of_class = torch.randn(4, EMBEDDING, generator=torch.Generator().manual_seed(0), dtype=dtype)
        embeddings = of_class[batch.labels]
    results = {}
    for name in (*TERMS, "total"):
        model.zero_grad(set_to_none=True)
        features, logits = model(batch.clips, embeddings, batch.draws)
        pairs = neighbouring_pairs(group.rank * len(batch.labels), len(batch.labels))
        terms = {"ce": classification_loss(logits, batch.labels)}
        terms |= contrastive_terms(features, group.all_gather(features), pairs, **(MATCHING | settings["matching"]))
        sigmas = SIGMAS if name == "total" else {term: float(term == name) for term in TERMS}
        weighted_total(terms, sigmas).backward()
        results[name] = group.mean({key: float(value.detach()) for key, value in terms.items()}), gradients_of(model)
    return results


def three_steps(group: ProcessGroup) -> tuple[list[dict[str, float]], dict[str, Tensor], dict[str, Tensor]]:
    """In float32, by `train_step`: what it returns, the last gradients, the weights afterwards."""
    model = wrapped(tiny_model(dropout=0.1), group).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss = PairLoss(model, SIGMAS, MATCHING, group)
    settings: dict[str, Any] = {"loss": loss, "clip_norm": 1.0, "group": group}
    values = [train_step(model, optimizer, [batch], **settings) for batch in batches(group, 3)]
    return values, gradients_of(model), dict(getattr(model, "module", model).state_dict())


def not_finite(group: ProcessGroup) -> tuple[list[str], list[int]]:
    """The terms and clips that a worker names where the classification of the last worker's clips is not finite."""
    model = wrapped(tiny_model(), group).train()
    finite = PairLoss(model, SIGMAS, MATCHING, group)

    def loss(batch: Batch) -> BatchLoss:
        result = finite(batch)
        is_broken = group.rank == group.world_size - 1
        return result._replace(terms=result.terms | {"ce": result.terms["ce"] * (math.nan if is_broken else 1.0)})

    (batch,) = batches(group, 1)
    with pytest.raises(NonFiniteLossError) as caught:
        train_step(model, torch.optim.SGD(model.parameters()), [batch], loss=loss, clip_norm=1.0, group=group)
    return caught.value.terms, caught.value.clips


def validated(group: ProcessGroup, **episode: int) -> np.ndarray:
    settings = {"way": 3, "shot": 2, "queries": 2, "episodes": 5} | episode
    episodes = sample_episodes(VALIDATION_LABELS, seed=1, **settings)
    matching = {"tuple_sizes": (2, 3), "top_tuples": 3, "top_patches": 4, "zoom_ranks": 2}
    model = tiny_model().eval()
    clips = Clips(pixels(len(VALIDATION_LABELS)))
    return validate(model, clips, [episodes], Matcher("auto", True, matching), sigmas=FUSION, group=group).accuracies[0]


def before_and_after_a_barrier(group: ProcessGroup) -> tuple[float, float]:
    """The times at which a worker comes to a barrier, later with each rank, and leaves it."""
    time.sleep(0.2 * group.rank)
    came = time.time()
    group.barrier()
    return came, time.time()


def everything(group: ProcessGroup) -> dict[str, Any]:
    uneven = torch.arange(20.0).view(10, 2)[group.rank : 2 * group.rank + 1]  # rank + 1 rows
    return {
        "terms": {variant: terms_and_gradients(group, variant) for variant in VARIANTS},
        "terms in float32": {v: terms_and_gradients(group, v, torch.float32) for v in VARIANTS},
        "steps": three_steps(group),
        "not finite": not_finite(group),
        "validation": validated(group).tolist(),
        "validation of two clips": validated(group, way=1, shot=1, queries=1, episodes=1).tolist(),
        "rows": group.all_gather_rows(uneven),
        "mean": group.mean({"a": float(group.rank), "b": 1.5}),
        "barrier": before_and_after_a_barrier(group),
    }


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """By the number of workers: what each rank computed."""
    return {1: [everything(SingleProcess())]} | computed(everything, WORLDS, tmp_path_factory.mktemp("group"))


def error_of(ours: Tensor, one: Tensor, at_least: float = 0.0) -> float:
    """Relative L2 error; what should vanish is held to `at_least`."""
    return float((ours - one).double().norm() / max(float(one.double().norm()), at_least))


def joined(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.flatten() for _, value in sorted(tensors.items())]).double()


# --- what must be equal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", [*TERMS, "total"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("world", WORLDS)
def test_terms_and_gradients_are_those_of_one_worker(results, world, variant, term):
    values, gradients = results[1][0]["terms"][variant][term]
    assert max(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-3
    for rank in range(world):
        ours, our_gradients = results[world][rank]["terms"][variant][term]
        assert ours == pytest.approx(values, rel=1e-10)
        assert our_gradients.keys() == gradients.keys()
        at_least = 1e-3 * float(joined(gradients).norm())
        errors = {name: error_of(our_gradients[name], value, at_least) for name, value in gradients.items()}
        assert max(errors.values()) <= 1e-10, errors


@pytest.mark.parametrize("term", [*TERMS, "total"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("world", WORLDS)
def test_terms_and_gradients_in_float32(results, world, variant, term):
    values, gradients = results[1][0]["terms in float32"][variant][term]
    for rank in range(world):
        ours, our_gradients = results[world][rank]["terms in float32"][variant][term]
        assert ours == pytest.approx(values, rel=1e-5)
        # Of temporal_cycle, gradients nearly cancel: another library of convolutions moves them by 3e-5. That they are
        # the same is held to 1e-10 in float64, above.
        assert error_of(joined(our_gradients), joined(gradients)) <= 1e-4


@pytest.mark.parametrize("world", WORLDS)
def test_a_loss_that_one_worker_cannot_compute_stops_all_with_the_clips_of_all(results, world):
    (batch,) = batches(SingleProcess(), 1)
    assert results[1][0]["not finite"] == (["ce"], batch.indices.tolist())
    assert all(results[world][rank]["not finite"] == results[1][0]["not finite"] for rank in range(world))


@pytest.mark.parametrize("world", WORLDS)
def test_validation_works_with_more_workers_than_clips(results, world):
    expected = results[1][0]["validation of two clips"]
    assert all(results[world][rank]["validation of two clips"] == expected for rank in range(world))


@pytest.mark.parametrize("world", WORLDS)
def test_train_steps_are_those_of_one_worker(results, world):
    values, gradients, weights = results[1][0]["steps"]
    assert len(values) == 3
    for rank in range(world):
        ours, our_gradients, our_weights = results[world][rank]["steps"]
        for step, expected in zip(ours, values, strict=True):
            assert step == pytest.approx(expected, rel=1e-5)
        assert our_gradients.keys() == gradients.keys() and our_weights.keys() == weights.keys()
        assert error_of(joined(our_gradients), joined(gradients)) <= 1e-5
        assert error_of(joined(our_weights), joined(weights)) <= 1e-5


@pytest.mark.parametrize("world", WORLDS)
def test_validation_is_that_of_one_worker_and_every_worker_knows_it(results, world):
    assert len(set(results[1][0]["validation"])) > 1
    for rank in range(world):
        assert results[world][rank]["validation"] == results[1][0]["validation"]


@pytest.mark.parametrize("world", WORLDS)
def test_uneven_rows_come_in_rank_order(results, world):
    expected = torch.cat([torch.arange(20.0).view(10, 2)[rank : 2 * rank + 1] for rank in range(world)])
    assert [len(results[world][rank]["rows"]) for rank in range(world)] == [world * (world + 1) // 2] * world
    assert all(torch.equal(results[world][rank]["rows"], expected) for rank in range(world))


@pytest.mark.parametrize("world", WORLDS)
def test_the_mean_is_over_workers(results, world):
    assert all(results[world][rank]["mean"] == {"a": (world - 1) / 2, "b": 1.5} for rank in range(world))


@pytest.mark.parametrize("world", WORLDS)
def test_no_worker_leaves_a_barrier_before_the_last_one_has_come(results, world):
    came, left = zip(*(results[world][rank]["barrier"] for rank in range(world)), strict=True)
    assert max(came) - min(came) > 0.1
    assert min(left) >= max(came)


def test_one_process_has_everything():
    values = {"a": 2.0}
    mean = SingleProcess().mean(values)
    assert mean == values and mean is not values
    assert (SingleProcess().rank, SingleProcess().world_size) == (0, 1)

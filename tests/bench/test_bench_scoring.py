"""Speed of evaluation: pairs, look-ups, and the whole against episode by episode; `make bench` prints the ratios."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import ray
import torch

from hcl.assembly import arguments, models
from hcl.clips.blocks import BlockStore
from hcl.clips.episodes import sample_episodes
from hcl.config.resolve import override, resolve
from hcl.evaluation.matcher import levels_one_by_one
from hcl.evaluation.scores import accuracies, fused, look_up, score_pairs
from hcl.models.encoding import encode, features_of
from hcl.models.features import ClipFeatures, pack
from hcl.models.hcl import MatchingHeads
from tests.hcl.evaluation.test_matcher import Clips

D_MODEL, FRAMES, PATCHES = 1152, 8, 49
SIGMAS = {"global": 1.0, "temporal": 0.5, "spatial": 0.5}


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Processor time of the fastest of some runs, after one to warm up: whoever else uses the machine is left out."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


@torch.no_grad()
def features_like(labels: np.ndarray, d_model: int = D_MODEL, patches: int = PATCHES, seed: int = 0) -> ClipFeatures:
    """Features of made-up tokens: a pattern of its class in each clip, under noise."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    heads = MatchingHeads(d_model)
    pattern = torch.randn(int(labels.max()) + 1, FRAMES, 1, d_model, generator=generator)
    parts = []
    for label in labels:  # one clip at a time: the noise of all is larger than what is kept of it
        noise = torch.randn(1, FRAMES, patches, d_model, generator=generator)
        parts.append(heads(0.05 * pattern[label] + noise, rows=int(patches**0.5)))
    tensors = [(part.patches[0], part.tuples[0], part.clip) for part in parts]
    kept, tuples, clip = (torch.cat(each) for each in zip(*tensors, strict=True))
    return ClipFeatures((kept,), (tuples,), clip)


def test_pairs_against_the_matrix_product(capsys):
    """Five zoom ranks of 98 x 98 patches at d 1152 are 110 MFLOP a pair: what `torch.bmm` alone makes of them."""
    features = features_like(np.arange(48) % 4)
    query, support = features[:24], features[24:]
    left, right = torch.randn(40, 98, D_MODEL), torch.randn(40, 98, D_MODEL).transpose(1, 2)
    products = 40 / 5 / seconds(lambda: torch.bmm(left, right))
    ours = {
        precision: 24 * 24 / seconds(lambda p=precision: score_pairs(query, support, tuple_sizes=(2,), precision=p), 2)
        for precision in ("float32", "bfloat16")
    }
    single, half = ours["float32"], ours["bfloat16"]
    tell(
        capsys,
        f"pairs a second: {single:.0f} in float32, {half:.0f} in bfloat16 ({half / single:.2f}x); the batched float32 "
        f"product allows {products:.0f}: {100 * single / products:.0f}% and {100 * half / products:.0f}% of it",
    )
    assert single > 0.4 * products
    # Without tiles (AMX) a bfloat16 product is slower than a float32 one: 0.72x on an EPYC with avx512_bf16.
    assert half > single or not torch.cpu.get_capabilities().get("amx_bf16")


def test_half_precision_predicts_the_same(capsys):
    """The same episodes from both precisions, features kept in half for the second."""
    labels = np.repeat(np.arange(6), 11)
    single = features_like(labels)
    half = ClipFeatures((single.patches[0].half(),), single.tuples, single.clip)
    tables = [
        {name: x.numpy() for name, x in score_pairs(one, one, tuple_sizes=(2,), precision=precision).items()}
        for one, precision in ((single, "float32"), (half, "bfloat16"))
    ]
    for shot in (1, 5):
        episodes = sample_episodes(labels, way=5, shot=shot, queries=5, episodes=2000, seed=0)
        scores = [fused(look_up(table, episodes, metric="auto", tuple_sizes=(2,)), SIGMAS) for table in tables]
        same = (scores[0].argmax(-1) == scores[1].argmax(-1)).mean()
        accuracy = accuracies(scores[0], 5).mean()
        tell(
            capsys, f"{shot}-shot: bfloat16 predicts as float32 on {100 * same:.3f}% of queries ({accuracy:.1%} right)"
        )
        assert same >= 0.999 and 0.3 < accuracy < 0.99  # at neither end would agreement say anything


def test_looking_up(capsys):
    """10,000 episodes of each shot, drawn and answered, on a ready table of 2,400 clips."""
    generator = np.random.default_rng(0)
    names = (
        "global",
        *(f"{level}_{metric}_2" for level in ("temporal", "spatial") for metric in ("cosine", "euclidean")),
    )
    table = {name: generator.standard_normal((2400, 2400), dtype=np.float32) for name in names}
    labels = np.repeat(np.arange(24), 100)

    def answer() -> None:
        for shot in range(1, 6):
            episodes = sample_episodes(labels, way=5, shot=shot, queries=5, episodes=10_000, seed=0)
            for part in episodes.parts(1000):
                accuracies(fused(look_up(table, part, metric="auto", tuple_sizes=(2,)), SIGMAS), 5)

    took = seconds(answer, repeats=1)
    tell(capsys, f"10,000 episodes x 5 shots drawn and looked up in {took:.1f} s")
    assert took < 10


def test_the_table_against_episode_by_episode(capsys):
    """1,000 episodes at 1 and at 5 shots of 192 clips in 12 classes, frames to accuracies; metaworld_cpu at half size.

    Both ways run the same model on the same made-up clips. Episodes one by one, each of which encodes its clips again,
    are timed on some.
    """
    settings = {"clips.size": 112, "model.weights": "none", "model.cached_views": 0}
    experiment = override(resolve("metaworld_cpu").experiment, settings)
    model, matcher = models.make_model(experiment, 12).eval(), arguments.test_matcher(experiment)
    labels, sigmas = np.repeat(np.arange(12), 16), arguments.sigmas_of_fusion(experiment)
    clips = clips_like(labels, experiment.clips.size)
    lists = {s: sample_episodes(labels, way=5, shot=s, queries=5, episodes=1000, seed=0) for s in (1, 5)}

    def encoded(frames: torch.Tensor) -> ClipFeatures:
        tokens, rows = encode(model, Clips(frames), range(len(frames)))
        return features_of(model.heads, tokens, rows, project=matcher.project)

    def by_table() -> dict[int, np.ndarray]:
        features = encoded(clips)
        table = {name: x.numpy() for name, x in score_pairs(features, features, **matcher.options).items()}
        looking = arguments.looking_up(experiment)
        return {shot: accuracies(fused(look_up(table, one, **looking), sigmas), 5) for shot, one in lists.items()}

    def one_by_one(shot: int, n: int) -> np.ndarray:
        some = next(lists[shot].parts(n))
        return accuracies(fused(levels_one_by_one(some, lambda chosen: encoded(clips[chosen]), matcher), sigmas), 5)

    began = time.process_time()
    ours = by_table()
    took, naive = time.process_time() - began, 0.0
    for shot, n in ((1, 5), (5, 3)):
        began = time.process_time()
        direct = one_by_one(shot, n)
        naive += (time.process_time() - began) * 1000 / n
        np.testing.assert_allclose(ours[shot][:n], direct, atol=1e-6)
    tell(
        capsys, f"1,000 episodes at 1 and 5 shots: {took:.1f} s by table, {naive:.0f} s one by one, {naive / took:.0f}x"
    )
    assert naive > 30 * took


def clips_like(labels: np.ndarray, size: int) -> torch.Tensor:
    """Frames of noise over a pattern of their class."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.rand(int(labels.max()) + 1, 1, 3, size, size, generator=generator)
    noise = torch.rand(len(labels), FRAMES, 3, size, size, generator=generator)
    return ((0.4 * pattern[torch.from_numpy(labels)] + 0.6 * noise) * 255).to(torch.uint8)


@pytest.mark.ray
def test_two_actors_against_one(local_ray: ModuleType, capsys, tmp_path: Path):
    """Tiles of 96 clips scored by actors of one thread each, which are warm."""
    from orchestration.evaluation.tables import Table
    from orchestration.runtime.actors import map_actors

    features, table = features_like(np.arange(96) % 4), Table(tmp_path / "table", 96, {})
    store = BlockStore(tmp_path / "features", 96)
    for start, stop in store.missing():
        store.write(start, {name: values[None].numpy() for name, values in pack(features[start:stop]).items()})
    rates = {}
    for n_actors in (1, 2):
        actors = [ray.remote(_Tiles).options(num_cpus=1).remote(store) for _ in range(n_actors)]
        ray.get([actor.score.remote(table.tiles()[0]) for actor in actors])
        spare = list(actors)
        began = time.perf_counter()
        tiles = [tile for tile, _ in map_actors(spare.pop, table.tiles(), _call, n_actors=n_actors)]
        rates[n_actors] = sum(tile.n_pairs for tile in tiles) / (time.perf_counter() - began)
    ratio = rates[2] / rates[1]
    tell(
        capsys,
        f"pairs a second: {rates[1]:.0f} by one actor, {rates[2]:.0f} by two: {ratio:.2f}x on {os.cpu_count()} cores",
    )
    assert ratio >= 1.7


class _Tiles:
    def __init__(self, store: BlockStore):
        torch.set_num_threads(1)
        self.store = store

    def score(self, tile: Any) -> None:
        from hcl.models.features import unpack

        query = unpack(self.store.read(tile.row, tile.row_end))
        score_pairs(query, unpack(self.store.read(tile.column, tile.column_end)), tuple_sizes=(2,))


def _call(actor: Any, tile: Any) -> Any:
    return actor.score.remote(tile)

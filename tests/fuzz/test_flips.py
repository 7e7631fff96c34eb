"""Test that after a bit flip a file reads as written, is refused, or is created again."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import results
from hcl.clips.blocks import BlockStore
from hcl.clips.episode_files import EpisodeList, read_episodes, write_episodes
from hcl.clips.episodes import sample_episodes
from hcl.clips.grids import GridStore
from hcl.datasets.embeddings import ClassEmbeddings, read_embeddings, write_embeddings
from hcl.datasets.manifest import VideoRecord, append_record, read_manifest, write_manifest
from hcl.datasets.splits import Partition, Video
from hcl.errors import HCLError
from hcl.files.arrays import load_arrays, save_arrays
from hcl.files.json_files import read_json, write_checked_json
from hcl.frames.effective import read_effective, write_effective
from hcl.frames.shards import packed_videos, write_shard
from hcl.frames.store import FrameStore
from hcl.models.checkpoint import load_checkpoint, save_checkpoint
from hcl.videos.jpegs import frame_checksum, frames_digest
from orchestration.sweeps.fused_trials import FusedTrial, write_fused
from results import RecordError
from results.records.outcomes import Outcomes, Questions, read_outcomes, write_outcomes
from tests.fuzz.hostile import OURS
from tests.orchestration.sweeps.stub_trials import stub_study

_N_FLIPS = int(os.environ.get("HCL_FUZZ_EXAMPLES", "150"))
CLASSES = ("ant", "bee")
PARTITION = Partition("made", "test", CLASSES, tuple(Video(one, f"v{n}") for one in CLASSES for n in range(3)))

Made = tuple[list[Path], Callable[[], Any]]
"""Files, and a function that reads all of them."""


def checkpoint(folder: Path) -> Made:
    model = nn.Linear(7, 5)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 7)).sum().backward()
    optimizer.step()
    state = {"epoch": 3, "best": {"val_accuracy": 0.319}, "optimizer": optimizer.state_dict(), "classes": ["a", "b"]}
    save_checkpoint(folder / "last.pt", model=model, state=state)
    return [folder / "last.pt"], lambda: load_checkpoint(folder / "last.pt")


def features(folder: Path) -> Made:
    values = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    BlockStore(folder, 3).write(0, {"clip": values, "patches-0": values.astype(np.float16)})
    files = [folder / "clips-0" / name for name in ("clip.npy", "patches-0.npy", "whole")]
    return files, lambda: [
        BlockStore(folder, 3).read(0, 3, view) | BlockStore(folder, 3).take([2, 0], view) for view in (0, 1)
    ]


def grids(folder: Path) -> Made:
    GridStore(folder, 3).write(0, np.random.default_rng(0).normal(size=(2, 3, 2, 3, 1, 1)).astype(np.float16))
    files = [folder / "clips-0" / name for name in ("grids.npy", "whole")]
    return files, lambda: [GridStore(folder, 3).read(clip, view) for clip in range(3) for view in (0, 1)]


def table(folder: Path) -> Made:
    save_arrays(folder / "key.npz", {"global": np.random.default_rng(0).normal(size=(5, 5)), "meaning": np.array("{}")})
    return [folder / "key.npz"], lambda: load_arrays(folder / "key.npz", remedy="r")


def embeddings(folder: Path) -> Made:
    vectors = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)
    write_embeddings(folder / "made.npz", ClassEmbeddings(CLASSES, CLASSES, vectors, "model"))
    return [folder / "made.npz"], lambda: read_embeddings(folder / "made.npz", CLASSES, dataset="made", dim=7)


def episodes(folder: Path) -> Made:
    drawn = sample_episodes(PARTITION.labels, way=2, shot=1, queries=1, episodes=9, seed=1, class_names=CLASSES)
    write_episodes(folder / "asked.npz", [EpisodeList.of(PARTITION, drawn, seed=1)])

    def read() -> Any:
        [one] = read_episodes(folder / "asked.npz")
        return one.dataset, one.partition, one.videos, one.seed, one.episodes.digest()

    return [folder / "asked.npz"], read


def answers(folder: Path) -> Made:
    questions = Questions(
        "d1", CLASSES, np.array([[0, 1]] * 4), np.arange(8).reshape(4, 2, 1), np.arange(24).reshape(4, 2, 3)
    )
    outcomes = Outcomes(questions, np.random.default_rng(0).integers(0, 2, (4, 2, 3)).astype(np.uint8))
    write_outcomes(folder / "cell.json", outcomes)

    def read() -> Any:
        found = read_outcomes(folder / "cell.json", "d1", float(outcomes.accuracies.mean()))
        assert found is not None
        return found.answers, found.questions.classes, found.questions.query, found.questions.class_names

    return [folder / "cell.npz", folder / "episodes-d1.npz"], read


def metrics(folder: Path) -> Made:
    for epoch in (1, 2, 3):
        results.append_epoch(folder, {"epoch": epoch, "val_accuracy": 0.1 * epoch, "loss_total": 2.5 - epoch})
    return [folder / "metrics.parquet"], lambda: results.read_epochs(folder)


def trials(folder: Path) -> Made:
    sweep = results.SweepRecord(name="s", space={}, objective="val_accuracy", best_value=0.25)
    found = [results.TrialRecord(trial=f"trial-{n}", params={"loss.sigma_ce": n / 7}, value=n / 9) for n in range(3)]
    results.write_sweep(folder, sweep, found)
    return [folder / "sweep.json", folder / "trials.parquet"], lambda: (
        results.read_sweep(folder),
        results.read_trials(folder),
    )


def records(folder: Path) -> Made:
    record = results.EvaluationRecord(
        run="r", method="hcl", train_dataset="a", dataset="a", partition="test", way=5, shot=1, queries=1, episodes=9,
        seed=1, accuracy=0.319, ci95=0.004, levels={"global": 0.25},
    )  # fmt: skip
    path = results.write_evaluation(folder, record)
    results.write_provenance(folder, results.Provenance(command="hcl train", digests={"experiment": "ab12"}))
    return [path, folder / "provenance.json"], lambda: (
        results.read_evaluation(path),
        results.read_provenance(folder),
    )


def effective_split(folder: Path) -> Made:
    other = Partition("made", "val", CLASSES, tuple(Video(one, f"w{n}") for one in CLASSES for n in range(3)))
    left_out = {PARTITION.videos[0]: "no frames", other.videos[2]: "cut off"}
    checked = [
        (one, {video: left_out[video] for video in one.videos if video in left_out}, {}) for one in (PARTITION, other)
    ]
    path = write_effective(folder / "effective.json", checked)
    return [path], lambda: read_effective(path, "made")


def fused_trials(folder: Path) -> Made:
    study = stub_study(folder, folder, 1)
    found = [FusedTrial(f"trial-{n}", n / 7, n / 6, n / 8, {"fusion.sigma_global": n / 9}) for n in range(3)]
    path = write_fused(study, found)
    return [path], lambda: read_json(path, remedy="r")["trials"]


def confirmation(folder: Path) -> Made:
    path = folder / "confirmation.json"
    write_checked_json(path, {"runs": {f"trial-0000-seed-{n}": {"value": n / 7, "error": None} for n in range(3)}})
    return [path], lambda: read_json(path, remedy="r")["runs"]


def _frames(number: int) -> list[bytes]:
    return [bytes([number, frame]) * 40 for frame in range(3)]


def shard(folder: Path) -> Made:
    path = folder / "shard-00000.tar"
    write_shard(path, [(video, _frames(number)) for number, video in enumerate(PARTITION.videos[:3])])
    return [path], lambda: {key: packed.read() for key, packed in packed_videos(folder).items()}


def manifest(folder: Path) -> Made:
    written = [VideoRecord("ant", f"v{n}", "ok", 3, width=64, height=48, digest=f"d{n}") for n in range(3)]
    write_manifest(folder, written)
    append_record(folder, VideoRecord("bee", "v0", "broken", error="cut off"))
    known = {record.key: record for record in read_manifest(folder).values()}

    def read() -> Any:
        found = read_manifest(folder)
        return known if found.items() <= known.items() and len(found) >= 3 else found  # a torn line is redone

    return [folder / "manifest.parquet", folder / "manifest.jsonl"], read


def folders(folder: Path) -> Made:
    import cv2

    pictures = np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), np.uint8)
    encoded = [cv2.imencode(".jpg", one)[1].tobytes() for one in pictures]
    video = Video("ant", "v0")
    (folder / video.key).mkdir(parents=True)
    files = [folder / video.key / f"{index}.jpg" for index in range(3)]
    for file, content in zip(files, encoded, strict=True):
        file.write_bytes(content)
    sums = "".join(map(frame_checksum, encoded))
    record = VideoRecord("ant", "v0", "ok", 3, width=24, height=16, digest=frames_digest(encoded), checksums=sums)
    write_manifest(folder, [record])
    return files, lambda: FrameStore(folder).read(video, [2, 0, 1])


KINDS = [
    *(checkpoint, features, grids, table, embeddings, episodes, answers, metrics, trials, records, shard, manifest),
    *(folders, effective_split, fused_trials, confirmation),
]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore")
def test_a_bit_that_turns_over_changes_nothing_unseen(kind: Callable[[Path], Made], tmp_path: Path) -> None:
    torch.manual_seed(0)
    files, read = kind(tmp_path)
    expected, n_refused = read(), 0
    for file, content in _flips(files, random.Random(kind.__name__)):
        whole = file.read_bytes()
        file.write_bytes(content)
        try:
            assert same(expected, read()), file.name
        except OURS:
            n_refused += 1
        file.write_bytes(whole)
    assert same(expected, read())
    assert n_refused > _N_FLIPS // 16, "many bits of these files mean something; of a tar's headers few do"


def _flips(files: list[Path], chosen: random.Random) -> Iterator[tuple[Path, bytes]]:
    """Return fixed positions of flips, half of them near a file's ends, which hold its directories."""
    for number in range(_N_FLIPS):
        file = files[number % len(files)]
        content = bytearray(file.read_bytes())
        at = chosen.randrange(len(content))
        if number % 4 == 0:
            at = max(0, len(content) - 1 - chosen.randrange(600))
        elif number % 4 == 1:
            at = min(len(content) - 1, chosen.randrange(200))
        content[at] ^= 1 << chosen.randrange(8)
        yield file, bytes(content)


@pytest.mark.parametrize(
    "kind",
    [features, metrics, trials, records, manifest, folders, effective_split, fused_trials, confirmation],
    ids=lambda kind: kind.__name__,
)
def test_files_of_older_versions_have_no_checksums_and_are_read(
    kind: Callable[[Path], Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    import pyarrow.parquet as pq

    files, read = kind(tmp_path)
    expected = read()
    for file in [*files, tmp_path / "manifest.parquet"]:
        if file.name == "whole":
            file.write_bytes(b"")
        elif file.suffix == ".json":
            content = json.loads(file.read_text())
            assert content.pop("crc32")
            file.write_text(json.dumps(content))
        elif file.suffix == ".parquet" and file.exists():
            old = pq.read_table(file).replace_schema_metadata(None)
            pq.write_table(old.drop_columns(["checksums"]) if "checksums" in old.column_names else old, file)
        elif file.suffix == ".jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            assert all(line.pop("crc32") for line in lines)
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert same(expected, read())


def test_errors_name_the_file(tmp_path: Path) -> None:
    files, read = metrics(tmp_path)
    content = bytearray(files[0].read_bytes())
    content[content.index(b"val_accuracy")] ^= 1  # parquet's own checksums do not cover the names of columns
    files[0].write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read()
    assert str(files[0]) in str(caught.value)
    files, read = features(tmp_path / "features")
    content = bytearray(files[0].read_bytes())
    content[-3] ^= 16
    files[0].write_bytes(content)
    with pytest.raises(
        HCLError, match="clips-0: cannot be read: clip.npy is not what was written: the checksum of clip"
    ):
        read()

"""Every kind of file that is written meets a full disk: one kind of error that names the file, and nothing left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import results
from hcl.clips.blocks import BlockStore
from hcl.clips.episode_files import EpisodeList, write_episodes
from hcl.clips.episodes import sample_episodes
from hcl.clips.grids import GridStore
from hcl.datasets.embeddings import ClassEmbeddings, write_embeddings
from hcl.datasets.manifest import VideoRecord, append_record, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import StorageError
from hcl.files.arrays import save_arrays
from hcl.frames.effective import write_effective
from hcl.models.checkpoint import save_checkpoint
from hcl.synthetic.benchmark import _write_text
from orchestration.evaluation import outcomes
from orchestration.evaluation.drawing import write_picture
from orchestration.reports.recorded import Recorded
from orchestration.reports.report import make_report
from orchestration.reports.reproduce import _claim
from orchestration.storage import record_files
from orchestration.storage.claims import claimed
from orchestration.storage.locks import held
from orchestration.storage.record_files import storing_records
from orchestration.sweeps.confirm import _Again
from orchestration.sweeps.fused_trials import FusedTrial, write_fused
from orchestration.sweeps.study import open_folder
from orchestration.sweeps.sweep import write_best
from orchestration.sweeps.trial import _write_down
from orchestration.training.release_import import import_published
from orchestration.training.run import write_fusion
from results.exports.exporting import export
from results.records.explanations import ExplanationRecord, write_explanation
from results.records.outcomes import Outcomes, Questions
from tests.orchestration.conftest import Command, prepare, tiny_experiment, tree
from tests.orchestration.storage.conftest import Disk
from tests.orchestration.sweeps.stub_trials import stub_study
from tests.orchestration.training.test_release_import import RELEASED, released_state

CLASSES = ("ant", "bee")
PARTITION = Partition("made", "test", CLASSES, tuple(Video(one, f"v{n}") for one in CLASSES for n in range(3)))
RECORD = results.EvaluationRecord(
    run="r", method="hcl", train_dataset="a", dataset="a", partition="test", way=2, shot=1, queries=3, episodes=4,
    seed=1, accuracy=0.5, ci95=0.004,
)  # fmt: skip
VALUES = np.arange(60, dtype=np.float32).reshape(2, 2, 15)


def _outcomes() -> Outcomes:
    questions = Questions(
        "d1", CLASSES, np.array([[0, 1]] * 4), np.arange(8).reshape(4, 2, 1), np.arange(24).reshape(4, 2, 3)
    )
    return Outcomes(questions, np.zeros((4, 2, 3), np.uint8))


def _episodes() -> list[EpisodeList]:
    drawn = sample_episodes(PARTITION.labels, way=2, shot=1, queries=1, episodes=9, seed=1, class_names=CLASSES)
    return [EpisodeList.of(PARTITION, drawn, seed=1)]


def _trial(name: str = "trial-0000") -> results.TrialRecord:
    return results.TrialRecord(trial=name, params={"loss.sigma_temporal": 1.0}, value=0.5)


def _explain(folder: Path) -> None:
    with storing_records():
        write_explanation(folder / "q.json", ExplanationRecord(query="ant/v0", scores={"ant": 1.0}), b"RIFF")


def _export(folder: Path, runs: Path) -> None:
    with storing_records():
        export(results.load(runs), folder / "export", "csv")


def _hold(folder: Path) -> None:
    with held(folder / "lock", what="a test"):
        raise AssertionError("there is no room to say who holds it")


def _claim_file(folder: Path) -> None:
    with claimed(folder / "claim"):
        raise AssertionError("there is no room for a claim")


def _log_of_a_trial(folder: Path) -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        if fault := _write_down(folder):
            raise fault from None


def _confirm(folder: Path, data_root: Path) -> None:
    again = _Again(stub_study(data_root, folder, 1), [_trial()], [1], retry_failed=False)
    given = again.ask()
    assert given is not None
    again.finish(given.name, [0.5])


FILES: dict[str, Callable[[Path, Path, Path], Any]] = {
    "checkpoint": lambda to, data, runs: save_checkpoint(to / "last.pt", model=nn.Linear(7, 5), state={"epoch": 1}),
    "arrays": lambda to, data, runs: save_arrays(to / "key.npz", {"global": VALUES}),
    "block of features": lambda to, data, runs: BlockStore(to, 2).write(0, {"clip": VALUES}),
    "meaning of grids": lambda to, data, runs: GridStore(to, 2).finish({"of": "nothing"}),
    "embeddings": lambda to, data, runs: write_embeddings(
        to / "made.npz", ClassEmbeddings(CLASSES, CLASSES, VALUES[0], "model")
    ),
    "episodes": lambda to, data, runs: write_episodes(to / "asked.npz", _episodes()),
    "split": lambda to, data, runs: write_split(to, "made", {"test": PARTITION}),
    "effective split": lambda to, data, runs: write_effective(
        to / "splits" / "made" / "effective.json", [(PARTITION, {}, {})]
    ),
    "manifest": lambda to, data, runs: write_manifest(to, [VideoRecord("ant", "v0", "ok", 3)]),
    "journal of the manifest": lambda to, data, runs: append_record(to, VideoRecord("ant", "v0", "ok", 3)),
    "list of a synthetic split": lambda to, data, runs: _write_text(to / "test.list", "ant/v0\n"),
    "epochs": lambda to, data, runs: record_files.write_epochs(to, [{"epoch": 1, "val_accuracy": 0.5}]),
    "provenance": lambda to, data, runs: record_files.write_provenance(to, results.Provenance(command="hcl train")),
    "sweep": lambda to, data, runs: record_files.write_sweep(
        to, results.SweepRecord(name="s", space={}, objective="val_accuracy"), [_trial()]
    ),
    "evaluation": lambda to, data, runs: record_files.write_evaluation(to, RECORD),
    "answers": lambda to, data, runs: outcomes.write(to, RECORD, _outcomes()),
    "explanation": lambda to, data, runs: _explain(to),
    "picture": lambda to, data, runs: write_picture(to / "q.png", np.zeros((9, 9, 3), np.uint8)),
    "report": lambda to, data, runs: make_report([runs], to / "report"),
    "export": lambda to, data, runs: _export(to, runs),
    "mark of a reproduction": lambda to, data, runs: _claim(
        Recorded(runs / "one", tiny_experiment(), frozenset(), None, {}), to / "again"
    ),
    "settings of a run": lambda to, data, runs: prepare(tiny_experiment(), data_root=data, runs=to),
    "fusion": lambda to, data, runs: write_fusion(to, {"fusion.sigma_global": 1.0}, "here"),
    "imported run": lambda to, data, runs: import_published(
        runs / "released.pth", released_settings(), to / "released"
    ),
    "study": lambda to, data, runs: open_folder(stub_study(data, to, 1)),
    "best trial": lambda to, data, runs: write_best(stub_study(data, to, 1), tiny_experiment()),
    "confirmation": lambda to, data, runs: _confirm(to, data),
    "fused trials": lambda to, data, runs: write_fused(
        stub_study(data, to, 1), [FusedTrial("trial-0000", 0.5, 0.6, 0.5, {})]
    ),
    "log of a trial": lambda to, data, runs: _log_of_a_trial(to),
    "journal of a study": lambda to, data, runs: stub_study(data, to, 1).ledger(),
    "lock": lambda to, data, runs: _hold(to),
    "claim": lambda to, data, runs: _claim_file(to),
}


def released_settings() -> Any:
    from hcl.config.resolve import resolve

    return resolve(None, RELEASED).experiment


@pytest.mark.parametrize("kind", FILES)
def test_a_full_disk_is_one_kind_of_error_and_leaves_nothing(
    kind: str, disk: Disk, data_root: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    results.write_epochs(runs / "one", [{"epoch": 1, "val_accuracy": 0.5}])
    torch.save(released_state(), runs / "released.pth")
    disk.mount(100_000)
    disk.fill()
    before = tree(disk.folder)
    with pytest.raises(StorageError, match="cannot be written: No space left on device") as caught:
        FILES[kind](disk.folder, data_root, runs)
    assert str(caught.value.where).startswith(str(disk.folder)) and "free space" in str(caught.value.remedy)
    assert "partial" not in str(caught.value.where)
    after = {name: content for name, content in tree(disk.folder).items() if content}
    assert after == before
    assert [path for path in disk.folder.rglob("*") if path.name.startswith(".")] == []


def test_a_cluster_descriptor_that_cannot_be_written_is_told(hcl: Command, disk: Disk) -> None:
    disk.mount(100_000)
    disk.fill()
    code, _, told = hcl("cluster", "render", "laptop", "--cpus", "1x2", "--to", disk.folder / "start.sh")
    assert code == 1 and "cannot be written: No space left on device" in told
    assert list(tree(disk.folder)) == ["filler"]

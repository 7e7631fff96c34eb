"""Test that mistakes of users end in one message with a place and a remedy, without a traceback or new files."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from hcl.assembly.experiment_files import to_yaml
from hcl.frames.store import FrameStore
from orchestration.runtime import connect
from orchestration.training.run import Run
from orchestration.training.run_files import BEST, LAST, PREVIOUS
from tests.orchestration.conftest import Command, Outcome, tiny_experiment, tree, write_data


@pytest.fixture
def place(data_root: Path, experiment_file: Path, tmp_path: Path) -> Path:
    """Make a working folder with tiny.yaml, the data, a regular file, and wrong files."""
    (tmp_path / "data").symlink_to(data_root)
    (tmp_path / "file").write_text("a file where a folder should be")
    (tmp_path / "torn.yaml").write_text("train: {epochs: 3\n")
    (tmp_path / "list.yaml").write_text("- train\n")
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (tmp_path / "circle.yaml").write_text("base: circle.yaml\n")
    (tmp_path / "code.yaml").write_text("name: !!python/object/apply:os.system [touch pwned]\n")
    space = "name: mine\nabout: x\nparameters:\n  {}\n"
    for name, line in {
        "typo": "loss.sigma_cee: {type: float, low: 0, high: 1}",
        "kind": "loss.sigma_ce: {type: flaot, low: 0, high: 1}",
        "range": "loss.sigma_ce: {type: float, low: 2, high: 1}",
        "bound": "optim.lr: {type: float, low: 0, high: 1}",
        "batch": "train.classes_per_batch: {type: choice, values: [4, 8]}",
        "frozen": "clips.jitter: {type: float, low: 0.0, high: 1.0}",
    }.items():
        (tmp_path / f"space_{name}.yaml").write_text(space.format(line))
    metric = "objective: {metric: accuracy}\nparameters:\n  loss.sigma_ce: {type: float, low: 0, high: 1}\n"
    (tmp_path / "space_metric.yaml").write_text(f"name: mine\nabout: x\n{metric}")
    return tmp_path


def assert_one_message(outcome: Outcome, code: int, *texts: str) -> None:
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err + outcome.out
    assert outcome.err.count("error") >= 1
    is_progress = re.compile(r"encode .* clips")
    lines = [line for line in outcome.err.splitlines() if line.strip() and not is_progress.match(line)]
    assert lines[0].startswith("error ") and lines[1].startswith("  -> "), outcome.err
    for text in texts:
        assert text in outcome.err, outcome.err


TRAIN, SWEEP = "train tiny.yaml --data data", "sweep tiny.yaml --data data"

CASES: list[tuple[str, int, tuple[str, ...]]] = [
    # no data, or data that contradict themselves
    ("train tiny.yaml --data nowhere", 1, ("nowhere/splits/toy/train_class.txt", "check the data root")),
    (f"{TRAIN} --set data.dataset=tyo", 1, ("splits/tyo/train_class.txt", "name of the dataset")),
    (f"{TRAIN} --set data.dataset=../toy", 1, ("'../toy' cannot be a folder", "no slash")),
    ("sweep tiny.yaml --data nowhere", 1, ("nowhere/splits/toy/train_class.txt",)),
    ("sweep tiny.yaml --data nowhere --dry-run", 1, ("nowhere/splits/toy/train_class.txt",)),
    ("extract toy --data nowhere", 1, ("nowhere/videos/toy: holds no videos",)),
    ("extract ../toy --data data", 1, ("'../toy' cannot be a folder",)),
    # settings
    (f"{TRAIN} --set train.epoch=3", 2, ("unknown setting `train.epoch`, did you mean `epochs`?", "settings of train")),
    (f"{TRAIN} --set epochs=3", 2, ("did you mean `train.epochs`?",)),
    (f"{TRAIN} --set train.epochs", 2, ("`train.epochs` is not PATH=VALUE", "write it as")),
    (f"{TRAIN} --set train.epochs=0", 2, ("train.epochs: got 0, expected a whole number, at least 1",)),
    (f"{TRAIN} --set matching.metric=manhattan", 2, ("got 'manhattan', expected one of auto, cosine, euclidean",)),
    (f"{TRAIN} --workers 3", 2, ("classes_per_batch=4 cannot be shared evenly by workers=3", "train.workers")),
    (f"{TRAIN} --set data.selection_partition=test", 2, ("classes it must not see", "change one of")),
    (f"{TRAIN} --set name=../up", 2, ("name: got '../up'",)),
    # episodes and batches that the data cannot provide
    (f"{TRAIN} --set evaluation.queries=9", 1, ("class 'eel' has 5 clips, an episode needs 10", "fewer shots")),
    (f"{TRAIN} --set evaluation.way=9", 1, ("9 classes cannot be drawn from 3 classes", "at most 3")),
    (f"{TRAIN} --set train.classes_per_batch=12", 1, ("12 classes cannot be drawn from 4", "at most 4")),
    # files
    ("train torn.yaml --data data", 2, ("torn.yaml: not valid YAML at line", "correct it")),
    ("train list.yaml --data data", 2, ("list.yaml: holds a list, expected a mapping", "hcl config show")),
    ("train twice.yaml --data data", 2, ("the key `seed` is given twice",)),
    ("train code.yaml --data data", 2, ("code.yaml: not valid YAML",)),
    ("train none.yaml --data data", 2, ("none.yaml: no such file", "check the path")),
    ("train demmo --data data", 2, ("no shipped experiment `demmo`, did you mean `demo`?", "shipped: demo")),
    # spaces
    (f"{SWEEP} --space simga", 2, ("no space 'simga'; did you mean 'sigma'?", "name one of")),
    (f"{SWEEP} --space none.yaml", 2, ("none.yaml: no such file", "name one of")),
    (f"{SWEEP} --space space_typo.yaml", 2, ("parameters.loss.sigma_cee: unknown setting", "did you mean `sigma_ce`?")),
    (f"{SWEEP} --space space_kind.yaml", 2, ("unknown type 'flaot'; did you mean 'float'?",)),
    (f"{SWEEP} --space space_range.yaml", 2, ("low must be smaller than high",)),
    (f"{SWEEP} --space space_bound.yaml", 2, ("optim.lr: got 0", "expected a number, above 0")),
    (f"{SWEEP} --space space_batch.yaml", 1, ("8 classes cannot be drawn from 4 classes", "at most 4")),
    (f"{SWEEP} --space space_frozen.yaml", 2, ("clips.jitter: has more values than grids", "model.cached_views=0")),
    (f"{SWEEP} --space space_metric.yaml", 2, ("trials do not report 'accuracy'", "val_accuracy")),
    # places that cannot be written: a file is in the way, which stops even root
    (f"{TRAIN} --runs file", 1, ("file/.tiny.lock: cannot be written", "--runs")),
    (f"{SWEEP} --runs file/deeper", 1, ("deeper/.tiny.lock: cannot be written: Not a directory", "--runs")),
    ("data synth --data file/x --videos-per-class 2", 1, ("file/x: the benchmark cannot be written", "may write")),
    # Ray
    (f"{TRAIN} --address here", 1, ("here: is not an address", "host:port")),
    (f"{TRAIN} --address 127.0.0.1:1", 1, ("127.0.0.1:1: nothing answers there", "check that the cluster runs")),
    # runs
    ("evaluate nowhere --data data", 2, ("nowhere: is not a run: it has no experiment.yaml", "hcl train")),
    ("report nowhere", 2, ("nowhere: is not a run", "hcl train")),
    ("report 'no*where'", 1, ("no*where: does not exist or matches nothing", "give a run")),
    ("evaluate nowhere --method hlc", 2, ("unknown method 'hlc'", "one of hcl, untrained")),
    ("data synth --domain plian", 2, ("unknown domain 'plian'", "one of plain")),
    ("data metaworld --class dor_open", 2, ("unknown class 'dor_open'", "one of assembly")),
    ("data metaworld --data file/x", 1, ("cannot be written", "file/x")),
    ("data synth --size 33", 2, ("got 33", "even")),
]


_OF_STARTED = ("experiment.yaml", "provenance.json", "data_root.json", "failed.json")


@pytest.mark.parametrize(("command", "code", "texts"), CASES, ids=[case[0] for case in CASES])
def test_a_mistake_ends_in_one_message_and_leaves_nothing_half_written(
    command: str, code: int, texts: tuple[str, ...], place: Path, hcl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect.ray, "is_initialized", lambda: False)  # of another test's Ray
    monkeypatch.setattr(connect.ray, "init", lambda *_, **__: pytest.fail("Ray must not be started"))
    before = tree(place)
    outcome = hcl(*shlex.split(command))
    assert_one_message(outcome, code, *texts)
    after = tree(place)
    left = set(after) - set(before)
    if "--address" in command:  # the run waits for its cluster, and the same command resumes it
        assert left == {f"runs/tiny/{name}" for name in _OF_STARTED}
        assert "stopped" not in hcl("status", "tiny").out, "the reason is kept in failed.json"
    else:
        assert left == set()
        assert not (place / "runs").exists() or not any((place / "runs").iterdir())
    assert {name: after[name] for name in before} == before


def test_ray_that_cannot_be_started_is_told_with_its_reason(
    place: Path, hcl: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise OSError("no space left in /dev/shm")

    monkeypatch.setattr(connect.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connect.ray, "init", no_room)
    monkeypatch.setattr(connect.ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for command in (TRAIN, SWEEP):
        outcome = hcl(*command.split(), "--set", f"name={command.split()[0]}")
        assert_one_message(outcome, 1, "Ray cannot be started: no space left in /dev/shm", "/tmp and /dev/shm")
    assert not list((place / "runs").rglob("checkpoints"))


@pytest.mark.parametrize(("partition", "other"), [("val", "train"), ("test", "train"), ("test", "val")])
def test_partitions_that_share_a_class(partition: str, other: str, place: Path, hcl: Command) -> None:
    (place / "data").unlink()
    splits = write_data(place / "data", ("toy",)) / "splits" / "toy"
    for ending in ("_class.txt", ".list"):
        first = splits / f"{partition}{ending}"
        lines = (splits / f"{other}{ending}").read_text().splitlines()
        first.write_text(first.read_text() + "".join(f"{line}\n" for line in lines if line.startswith(lines[0][:3])))
    outcome = hcl(*TRAIN.split())
    assert_one_message(outcome, 1, f"partitions {other} and {partition} share 1 classes", "leave each class in one")
    assert not (place / "runs").exists()


def test_frames_that_are_missing(place: Path, hcl: Command) -> None:
    (place / "data").unlink()
    images = write_data(place / "data", ("toy",)) / "images" / "toy"
    for name in ("ant/ant_0", "bee/bee_1"):
        shutil.rmtree(images / name)
    assert FrameStore(images)
    outcome = hcl(*TRAIN.split())
    assert_one_message(
        outcome, 1, "2 of 20 videos of toy train have no frames: 'ant/ant_0', 'bee/bee_1'", "hcl extract toy"
    )
    assert not (place / "runs").exists()


def a_run(place: Path, trained: Run, name: str = "tiny") -> Path:
    folder = place / "runs" / name
    shutil.copytree(trained.folder, folder)
    if not (place / "runs" / "cache").exists():
        shutil.copytree(trained.runs / "cache" / "grids", place / "runs" / "cache" / "grids")
    return folder


@pytest.mark.ray
def test_a_checkpoint_of_another_shape(place: Path, hcl: Command, trained: Run, data_root: Path) -> None:
    folder = a_run(place, trained)
    (folder / "experiment.yaml").write_text(to_yaml(tiny_experiment(model__d_model=32)))
    outcome = hcl("evaluate", "tiny", "--data", "data")
    assert_one_message(outcome, 1, f"{BEST}: does not fit the model", "experiment.yaml beside checkpoints/")
    assert not (folder / "evaluation").exists()
    assert not list((place / "runs" / "cache" / "scores").glob("*.npz"))


@pytest.mark.ray
def test_checkpoints_that_are_damaged_or_gone(place: Path, hcl: Command, trained: Run) -> None:
    folder = a_run(place, trained)
    content = bytearray((folder / BEST).read_bytes())
    content[len(content) // 2] ^= 8
    (folder / BEST).write_bytes(content)
    outcome = hcl("evaluate", "tiny", "--data", "data")  # before Ray is asked for anything
    assert_one_message(outcome, 1, f"{BEST}: cannot be read: it is damaged (Bad CRC-32", "checkpoints/last.pt")
    (folder / LAST).write_bytes(b"PK torn")
    (folder / PREVIOUS).write_bytes(b"PK torn too")
    (folder / BEST).unlink()
    outcome = hcl("train", "runs/tiny/experiment.yaml", "--data", "data")
    assert_one_message(outcome, 1, f"{LAST}: cannot be read: it is damaged", "trained 3 epochs", PREVIOUS, "--restart")
    assert (folder / LAST).read_bytes() == b"PK torn"
    outcome = hcl("evaluate", "tiny", "--data", "data")
    assert_one_message(outcome, 1, f"{BEST}: no such file", "hcl train")
    assert not (folder / "evaluation").exists()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("options", "code", "texts"),
    [
        ("--set model.d_model=32", 2, ("would evaluate another model than the trained one",)),
        ("--set evaluation.shots=[1,4]", 1, ("class 'hen' has 5 clips, an episode needs 6", "fewer shots")),
        ("--dataset tyo", 1, ("splits/tyo/test_class.txt", "name of the dataset")),
        ("--dataset ../toy", 1, ("'../toy' cannot be a folder",)),
        ("--set evaluation.shots=[0]", 2, ("evaluation.shots", "at least 1")),
        ("--method hlc", 2, ("unknown method 'hlc'",)),
    ],
)
def test_a_run_asked_for_what_it_cannot_answer(
    options: str, code: int, texts: tuple[str, ...], place: Path, hcl: Command, trained: Run
) -> None:
    folder = a_run(place, trained)
    before = tree(folder)
    assert_one_message(hcl("evaluate", "tiny", "--data", "data", *options.split()), code, *texts)
    assert tree(folder) == before


@pytest.mark.ray
def test_runs_and_studies_do_not_share_a_folder(place: Path, hcl: Command, trained: Run) -> None:
    folder = a_run(place, trained)
    before = tree(folder)
    for restart in ((), ("--restart",)):
        outcome = hcl(*SWEEP.split(), *restart)
        assert_one_message(outcome, 2, "runs/tiny: holds a run, not a study", "name=")
        assert tree(folder) == before
    (place / "runs" / "study").mkdir()
    (place / "runs" / "study" / "study.yaml").write_text("experiment: x\n")
    for restart in ((), ("--restart",)):
        outcome = hcl(*TRAIN.split(), "--set", "name=study", *restart)
        assert_one_message(outcome, 2, "runs/study: holds a study, not a run", "name=")
    assert list(tree(place / "runs" / "study")) == ["study.yaml"]


@pytest.mark.ray
def test_a_run_with_other_settings(place: Path, hcl: Command, trained: Run) -> None:
    folder = a_run(place, trained)
    before = tree(folder)
    outcome = hcl("train", "runs/tiny/experiment.yaml", "--data", "data", "--set", "optim.lr=0.5")
    assert_one_message(outcome, 2, "optim.lr 0.001 there, 0.5 now (1 differences)", "--restart")
    assert tree(folder) == before

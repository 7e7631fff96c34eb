"""Test `hcl reproduce` on a run of two epochs that is trained and evaluated in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import results
from hcl.assembly.experiment_files import load_resolved, to_yaml
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation import evaluate as evaluating
from orchestration.evaluation import scorer, scoring
from orchestration.evaluation.evaluate import evaluate
from orchestration.evaluation.questions import Target, questions_of
from orchestration.evaluation.targets import evaluation_settings
from orchestration.reports import reproduce as reproducing
from orchestration.reports.recorded import read_recorded, target_of
from orchestration.training import grids
from orchestration.training.run import Run
from orchestration.training.run_files import BEST
from orchestration.training.train import data_digests
from orchestration.training.worker import run_epochs
from tests.orchestration.conftest import Command, prepare, tiny_experiment, tree, write_data
from tests.orchestration.inline import without_ray

SHOTS = (1, 3)


def train_here(experiment: Experiment, *, data: DataRoot, runs: Path, **_: Any) -> Run:
    """Train as `hcl train` does, without Ray."""
    run = prepare(experiment, data_root=data.path, runs=runs)
    digests = {"experiment": experiment.digest(), **data_digests(run)}
    origin = results.collect_provenance("hcl train tiny.yaml", digests=digests)
    results.write_provenance(run.folder, origin)
    run_epochs(run)
    return run


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        without_ray(patched, evaluating, grids, reproducing, scorer, scoring)
        patched.setattr(reproducing, "train", train_here)
        yield


@pytest.fixture(scope="module")
def made(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run, and evaluate it by two methods with other episodes than its own settings sample."""
    experiment = tiny_experiment(model__train_backbone=True)
    run = train_here(experiment, data=DataRoot(data_root), runs=tmp_path_factory.mktemp("runs"))
    evaluated = override(experiment, evaluation_settings(["evaluation.episodes=20", "fusion.sigma_global=0.5"]))
    questions = questions_of([Target(run.folder, evaluated, methods=("hcl", "prototype"))], DataRoot(data_root))
    evaluate(questions, runs=run.runs, command="hcl evaluate tiny --set evaluation.episodes=20")
    return run.folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy that tests may damage."""
    shutil.copytree(made, tmp_path / "runs" / "tiny")
    return tmp_path / "runs" / "tiny"


def record_of(folder: Path, method: str = "hcl (sigma_global=0.5)", shot: int = 1) -> Path:
    files = {file: results.read_evaluation(file) for file in (folder / "evaluation").glob("*.json")}
    [match] = [file for file, record in files.items() if (record.method, record.shot) == (method, shot)]
    return match


def spoil(file: Path, **changes: Any) -> None:
    results.write_evaluation(file.parent.parent, replace(results.read_evaluation(file), **changes))


def test_the_commands_and_that_nothing_differs(hcl: Command, folder: Path, data_root: Path) -> None:
    code, out, err = hcl("reproduce", folder, "--data", data_root)
    assert code == 0, err
    assert "trained, as typed: hcl train tiny.yaml" in out and f"train the same: hcl train {folder}/exp" in out
    assert "evaluated, as typed: hcl evaluate tiny --set evaluation.episodes=20" in out
    assert "--method prototype --set fusion.sigma_global=0.5 --set evaluation.episodes=20" in out
    assert "DIFFERS" not in out and "unknown here" not in out and out.count("same") > 10


def test_the_printed_command_asks_the_same(folder: Path, data_root: Path, hcl: Command, tmp_path: Path) -> None:
    _, out, _ = hcl("reproduce", record_of(folder), "--data", data_root)
    [words] = [line.removeprefix("evaluate the same: hcl ") for line in out.splitlines() if "evaluate the same" in line]
    before = results.read_evaluation(record_of(folder))
    record_of(folder).unlink()
    assert hcl(*words.split()).code == 0
    after = results.read_evaluation(record_of(folder))
    ignored = {"command", "created", "seconds"}
    changed = {name for name, value in vars(after).items() if getattr(before, name) != value}
    assert changed <= ignored | {"revision", "dirty", "checkpoint"}


def test_what_differs_here_is_named(hcl: Command, folder: Path, data_root: Path) -> None:
    spoil(record_of(folder), versions={"torch": "1.0", "gone": "2"}, revision="f" * 40, split_digest="0")
    with (folder / BEST).open("ab") as file:
        file.write(b"x")
    code, out, _ = hcl("reproduce", record_of(folder), "--data", data_root)
    assert code == 0
    differing = [line for line in out.splitlines() if "DIFFERS" in line]
    for name in ("torch", "gone", "revision", "toy test: videos", "checkpoint best.pt"):
        assert any(name in line for line in differing), name
    assert not any("episodes" in line or "settings" in line for line in differing)


def verdicts(out: str) -> dict[str, str]:
    """Return the verdict of each check, by its subject."""
    cells = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    return {row[1]: row[4] for row in cells}


def test_other_content_of_the_files_that_a_run_reads_differs(
    hcl: Command, folder: Path, data_root: Path, tmp_path: Path
) -> None:
    """The weights of the backbone and the class-name embeddings are files, of which the settings only hold a path."""
    shutil.rmtree(folder / "evaluation")
    files = {"weights": tmp_path / "weights.pth", "embeddings": tmp_path / "names.npz"}
    settings = folder / "experiment.yaml"
    text = settings.read_text().replace("weights: none", f"weights: {files['weights']}")
    text = text.replace("semantic: false", "semantic: true").replace(
        "embeddings/{dataset}.npz", str(files["embeddings"])
    )
    settings.write_text(text)
    for file in files.values():
        file.write_bytes(b"one")
    rows = {"weights": "training: file of model.weights", "embeddings": "training: class-name embeddings"}
    reproduce = ("reproduce", folder, "--data", data_root)
    by_row = verdicts(hcl(*reproduce).out)
    assert {by_row[row] for row in rows.values()} == {"not recorded"}  # as in runs of earlier versions
    origin, run = (
        results.read_provenance(folder),
        Run(load_resolved(settings), DataRoot(data_root), folder.parent, folder),
    )
    results.write_provenance(folder, replace(origin, digests={**origin.digests, **data_digests(run)}))
    by_row = verdicts(hcl(*reproduce).out)
    assert {by_row[row] for row in rows.values()} == {"same"}
    for name, file in files.items():
        file.write_bytes(b"two")
        by_row = verdicts(hcl(*reproduce).out)
        assert by_row[rows[name]] == "DIFFERS", name
        file.write_bytes(b"one")


def test_frames_of_another_tool_that_have_changed_differ_from_a_record(
    hcl: Command, folder: Path, data_root: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(data_root, tmp_path / "data"))
    reproduce = ("reproduce", record_of(folder), "--data", data)
    assert verdicts(hcl(*reproduce).out)["toy test: frames"] == "same"
    frame = data / "images" / "toy" / "hen" / "hen_1" / "1.jpg"
    content = bytearray(frame.read_bytes())
    content[-20] ^= 1  # neither the first, the middle nor the last frame, and as many bytes
    frame.write_bytes(content)
    assert verdicts(hcl(*reproduce).out)["toy test: frames"] == "DIFFERS"
    spoil(record_of(folder), digests={})
    assert verdicts(hcl(*reproduce).out)["toy test: frames"] == "not recorded"
    spoil(record_of(folder), digests={"frames": "0123456789abcdef"})  # of sizes alone
    assert verdicts(hcl(*reproduce).out)["toy test: frames"] == "not recorded"


def test_other_data_or_none_are_told(hcl: Command, folder: Path, tmp_path: Path) -> None:
    other = write_data(tmp_path / "other", ("toy",), n_videos=6)
    code, out, _ = hcl("reproduce", folder, "--data", other)
    assert code == 0
    assert {"training: videos of train", "training: videos of val", "training: frames of val", "toy test: videos"} <= {
        line.split("│")[1].strip() for line in out.splitlines() if "DIFFERS" in line
    }
    code, out, _ = hcl("reproduce", folder, "--data", tmp_path / "nothing")
    assert code == 0 and "DIFFERS" in out and "Traceback" not in out


def test_a_record_comes_out_again_to_the_last_digit(hcl: Command, folder: Path, data_root: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
    code, out, err = hcl("reproduce", record_of(folder, shot=3), "--data", data_root, "--run", "--tolerance", "0")
    assert code == 0, err
    assert "0.00" in out and "100.00%" in out and "the figures were reproduced" in out
    assert before == sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))


def test_a_run_is_trained_and_evaluated_again(hcl: Command, folder: Path, data_root: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    code, out, err = hcl("reproduce", folder, "--data", data_root, "--run", "--runs", again, "--tolerance", "0")
    assert code == 0, err
    assert "the figures were reproduced" in out and out.count("100.00%") == 2 * len(SHOTS)
    assert len(results.read_epochs(again / "tiny")) == 2
    assert results.load(again / "tiny").evaluations["accuracy"].tolist() == (
        results.load(folder).evaluations["accuracy"].tolist()
    )


def test_nothing_that_lies_there_is_removed(hcl: Command, folder: Path, data_root: Path, tmp_path: Path) -> None:
    """Neither a run of that name in the folder nor other files beside the reproduced ones are removed."""
    again = tmp_path / "again"
    shutil.copytree(folder, again / "tiny")
    (again / "tiny" / "notes.txt").write_text("mine")
    before = tree(again)
    for source in (record_of(folder), folder):
        code, _, err = hcl("reproduce", source, "--data", data_root, "--run", "--runs", again)
        assert code == 2 and "exists already, and is not replaced" in err
        assert tree(again) == before
    other = tmp_path / "other"
    assert hcl("reproduce", record_of(folder), "--data", data_root, "--run", "--runs", other).code == 0
    (other / "tiny" / "notes.txt").write_text("mine")
    code, out, err = hcl("reproduce", record_of(folder, shot=3), "--data", data_root, "--run", "--runs", other)
    assert code == 0 and "the figures were reproduced" in out, err
    assert (other / "tiny" / "notes.txt").read_text() == "mine"
    assert len(list((other / "tiny" / "evaluation").glob("*.json"))) == 2
    code, _, err = hcl("reproduce", folder, "--data", data_root, "--run", "--runs", other)
    assert code == 2 and "of another result" in err


def test_scores_that_others_left_in_the_folder_are_not_read(
    hcl: Command, folder: Path, data_root: Path, tmp_path: Path
) -> None:
    assert hcl("evaluate", folder, "--data", data_root, "--runs", tmp_path / "again").code == 0
    tables = tree(tmp_path / "again" / "cache")
    assert tables
    code, _, err = hcl("reproduce", record_of(folder), "--data", data_root, "--run", "--runs", tmp_path / "again")
    assert code == 0, err
    assert list((tmp_path / "again" / "tiny" / "cache" / "scores").glob("*.npz"))
    assert tree(tmp_path / "again" / "cache") == tables


def test_other_figures_end_with_status_1(hcl: Command, folder: Path, data_root: Path) -> None:
    accuracy = results.read_evaluation(record_of(folder)).accuracy
    spoil(record_of(folder), accuracy=accuracy - 0.02)
    command = ("reproduce", record_of(folder), "--data", data_root, "--run", "--tolerance")
    code, out, err = hcl(*command, "1")
    assert code == 1 and "DIFFERS" in out and "was not reproduced within 1 points" in err
    assert hcl(*command, "3").code == 0


def test_episodes_of_a_file_are_asked_as_they_were_kept(hcl: Command, folder: Path, data_root: Path) -> None:
    """The record's settings sample other episodes than it was evaluated on."""
    experiment = load_resolved(folder / "experiment.yaml")
    other = override(experiment, {"evaluation.seed": 7, "evaluation.episodes": 12})
    episodes = [
        question.asked
        for question in questions_of([Target(folder, other, methods=("prototype",))], DataRoot(data_root))
    ]
    plain = override(experiment, {"evaluation.shots": [1]})
    questions = questions_of([Target(folder, plain, methods=("prototype",))], DataRoot(data_root), episodes=episodes)
    evaluate(questions, runs=folder.parent)
    file = record_of(folder, "prototype")
    code, out, err = hcl("reproduce", file, "--data", data_root, "--run", "--tolerance", "0")
    assert code == 0, err
    assert "episodes" in next(line for line in out.splitlines() if "DIFFERS" in line) and "100.00%" in out
    (folder / "evaluation" / f"episodes-{results.read_evaluation(file).episodes_digest}.npz").unlink()
    code, _, err = hcl("reproduce", file, "--data", data_root, "--run")
    assert code == 2 and "none are kept beside it" in err


def test_a_record_of_an_older_version_is_asked_by_what_it_tells(hcl: Command, folder: Path, data_root: Path) -> None:
    spoil(record_of(folder, "prototype"), settings=[], revision=None, versions={}, command="", experiment_digest="")
    code, out, err = hcl("reproduce", record_of(folder, "prototype"), "--data", data_root, "--run")
    assert code == 0, err
    assert "not recorded" in out and "100.00%" in out and "as typed" not in out


def test_a_setting_that_was_added_since_is_named_and_changes_no_digest(
    hcl: Command, folder: Path, data_root: Path
) -> None:
    settings = folder / "experiment.yaml"
    lines = settings.read_text().splitlines(keepends=True)
    [line] = [one for one in lines if one.strip().startswith("renormalise:")]
    settings.write_text("".join(one for one in lines if one is not line))
    recorded = read_recorded(folder)
    assert list(recorded.added()) == ["matching.renormalise"]
    then = recorded.digest(recorded.experiment)
    assert then != recorded.experiment.digest()
    origin = results.read_provenance(folder)
    results.write_provenance(folder, replace(origin, digests={**origin.digests, "experiment": then}))
    code, out, _ = hcl("reproduce", folder, "--data", data_root)
    [line] = [one for one in out.splitlines() if "training: settings" in one]
    assert code == 0 and "same" in line
    [line] = [one for one in out.splitlines() if "settings added since" in one]
    assert "matching.renormalise=False" in line and "not recorded" in line


def test_digests_from_before_the_number_of_workers_counted_are_known(folder: Path) -> None:
    recorded = read_recorded(folder)
    two = override(recorded.experiment, {"train.workers": 2, "model.train_backbone": True, "model.batch_norm": "train"})
    assert recorded.digest_here(two, two.digest(workers=1)) == two.digest(workers=1) != two.digest()
    assert recorded.digest_here(two, two.digest()) == two.digest() == recorded.digest(two)
    assert recorded.digest_here(two, two.digest(workers=4)) != two.digest(workers=4)


def test_a_fusion_of_an_older_version_is_known_by_its_name(folder: Path, data_root: Path) -> None:
    (folder / "fusion.yaml").write_text("fusion: {sigma_global: 0.125}\n")
    experiment = load_resolved(folder / "experiment.yaml")
    for name, sigma in (("hcl fused", 0.125), ("hcl temporal only", 0.0), ("hcl", 1.0)):
        spoil(record_of(folder), settings=[], experiment_digest="")
        record = replace(results.read_evaluation(record_of(folder)), method=name)
        target = target_of(read_recorded(record_of(folder)), record, folder)
        assert target.experiment.fusion.sigma_global == sigma, name
        assert (target.methods, target.label) == (("hcl",), "" if name == "hcl" else name)
    assert experiment.fusion.sigma_global == 1.0


def test_wrong_use_is_told_in_words(hcl: Command, folder: Path, data_root: Path, tmp_path: Path) -> None:
    code, _, err = hcl("reproduce", tmp_path)
    assert code == 2 and "neither a run nor an evaluation record" in err
    code, _, err = hcl("reproduce", folder, "--data", data_root, "--run", "--runs", folder.parent)
    assert code == 2 and "holds the run itself" in err
    study = results.SweepRecord(name="s", space={}, objective="val_accuracy", command="hcl sweep tiny")
    results.write_sweep(tmp_path / "study", study, [])
    (tmp_path / "study" / "experiment.yaml").write_text(to_yaml(tiny_experiment()))
    code, _, err = hcl("reproduce", tmp_path / "study")
    assert code == 2 and "is a study" in err and "hcl sweep tiny" in err
    (folder / "evaluation" / "broken.json").write_text("{")
    code, _, err = hcl("reproduce", folder / "evaluation" / "broken.json")
    assert code == 1 and "is not JSON" in err

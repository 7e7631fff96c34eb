"""Test suites: the content of a file, refusals, and one job for several checkpoints and data sets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import results
from hcl.errors import ConfigError
from orchestration.evaluation.suite import Entry, read_suite
from orchestration.training.run import Run
from orchestration.training.run_files import LAST
from tests.orchestration.conftest import Command


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


def test_entries_in_their_order(tmp_path: Path) -> None:
    other = "{run: b/checkpoints/last.pt, dataset: y, partition: val, settings: {evaluation.shots: [1]}}"
    text = f"- {{run: a, dataset: x}}\n- {other}\n"
    assert read_suite(written(tmp_path, text)) == [
        Entry(Path("a"), "x"),
        Entry(Path("b/checkpoints/last.pt"), "y", "val", {"evaluation.shots": [1]}),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no list of pairs"),
        ("run: a\ndataset: x\n", "holds no list of pairs"),
        ("- a\n", "entry 1: is 'a', expected run and dataset"),
        ("- {run: a, dataset: x}\n- {run: a}\n", "entry 2: dataset: expected a text, got None"),
        ("- {run: 3, dataset: x}\n", "entry 1: run: expected a text, got 3"),
        ("- {run: a, dataset: x, shots: 1}\n", "entry 1: unknown field 'shots'"),
        ("- {run: a, dataset: x, setings: {}}\n", "unknown field 'setings', did you mean `settings`?"),
        ("- {run: a, dataset: x, partition: tset}\n", "got 'tset', did you mean `test`?"),
        ("- {run: a, dataset: x, partition: train}\n", "entry 1: partition: got 'train'"),
        ("- {run: a, dataset: x, settings: [1]}\n", r"entry 1: settings: expected settings by path, got \[1\]"),
        ("- {run: a\n", "not valid YAML"),
    ],
)
def test_mistakes_name_the_entry_and_the_field(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        read_suite(written(tmp_path, text))


@pytest.fixture
def place(trained: Run, tmp_path: Path) -> Path:
    """Make a working folder with the run and its cached grids under `runs`."""
    shutil.copytree(trained.folder, tmp_path / "runs" / "tiny")
    shutil.copytree(trained.runs / "cache" / "grids", tmp_path / "runs" / "cache" / "grids")
    return tmp_path


@pytest.mark.ray
def test_a_suite_is_one_job(hcl: Command, place: Path, data_root: Path) -> None:
    """Evaluate a checkpoint by name, one by file, and one on another data set; then use its episodes from a file."""
    last = Path("runs") / "tiny" / LAST
    suite = written(
        place,
        "- {run: tiny, dataset: toy, settings: {evaluation.episodes: 9}}\n"
        f"- {{run: {last}, dataset: toy, partition: val, settings: {{evaluation.shots: [2]}}}}\n"
        "- {run: tiny, dataset: other}\n",
    )
    code, out, err = hcl("evaluate", "--suite", suite, "--data", data_root, "--set", "evaluation.shots=[1]")
    assert code == 0, err
    assert "encoded 45 of 45 clips" in err
    records = [results.read_evaluation(path) for path in (place / "runs" / "tiny" / "evaluation").glob("*.json")]
    assert {(record.method, record.dataset, record.partition, record.shot, record.episodes) for record in records} == {
        ("hcl", "toy", "test", 1, 9),
        ("hcl last", "toy", "val", 1, 30),
        ("hcl", "other", "test", 1, 30),
    }

    common = ("--data", data_root, "--set", "evaluation.shots=[1]")
    code, out, err = hcl("evaluate", "tiny", *common, "--write-episodes", "asked.npz", "--set", "evaluation.episodes=7")
    assert code == 0 and "toy test, 1-shot: 7 episodes, digest" in out, err
    code, out, err = hcl("evaluate", "tiny", "--data", data_root, "--episodes", "asked.npz")
    assert code == 0 and "encoded 0 of 15 clips" in err, err
    path = place / "runs" / "tiny" / "evaluation" / "hcl-toy-test-2way-1shot.json"
    assert results.read_evaluation(path).episodes == 7
    code, out, err = hcl("evaluate", "tiny", "--data", data_root, "--dataset", "other", "--episodes", "asked.npz")
    assert code == 1 and "episodes of other test: are not in the file" in err


def test_a_dry_run_says_what_would_be_encoded_and_scored(hcl: Command, place: Path, data_root: Path) -> None:
    code, out, err = hcl("evaluate", "tiny", "--data", data_root, "--method", "untrained", "--dry-run")
    assert code == 0, err
    assert "untrained on toy test: 15 clips x 1 view(s), 15 to encode (0.00 GB of features), 225 pairs to score" in out
    assert not (place / "runs" / "cache" / "scores").exists() and not (place / "runs" / "cache" / "features").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "nothing to evaluate"),
        ("tiny --set model.d_model=48", "'model.d_model' would evaluate another model"),
        ("tiny --set evaluation.shots", "is not PATH=VALUE"),
        ("tiny --set evaluation.shot=1", "unknown setting `evaluation.shot`"),
        ("tiny --protocol published --set evaluation.episodes=10", "evaluation.episodes=3000, not 10"),
        ("stray.pt", "is a file outside a run"),
        ("--suite suite.yaml", "entry 1: settings: 'optim.lr' would evaluate another model"),
    ],
)
def test_what_cannot_be_asked_is_refused(words: str, said: str, hcl: Command, place: Path, data_root: Path) -> None:
    (place / "stray.pt").touch()
    written(place, "- {run: tiny, dataset: toy, settings: {optim.lr: 0.1}}\n")
    code, _, err = hcl("evaluate", *words.split(), "--data", data_root)
    assert code == 2 and said in " ".join(err.split()), err

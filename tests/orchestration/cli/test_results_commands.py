"""Test `hcl results ...` on artificial records: lists, one run, exports, and one-line messages for wrong use."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from tests.orchestration.conftest import Command, tiny_experiment, tree
from tests.results.conftest import made


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Write two runs with answers that differ in one term of the loss, a study and a damaged record."""
    for run, sigma, p_right in (("all", 0.5, 0.8), ("no-spatial", 0.0, 0.5)):
        folder, outcomes = tmp_path / "runs" / run, made(p_right)
        record = results.EvaluationRecord(
            run=run, method="hcl", train_dataset="hmdb51", dataset="hmdb51", partition="test", way=5, shot=1, queries=4,
            episodes=300, seed=0, accuracy=float(outcomes.accuracies.mean()), ci95=0.01, episodes_digest="e1",
            levels={"global": 0.25, "temporal": 0.5}, created="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        results.write_outcomes(results.write_evaluation(folder, record), outcomes)
        experiment = tiny_experiment(name=run, loss__sigma_spatial=sigma, train__prefetch=len(run))
        (folder / "experiment.yaml").write_text(to_yaml(experiment))
        for epoch in (1, 2, 3):
            results.append_epoch(folder, {"epoch": epoch, "val_accuracy": 0.1 * (4 - epoch), "loss_total": 2.0})
        results.write_provenance(folder, results.collect_provenance(f"hcl train {run}.yaml"))
    trial = results.TrialRecord(trial="t0", params={"optim.lr": 0.1}, value=0.5)
    study = results.SweepRecord(name="s", space={}, objective="val_accuracy", n_trials=1)
    results.write_sweep(tmp_path / "runs" / "study", study, [trial])
    (tmp_path / "runs" / "all" / "evaluation" / "broken.json").write_text("{")
    return tmp_path / "runs"


def test_lists_of_each_kind(hcl: Command, runs: Path) -> None:
    code, out, err = hcl("results", "list")
    assert code == 0 and "no-spatial" in out and "30.0" in out and "study" not in out
    assert "left out" in err and "broken.json" in err
    code, out, _ = hcl("results", "list", "studies")
    assert code == 0 and "study" in out and "largest" in out
    code, out, _ = hcl("results", "list", "evaluations", "--dataset", "hmdb51", "--sort", "accuracy %", "--descending")
    assert code == 0 and 0 < out.index("│ all") < out.index("│ no-spatial")


def test_lists_tell_the_state_of_each(hcl: Command, runs: Path) -> None:
    settings = runs / "no-spatial" / "experiment.yaml"
    settings.write_text(settings.read_text().replace("epochs: 2", "epochs: 9"))
    (runs / "no-spatial" / "failed.json").write_text('{"problem": "no frames of [clip]"}')
    code, out, _ = hcl("results", "list")
    words = " ".join(out.split())
    assert code == 0 and "│ all │ done │" in words and "│ failed: no frames of [clip] │" in words
    code, out, _ = hcl("results", "list", "--status", "failed")
    assert code == 0 and "no-spatial" in out and "│ all" not in out
    code, out, _ = hcl("results", "list", "studies", "--status", "done")
    assert code == 0 and "study" in out
    code, out, _ = hcl("results", "list", "studies", "--status", "running")
    assert code == 0 and "no studies in runs" in out
    code, _, err = hcl("report", "runs/all", "runs/no-spatial", "--to", "page")
    assert code == 0, err
    page = (runs.parent / "page" / "index.html").read_text()
    assert "<bdi>failed: no frames of [clip]</bdi>" in page and "<bdi>done</bdi>" in page


def test_tags_and_notes_are_kept_shown_and_filtered_by(hcl: Command, runs: Path) -> None:
    assert "tags" not in hcl("results", "list").out
    code, out, err = hcl("results", "tag", "all", "no-spatial", "--add", "good", "--add", "paper")
    assert code == 0 and out.splitlines() == ["all: good, paper", "no-spatial: good, paper"], err
    assert hcl("results", "tag", "all", "--remove", "good", "--add", "final").out == "all: final, paper\n"
    assert hcl("results", "tag", "all").out == "all: final, paper\n"
    assert hcl("results", "note", "all", "why [it] is\nbest").code == 0
    assert hcl("results", "note", "all").out == "all: why [it] is\nbest\n"
    assert hcl("results", "note", "no-spatial").out == "no-spatial: no note\n"
    out = hcl("results", "list", "--tag", "paper", "--tag", "final").out
    assert "│ all" in out and "no-spatial" not in out and "final paper" in out and "why [it] is..." in out
    out = hcl("results", "show", "all").out
    assert "final paper" in out and "why [it] is" in out
    assert hcl("results", "note", "all", "").out == "all: no note\n"
    assert not list(runs.glob("*/.*lock"))
    code, _, err = hcl("results", "tag", "all", "--add", "two words")
    assert code == 1 and "'two words' is not a tag" in err
    code, _, err = hcl("results", "list", "evaluations", "--tag", "good")
    assert code == 2 and "have no tags" in err


def test_a_look_at_labels_writes_nothing(hcl: Command, runs: Path) -> None:
    before = tree(runs)
    assert (
        hcl("results", "tag", "all").out == "all: no tags\n" and hcl("results", "tag", "all", "--remove", "x").code == 0
    )
    assert tree(runs) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--sort", "speed"), "one of run, status, data set, regime"),
        (("list", "--dataset", "ucf101"), "there are: toy"),
        (("list", "studies", "--dataset", "toy"), "have no column for the data set"),
        (("list", "evaluations", "--status", "done"), "evaluations have no status"),
        (("show", "nobody"), "no such folder"),
        (("show", "."), "is not a run"),
        (("export", "runs/all/experiment.yaml"), "is a file"),
        (("export", "out", "nobody"), "runs in runs: all, no-spatial"),
        (("export",), "names no folder"),
        (("export", "out", "--check"), "needs --readme"),
        (("export", "out", "--readme", "page.md"), "takes no folder"),
        (("export", "--readme", "page.md"), "no such page"),
        (("ablation", "--over", "optim."), "no two runs differ only in settings that begin with 'optim.'"),
        (("ablation", "all"), "no two runs differ"),
    ],
)
def test_wrong_use_is_told_in_words(hcl: Command, runs: Path, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = hcl("results", *arguments)
    assert code == 2 and said in " ".join(err.split()) and "Traceback" not in err


def test_runs_elsewhere_are_an_error_of_one_line(hcl: Command) -> None:
    code, _, err = hcl("results", "list", "--runs", "hdfs://bucket/runs")
    assert code == 2 and "neither a folder nor s3://" in " ".join(err.split())
    code, _, err = hcl("results", "list")
    assert code == 1 and "does not exist" in err


def test_one_run_with_all_that_is_known(hcl: Command, runs: Path) -> None:
    code, out, err = hcl("results", "show", "all", "--epochs", "1")
    assert code == 0, err
    words = " ".join(out.split())
    assert "model.backbone │ resnet18 │ resnet50" in words and "evaluation.seed" not in words
    assert "hcl train all.yaml" in words and "versions.torch" in words
    assert "1* │ 30.0" in words and "│ 3 │ 10.0" in words and "│ 2 │ 20.0" not in words
    assert "1-shot" in words and "temporal" in words and "broken.json" in err
    code, out, _ = hcl("results", "show", "study")
    assert code == 0 and "t0" in out


def test_the_log_of_a_run_and_of_a_trial_by_name(hcl: Command, runs: Path) -> None:
    (runs / "all" / "log.txt").write_text("2026-01-01T00:00:00+00:00 begins: process 7 on [node]\n")
    code, out, _ = hcl("results", "log", "all")
    assert code == 0 and out == "2026-01-01T00:00:00+00:00 begins: process 7 on [node]\n"
    (runs / "study" / "experiment.yaml").write_text("")
    trial = runs / "study" / "trials" / "trial-0003"
    trial.mkdir(parents=True)
    (trial / "experiment.yaml").write_text("")
    code, _, err = hcl("results", "log", "study")
    assert code == 2 and "choose one: study/trial-0003" in err
    code, _, err = hcl("results", "log", "study/trial-0003")
    assert code == 2 and "has no log yet" in err
    (trial / "log.txt").write_text("goes on\n")
    (trial / "error.log").write_text("Traceback: why\n")
    code, out, _ = hcl("results", "log", "study/trial-0003")
    assert code == 0 and out.startswith("goes on\n") and "error.log" in out and out.endswith("Traceback: why\n")
    code, _, err = hcl("results", "log", "study/trial-0004")
    assert code == 2 and "is not a run" in err


def test_a_run_of_another_version_is_shown(hcl: Command, runs: Path) -> None:
    settings = runs / "all" / "experiment.yaml"
    settings.write_text(settings.read_text() + "gone: 5\n")
    code, out, _ = hcl("results", "show", "all")
    assert code == 0 and "no such setting any more" in out


def test_export_writes_frames_and_tables(hcl: Command, runs: Path, tmp_path: Path) -> None:
    code, out, err = hcl("results", "export", "out", "all", "no-spatial", "--format", "parquet")
    assert code == 0 and "table-ablation-1.parquet" in out and "broken.json" in err
    assert len(pd.read_parquet(tmp_path / "out" / "episodes.parquet")) == 600
    code, out, _ = hcl("results", "export", "tex", "--format", "latex")
    assert code == 0 and r"\toprule" in (tmp_path / "tex" / "table-accuracy.tex").read_text()
    assert not (tmp_path / "tex" / "runs.tex").exists()


def test_tables_of_ablations_and_printed_figures(hcl: Command, runs: Path) -> None:
    code, out, _ = hcl("results", "ablation")
    assert code == 0 and "sigma_spatial" in out and "Δ 1-shot" in out and re.search(r"-\d\d\.\d \(p (0|<)", out)
    code, out, _ = hcl("results", "published")
    assert code == 0 and "STRM ¶" in out and "77.3" in out and "Anirudh257/strm" in out
    code, _, err = hcl("results", "published", "study*", "--runs", "runs")
    assert code != 0 and "Traceback" not in err


def test_tables_of_a_page_are_written_and_checked(hcl: Command, runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert "has no table" in hcl("results", "export", "--readme", page).err
    assert hcl("results", "export", "kept", "all", "no-spatial", "--format", "records").code == 0
    rows = "rows: [{run: all, label: all terms}, {run: no-spatial, label: no spatial term}]"
    page.write_text(f"before\n\n<!-- results: terms\nrecords: kept\n{rows}\n-->\n<!-- end -->\n")
    code, out, _ = hcl("results", "export", "--readme", page, "--check")
    assert code == 1 and "differs from the records: terms" in out and "|" not in page.read_text()
    code, out, _ = hcl("results", "export", "--readme", page)
    assert code == 0 and "written: terms" in out and re.search(r"\| all terms \| \*\*\d", page.read_text())
    assert hcl("results", "export", "--readme", page, "--check").code == 0
    page.write_text(page.read_text().replace("| **", "| **1"))
    assert hcl("results", "export", "--readme", page, "--check").code == 1

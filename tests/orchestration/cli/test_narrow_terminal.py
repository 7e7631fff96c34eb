"""Test that the tables of commands fit a terminal of 80 columns without cutting names of forty letters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.config.resolve import resolve
from tests.orchestration.conftest import Command

RUNS = ("metaworld_cpu_with_a_name_of_forty_letters", "metaworld_cpu_with_a_name_of_forty_letterz")
STUDY = "search_of_sigma_with_a_name_of_forty_letters"
OF_TABLE = re.compile(r"[│┃┏└]| +[\w %±-]+: |  trial")
"""Lines of tables and of blocks; other text is never broken, so that what it quotes can be copied."""
PIECES = re.compile(r"[\s│]+")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two runs and a study, and make the terminal 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    for number, name in enumerate(RUNS):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        settings = {"name": name, "loss.sigma_ce": 0.5 + number}
        (folder / "experiment.yaml").write_text(to_yaml(resolve("metaworld_cpu", settings).experiment))
        results.write_provenance(folder, results.collect_provenance(f"hcl train metaworld_cpu --set name={name}"))
        terms = {f"loss_{term}": 0.1 for term in ("total", "ce", "global", "temporal", "spatial")}
        results.write_epochs(folder, [{"epoch": 1, "val_accuracy": 0.5, "val_ci95": 0.1, "memory_gb": 0.5, **terms}])
        for shot in (1, 5):
            record = results.EvaluationRecord(
                run=name, method="hcl", train_dataset="metaworld", dataset="ssv2_100_otam", partition="test", way=5,
                shot=shot, queries=3, episodes=30, seed=0, accuracy=0.5, ci95=0.1, ci95_classes=0.2,
            )  # fmt: skip
            results.write_evaluation(folder, record)
    trials = [
        results.TrialRecord(
            trial=f"trial-{number:04}",
            params={f"loss.sigma_{name}": number / 7 for name in ("ce", "temporal", "spatial", "temporal_cycle")},
            value=0.5,
        )
        for number in range(3)
    ]
    (tmp_path / "runs" / STUDY).mkdir()
    record = results.SweepRecord(name=STUDY, space={}, objective="val_accuracy", best_trial="trial-0001", n_trials=3)
    results.write_sweep(tmp_path / "runs" / STUDY, record, trials)
    return tmp_path / "runs"


def written_out(text: str) -> str:
    """Return a text without the line breaks, spaces and borders that may stand inside a wrapped name."""
    return PIECES.sub("", text)


COMMANDS = {
    "results list": RUNS,
    "results list studies": (STUDY,),
    "results list evaluations": (*RUNS, "ssv2_100_otam"),
    f"results show {RUNS[0]}": (RUNS[0], "loss.sigma_temporal_cycle"),
    f"results show {STUDY}": ("trial-0001", "temporal_cycle"),
    f"results seeds {RUNS[0]} {RUNS[1]}": ("ssv2_100_otam",),
    "results ablation": RUNS,
    "results published": (*RUNS, "Nguyen et al. 2022"),
    "data list": ("ssv2_100_otam", "Something-Something V2"),
    f"config show metaworld_cpu --set name={RUNS[0]}": (RUNS[0], "hcl/experiments/metaworld_cpu.yaml"),
    f"report {RUNS[0]} {RUNS[1]}": ("ssv2_100_otam",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_is_cut_in_80_columns(command: str, hcl: Command, runs: Path) -> None:
    code, out, err = hcl(*command.split())
    assert code == 0, err
    assert "…" not in out
    for name in COMMANDS[command]:
        assert written_out(name) in "".join(column_by_column(out)) or written_out(name) in written_out(out), name
    assert max(len(line) for line in out.splitlines() if OF_TABLE.match(line)) <= 80


def column_by_column(out: str) -> list[str]:
    """Return the cells of tables without their line breaks: those of one column in consecutive lines are joined."""
    rows = [line.strip("│").split("│") for line in out.splitlines() if line.startswith("│")]
    n_columns = max(map(len, rows), default=0)
    return [written_out("".join(row[column] for row in rows if len(row) == n_columns)) for column in range(n_columns)]

"""Test the view of a run: a row per epoch with every term, a line for the current epoch, and a step's memory."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from orchestration import console
from orchestration.training.memory import Estimate
from orchestration.training.view import EpochTable, show_memory

ROW: dict[str, Any] = {
    "epoch": 3,
    "val_accuracy": 0.5125,
    "val_ci95": 0.021,
    "loss_ce": 1.25,
    "loss_temporal_cycle": 0.5,
    "loss_total": 2.0,
    "train_accuracy": 0.75,
    "clips_per_second": 41.26,
    "data_wait": 0.07,
    "memory_gb": 1.234,
}


def shown(part: Any) -> str:
    printed = Console(width=120, record=True, file=io.StringIO())
    printed.print(part)
    return printed.export_text()


def test_a_row_holds_every_term_and_what_the_run_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "out", Console(width=120, file=io.StringIO(), force_terminal=True))
    table = EpochTable()
    table.rows = [{**ROW, "epoch": 2}, ROW]
    text = shown(table.table())
    headers = ["epoch", "val", "classified", "loss", "clips/s", "ce", "temporal_cycle", "data wait", "GB"]
    assert [str(column.header) for column in table.table().columns] == headers
    monkeypatch.setattr(console, "out", Console(width=70, file=io.StringIO(), force_terminal=True))
    assert [str(column.header) for column in table.table().columns] == headers[:6], "whole columns, not cut ones"
    for cell in ("1.250", "0.500", "2.000", "75.0%", "51.2% ± 2.1", "41.3", "7%", "1.23"):
        assert cell in text


def test_outside_a_terminal_an_epoch_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with EpochTable() as table:
        table.progress({"epoch": 3, "epochs": 9, "step": 5, "steps": 40, "total": 2.5} | ROW)
        table.add(ROW)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "epoch 3: val 51.2% ± 2.1" in line and "classified 75.0%" in line and "1.23 GB" in line
    assert table.under_way.startswith("epoch 3/9, step 5/40, loss 2.500, 41.3 clips/s, 7% waiting")


@pytest.mark.parametrize(("peak", "is_much"), [(23.9e9, False), (24.1e9, True)])
def test_more_than_a_small_gpu_comes_with_what_helps(
    peak: float, is_much: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_memory(Estimate({"weights": 170_000_000}, int(peak)))
    text = capsys.readouterr().out
    assert "weights" in text and "0.17" in text and f"{peak / 1e9:.2f}" in text
    assert ("train.recompute_backbone=true" in text) == is_much


@pytest.mark.parametrize(
    ("paths", "alike", "names"),
    [
        (["loss.sigma_ce", "loss.sigma_spatial"], "loss.sigma_", ["ce", "spatial"]),
        (["loss.sigma_ce", "fusion.sigma_ce"], "", ["loss.sigma_ce", "fusion.sigma_ce"]),
        (["optim.lr"], "optim.", ["lr"]),
        (["model.d_model", "model.dropout"], "model.", ["d_model", "dropout"]),
        ([], "", []),
    ],
)
def test_what_paths_share_is_said_once(paths: list[str], alike: str, names: list[str]) -> None:
    assert console.short_names(paths) == (alike, names)

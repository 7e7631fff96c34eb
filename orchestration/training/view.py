"""Show a run while it trains: a table with a row for each epoch and the current epoch below it; and a step's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestration.console import add_json, is_wide_enough, out, percent, print_rows, show_epoch

if TYPE_CHECKING:
    from orchestration.training.memory import Estimate

_SMALL_GPU_GB = 24.0


class EpochTable:
    """Show a run as a live table on a terminal, and elsewhere, such as in a job's log, as a line for each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.under_way = "starting"
        self._live = Live(console=out, auto_refresh=False) if out.is_terminal else None

    def __enter__(self) -> EpochTable:
        if self._live is not None:
            self._live.start()
            self._show()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self.under_way = ""
            self._show()
            self._live.stop()

    def add(self, row: dict[str, Any]) -> None:
        """Add a finished epoch."""
        self.rows.append(row)
        add_json("epochs", [row])
        if self._live is None:
            show_epoch(row)
        else:
            self._show()

    def progress(self, now: dict[str, Any]) -> None:
        """Show the progress of the current epoch, which a worker wrote into `progress.json`."""
        self.under_way = (
            f"epoch {now['epoch']}/{now['epochs']}, step {now['step']}/{now['steps']}, loss {now['total']:.3f}, "
            f"{now['clips_per_second']:.1f} clips/s, {100 * now['data_wait']:.0f}% waiting for data"
        )
        self._show()

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(Group(self.table(), Text(self.under_way)), refresh=True)

    def table(self) -> Table:
        """Return a table with one row for each epoch; columns that do not fit on the terminal are left out."""
        named = dict.fromkeys(name for row in self.rows for name in row if name.startswith("loss_"))
        terms = [name for name in named if name != "loss_total"]
        columns = ["epoch", "val", "classified", "loss_total", "clips_per_second", *terms, "data_wait", "memory_gb"]
        table = self._table(columns)
        while not is_wide_enough(table) and len(columns) > 2:
            columns.pop()
            table = self._table(columns)
        return table

    def _table(self, columns: Sequence[str]) -> Table:
        table = Table(*(_HEADERS.get(name, name.removeprefix("loss_")) for name in columns), box=SIMPLE_HEAD)
        for row in self.rows:
            table.add_row(*(_cell(row, name) for name in columns))
        return table


_HEADERS = {"loss_total": "loss", "clips_per_second": "clips/s", "data_wait": "data wait", "memory_gb": "GB"}


def _cell(row: Mapping[str, Any], column: str) -> str:
    match column:
        case "epoch":
            return str(row["epoch"])
        case "val":
            return f"{percent(row['val_accuracy'])} ± {100 * (row['val_ci95'] or 0):.1f}"
        case "classified":
            return percent(row["train_accuracy"])
        case "clips_per_second":
            return f"{row[column]:.1f}"
        case "data_wait":
            return f"{100 * row[column]:.0f}%"
        case "memory_gb":
            return f"{row[column]:.2f}"
    return f"{row[column]:.3f}" if column in row else ""


def show_memory(estimate: Estimate) -> None:
    """Print the memory of a step by parts, and how to reduce it if it exceeds a small GPU."""
    sizes = {**estimate.parts, "peak (dry run)": estimate.peak}
    rows = [(name, f"{size / 1e9:.2f}") for name, size in sizes.items()]
    records = [{"part": name, "bytes": size} for name, size in sizes.items()]
    print_rows(["memory of a worker", "GB"], rows, name="memory", records=records)
    if estimate.peak > _SMALL_GPU_GB * 1e9:
        out.print(
            f"more than {_SMALL_GPU_GB:.0f} GB: train.precision=bfloat16 about halves the activations, "
            "train.recompute_backbone=true keeps a third of the backbone's (and takes about a third longer), "
            "matching.chunk_size=4 makes the chunks of matching smaller, and more workers share the batch",
            soft_wrap=True,
        )

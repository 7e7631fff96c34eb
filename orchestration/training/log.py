"""A run's diary, `log.txt`: who trained it where, from where on, and what came of it; for people, a line each.

Whatever process trains a run writes into the same file, which so tells of all of them, and of the one that was killed.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import results
from hcl.errors import HCLError
from orchestration.console import percent
from orchestration.training.run_files import LOG


class Diary:
    """Adds to the log of a run's folder. What cannot be written is left out: nothing rests on it."""

    def __init__(self, folder: Path):
        self._path = folder / LOG

    def begins(self, epoch: int, step: int, *, device: torch.device, n_workers: int) -> None:
        """A process takes the run up.

        Args:
            epoch, step: whole ones that are done.
        """
        before = f"goes on after epoch {epoch}" if epoch else "begins"
        before += f", step {step}" if step else ""
        others = f", the first of {n_workers} workers" if n_workers > 1 else ""
        self._add(f"{before}: process {os.getpid()} on {platform.node()}, {_name(device)}{others}")

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is done."""
        val = f"val {percent(row['val_accuracy'])} ± {100 * (row['val_ci95'] or 0):.1f}"
        self._add(f"epoch {row['epoch']}: {val}, loss {row['loss_total']:.3f}")

    def notes(self, text: str) -> None:
        """Return what a user should know of its files."""
        self._add(text)

    def stops(self, error: BaseException) -> None:
        """It ends before its end. A process that is killed says nothing: the next line is that of another."""
        said = error.problem if isinstance(error, HCLError) else f"{type(error).__name__}: {error}"
        self._add(f"stops: {said.splitlines()[0].rstrip(': ')}")

    def _add(self, text: str) -> None:
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{results.now()} {text}\n")


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{torch.get_num_threads()} CPU threads"

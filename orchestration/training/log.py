"""Write a run's `log.txt` for people: who trained it, where, from which epoch on, and with which result.

All processes that train a run append to the same file, so it also shows the start of a process that was killed.
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
    """Append to the log of a run's folder. Failures to write are ignored, because nothing depends on the log."""

    def __init__(self, folder: Path):
        self._path = folder / LOG

    def begins(self, epoch: int, step: int, *, device: torch.device, n_workers: int) -> None:
        """Log that a process starts or resumes the run.

        Args:
            epoch, step: numbers of finished epochs and steps.
        """
        before = f"resumes after epoch {epoch}" if epoch else "starts"
        before += f", step {step}" if step else ""
        others = f", the first of {n_workers} workers" if n_workers > 1 else ""
        self._add(f"{before}: process {os.getpid()} on {platform.node()}, {_name(device)}{others}")

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Log a finished epoch."""
        val = f"val {percent(row['val_accuracy'])} ± {100 * (row['val_ci95'] or 0):.1f}"
        self._add(f"epoch {row['epoch']}: {val}, loss {row['loss_total']:.3f}")

    def notes(self, text: str) -> None:
        """Log a note about the run's files that a user should know."""
        self._add(text)

    def stops(self, error: BaseException) -> None:
        """Log that training stops early. A killed process logs nothing; the next line then is another process's."""
        problem = error.problem if isinstance(error, HCLError) else f"{type(error).__name__}: {error}"
        self._add(f"stops: {problem.splitlines()[0].rstrip(': ')}")

    def _add(self, text: str) -> None:
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{results.now()} {text}\n")


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{torch.get_num_threads()} CPU threads"

"""What --restart removes: what commands have put into the folder of a run or a study, and nothing else."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from hcl.files.atomic import discard_folder
from hcl.files.disk_errors import storing
from hcl.files.names import some
from orchestration.console import notes

_ANY = (".*.partial", ".*.tmp", "report", "cache", "reproduces.json", "experiment.yaml", "provenance.json")
OF_RUN = (
    "checkpoints", "metrics.parquet", "evaluation", "explanations", "fusion", "fusion.yaml", "tensorboard",
    "progress.json", "log.txt", "error.log", "hung.log", "failed.json", "non_finite.json", ".ray_train", *_ANY,
)  # fmt: skip
"""Names and patterns, in the order in which they go: without checkpoints it is a run that has not begun."""
OF_STUDY = (
    "optuna.journal*", "trials", "sweep.json", "trials.parquet", "confirmation.json", "fused_trials.json", "best.yaml",
    ".tune", *_ANY, "study.yaml",
)  # fmt: skip
"""Likewise; study.yaml goes last: without it the folder would be taken for a run's."""


def clear(folder: Path, made: Sequence[str]) -> None:
    """Remove what commands have made in a folder, all at once where there is nothing else; say what is left alone.

    Raises:
        StorageError: something cannot be removed.
    """
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in made)]
    with storing(folder):
        if not others:
            discard_folder(folder)
            return
        for pattern in made:
            for name in fnmatch.filter(names, pattern):
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    discard_folder(path)
                else:
                    path.unlink(missing_ok=True)
    text = f"{folder}: {some(others, 3)} left as it is: no command of this program made it"
    notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)

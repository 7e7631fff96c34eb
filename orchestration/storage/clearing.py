"""Remove, for --restart, the files that commands have put into the folder of a run or a study, and nothing else."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from hcl.files.atomic import discard_folder
from hcl.files.disk_errors import storing
from hcl.files.names import some
from orchestration.console import notes

_ANY = (
    ".*.partial",
    ".*.tmp",
    "report",
    "cache",
    "reproduces.json",
    "experiment.yaml",
    "provenance.json",
    "labels.json",
    ".labels.lock",
    "data_root.json",
)
OF_RUN = (
    "checkpoints", "metrics.parquet", "evaluation", "explanations", "predictions", "fusion", "fusion.yaml",
    "tensorboard", "progress.json", "log.txt", "error.log", "hung.log", "failed.json", "non_finite.json",
    ".ray_train", *_ANY,
)  # fmt: skip
"""Names and patterns in the order of their removal: a run without checkpoints counts as not started."""
OF_STUDY = (
    "optuna.journal*", "trials", "sweep.json", "trials.parquet", "confirmation.json", "fused_trials.json", "best.yaml",
    ".tune", *_ANY, "study.yaml",
)  # fmt: skip
"""The same for a study; study.yaml goes last, because without it the folder would count as a run's."""


def clear(folder: Path, patterns: Sequence[str]) -> None:
    """Remove the files of commands in a folder, all at once if there is nothing else; report what is kept.

    Raises:
        StorageError: if a file cannot be removed.
    """
    if not folder.is_dir():
        return
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    with storing(folder):
        if not others:
            discard_folder(folder)
            return
        for pattern in patterns:
            for name in fnmatch.filter(names, pattern):
                path = folder / name
                if path.is_dir() and not path.is_symlink():
                    discard_folder(path)
                else:
                    path.unlink(missing_ok=True)
    text = f"{folder}: {some(others, 3)} kept, because no command of this program made it"
    notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)

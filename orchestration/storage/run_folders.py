"""Find the folder of a run that was given by name, path or checkpoint."""

from __future__ import annotations

from pathlib import Path

from hcl.errors import ConfigError


def run_folder(run: Path, runs: Path) -> Path:
    """Return the folder of a run given by path, by name under `runs`, or as STUDY/TRIAL. Raises ConfigError."""
    for folder in (run, runs / run, runs / run.parent / "trials" / run.name):
        if (folder / "experiment.yaml").exists():
            return folder
    names = sorted(path.parent.name for path in runs.glob("*/experiment.yaml"))
    raise ConfigError(
        "is not a run: it has no experiment.yaml",
        where=str(run),
        remedy=f"runs in {runs}: {', '.join(names)}" if names else f"there is no run in {runs}; start with hcl train",
    )


def run_and_checkpoint(run: Path, runs: Path) -> tuple[Path, Path | None]:
    """Return the folder of a run, and the given file if it is in its `checkpoints/`. Raises ConfigError."""
    for path in (run, runs / run):
        if path.is_file():
            folder = path.resolve().parent.parent
            if not (folder / "experiment.yaml").exists():
                raise ConfigError(
                    "is a file outside a run, so its settings are unknown",
                    where=str(path),
                    remedy="give a run's folder or RUN/checkpoints/FILE.pt, with experiment.yaml in RUN",
                )
            return folder, path
    return run_folder(run, runs), None

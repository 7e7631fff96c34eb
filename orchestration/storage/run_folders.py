"""Find the folder of a run that was given by name, path or checkpoint."""

from __future__ import annotations

from pathlib import Path

from hcl.errors import ConfigError, most_similar

_MOST = 12  # runs that a message names


def run_folder(run: Path, runs: Path) -> Path:
    """Return the folder of a run given by path, by name under `runs`, or as STUDY/TRIAL. Raises ConfigError."""
    for folder in (run, runs / run, runs / run.parent / "trials" / run.name):
        if (folder / "experiment.yaml").exists():
            return folder
    raise ConfigError(
        f"is not a run: it has no experiment.yaml{similar_run(run, runs)}", where=str(run), remedy=_runs_there(runs)
    )


def similar_run(run: Path, runs: Path) -> str:
    """Return `, did you mean X?` for the run, study or trial with the most similar name; else an empty text."""
    folders = (run.parent, runs / run.parent, runs / run.parent / "trials")
    name = most_similar(run.name, [path.parent.name for folder in folders for path in folder.glob("*/experiment.yaml")])
    return f", did you mean `{run.parent / name}`?" if name not in (None, run.name) else ""


def _runs_there(runs: Path) -> str:
    names = sorted(path.parent.name for path in runs.glob("*/experiment.yaml"))
    if not names:
        return f"there is no run in {runs}; start with hcl train"
    more = f" and {len(names) - _MOST:,} more: hcl results list" if len(names) > _MOST else ""
    return f"runs in {runs}: {', '.join(names[:_MOST])}{more}"


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

"""Show a study: as a live table, by its status from another terminal, and at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import results
from orchestration.console import fits, out, page, score_text, settings_text, short_names, short_value, show_trial
from orchestration.state.study_state import study_state
from orchestration.training.run_files import PROGRESS
from results.tables.cells import points

if TYPE_CHECKING:
    from orchestration.sweeps.confirm import Candidate
    from orchestration.sweeps.fused_trials import FusedTrial
    from search_spaces import Space

_ROWS = 20
_IMPORTANT = 6


class StudyTable:
    """Show a study as a live table on a terminal, and elsewhere, such as in a job's log, as a line for each trial."""

    def __init__(self, space: Space, folder: Path, n_trials: int):
        self._space, self._folder, self._n_trials = space, folder, n_trials
        self._live = Live(Text("starting"), console=out, auto_refresh=False) if out.is_terminal else None

    def __enter__(self) -> StudyTable:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def ended(self, trial: results.TrialRecord) -> None:
        """Show a trial's end: a line for a failure, or for each trial if there is no live table."""
        if self._live is None or trial.state == "failed":
            show_trial(trial)

    def show(self, trials: Sequence[results.TrialRecord]) -> None:
        """Show the current state of all trials."""
        if self._live is not None:
            mode = self._space.objective.mode
            self._live.update(trials_table(self._folder, trials, mode, self._n_trials), refresh=True)


def trials_table(folder: Path, trials: Sequence[results.TrialRecord], mode: str, n_trials: int) -> Table:
    """Return a table of the running trials and the last ones that ended, with their varying parameters."""
    pick = max if mode == "max" else min
    varying = _varying(trials)
    so_far: dict[str, float] = {}
    for trial in trials:
        if trial.value is not None and trial.state in ("complete", "pruned"):
            so_far[trial.trial] = pick([*list(so_far.values())[-1:], trial.value])
    counts = {
        state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed", "running")
    }
    state_counts = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    running = [trial for trial in trials if trial.state == "running"]
    ended = [trial for trial in trials if trial.state != "running"]
    shown = [*ended[-max(1, _ROWS - len(running)) :], *running]
    rows = [
        (trial.trial, _epoch(folder, trial), *map(score_text, (trial.value, so_far.get(trial.trial))), trial.state)
        for trial in shown
    ]
    title = f"{state_counts or 'no trial yet'} of {n_trials}"
    return _with_parameters(("trial", "epoch", "objective", "best so far", "state"), rows, shown, varying, title)


def _with_parameters(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    trials: Sequence[results.TrialRecord],
    varying: Sequence[str],
    title: str,
) -> Table:
    """Return a table with a row for each trial and its varying parameters, in a column each or, if too wide, in one."""
    alike, names = short_names(varying)
    wide = Table(*headers, *names, title=f"{title}; {alike}*" if alike else title, box=SIMPLE_HEAD)
    narrow = Table(*headers, f"{alike}*" if alike else "values", title=title, box=SIMPLE_HEAD)
    for row, trial in zip(rows, trials, strict=True):
        values = {path: trial.params.get(path) for path in varying}
        wide.add_row(*row, *map(short_value, values.values()))
        narrow.add_row(*row, settings_text(values))
    return wide if fits(wide) else narrow


def show_status(folder: Path) -> None:
    """Show a study's trials and state: `hcl sweep --status`. Raises RecordError."""
    record, trials = results.read_sweep(folder), results.read_trials(folder)
    page().print(trials_table(folder, trials, record.mode, record.n_trials), soft_wrap=False)
    for trial in trials:
        if trial.state == "failed":
            out.print(
                f"{trial.trial} failed: {escape(trial.error or '')} ({trial.log})", soft_wrap=True, highlight=False
            )
    if record.reproducible is not None:
        out.print(order_text(reproducible=record.reproducible, lag=record.lag), soft_wrap=True)
    out.print(escape(study_state(folder).text()), soft_wrap=True)


def order_text(*, reproducible: bool, lag: int | None) -> str:
    """Return a sentence on whether a study can be repeated, and with which lag."""
    if not reproducible:
        return "not reproducible: trials are chosen and stopped as results come"
    return "reproducible by its seed" + (f" and --lag {lag}" if lag is not None else "")


def show_end(record: results.SweepRecord, trials: Sequence[results.TrialRecord], n_best: int = 5) -> None:
    """Show the best trials, the Pareto front if there is one, and the importances of the parameters."""
    sign = -1 if record.mode == "max" else 1
    scored = sorted(
        (trial for trial in trials if trial.value is not None and trial.state != "failed"),
        key=lambda trial: sign * (trial.value or 0.0),
    )
    front = [trial for trial in trials if trial.trial in record.pareto]
    varying = _varying(trials)
    metrics = list(dict.fromkeys(metric for trial in front for metric in trial.values)) or [record.objective]
    fused = ["as trained", "fusion"] if any(trial.fusion for trial in trials) else []
    title = "Pareto front: no other trial is better in all objectives" if front else "best trials"
    shown, rows = front or scored[:n_best], []
    for trial in shown:
        values = [trial.values.get(metric) for metric in metrics] if front else [trial.value]
        stages = [score_text(trial.unfused), settings_text(trial.fusion)] if fused else []
        rows.append([trial.trial, *map(score_text, values), *stages])
    page().print(_with_parameters(["trial", *metrics, *fused], rows, shown, varying, title), soft_wrap=False)
    if any(trial.round for trial in trials) and record.best_trial:
        page().print(_lineage(trials, record.best_trial, varying), soft_wrap=False)
    if record.importances:
        shares = list(record.importances.items())[:_IMPORTANT]
        out.print(
            "importance of parameters: " + ", ".join(f"{path} {100 * share:.0f}%" for path, share in shares),
            soft_wrap=True,
        )
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        out.print(
            f"{len(failed)} of {len(trials)} trials failed, the last: {escape(failed[-1].error or '')}", soft_wrap=True
        )


def show_fused(fused: Sequence[FusedTrial], n_best: int = 5) -> None:
    """Show the best trials with their values from training and those at their best fusion."""
    table = Table(
        "trial",
        "trained",
        "published fusion",
        "best fusion",
        "its settings",
        title="at their best fusion, on val",
        box=SIMPLE_HEAD,
    )
    for trial in fused[:n_best]:
        numbers = map(score_text, (trial.trained, trial.published, trial.fused))
        table.add_row(trial.trial, *numbers, settings_text(trial.settings))
    page().print(table, soft_wrap=False)


def show_candidates(candidates: Sequence[Candidate]) -> None:
    """Show the result of a confirmation: each candidate's seeds, and how far it is behind the winner."""
    table = Table(
        "trial", "seeds", "mean", "behind the winner", title="the best trials with new seeds", box=SIMPLE_HEAD
    )
    for candidate in candidates:
        lead = candidate.behind.difference if candidate.behind else None
        behind = "" if lead is None else f"{points(lead.mean)} ± {points(lead.half_width)}"
        table.add_row(
            candidate.trial,
            ", ".join(score_text(value) for value in candidate.values.values()),
            score_text(candidate.mean),
            behind,
        )
    page().print(table, soft_wrap=False)
    close = [candidate.trial for candidate in candidates[1:] if not candidate.is_significantly_behind]
    if close:
        out.print(
            f"no significant difference to {candidates[0].trial}: {', '.join(close)}; train more seeds to decide",
            soft_wrap=True,
        )
    elif len(candidates) > 1:
        out.print(f"{candidates[0].trial} is significantly better than the others over seeds", soft_wrap=True)


def _lineage(trials: Sequence[results.TrialRecord], name: str, varying: Sequence[str]) -> Table:
    """Return a table of the history of a population's best trial: its rounds with their values."""
    by_name = {trial.trial: trial for trial in trials}
    line: list[results.TrialRecord] = []
    parent: str | None = name
    while parent in by_name:
        line.insert(0, by_name[parent])
        parent = line[0].parent
    rows = [(str(trial.epochs), trial.trial, str(trial.member)) for trial in line]
    return _with_parameters(("until epoch", "trial", "member"), rows, line, varying, f"history of {name}")


def _epoch(folder: Path, trial: results.TrialRecord) -> str:
    """Return the number of finished epochs, or the progress of the current epoch for a running trial."""
    if trial.state == "running":
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            now = json.loads((folder / "trials" / Path(trial.trial).name / PROGRESS).read_text())
            return f"{now['epoch']}/{now['epochs']}, step {now['step']}/{now['steps']}"
    return str(trial.epochs)


def _varying(trials: Sequence[results.TrialRecord]) -> list[str]:
    paths = dict.fromkeys(path for trial in trials for path in trial.params)
    return [path for path in paths if len({json.dumps(trial.params.get(path)) for trial in trials}) > 1]

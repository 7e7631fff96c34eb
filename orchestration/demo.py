"""Turn videos into a results page in a few minutes, with the same steps as the separate commands: `hcl demo`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import results
from hcl.config.resolve import override, resolve
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.synthetic.benchmark import ACTIONS, DOMAINS, dataset_name, make_benchmark
from orchestration.console import out, print_table, show_epoch, show_records, show_trial, show_trials
from orchestration.evaluation.evaluate import evaluate
from orchestration.evaluation.explain import Explainer
from orchestration.evaluation.questions import Target, encodings, questions_of
from orchestration.extraction.extract import extract_dataset
from orchestration.reports.report import make_report
from orchestration.runtime.connect import connect
from orchestration.runtime.progress import progress
from orchestration.sweeps.records import best_experiment
from orchestration.sweeps.study import Study
from orchestration.sweeps.sweep import sweep
from orchestration.training.train import train
from results.tables.trials import lead_of_best, lead_text
from search_spaces import load_space

VIDEOS_PER_CLASS = 14
TRIALS = 6
TRAIN_EPOCHS = 10  # for the longer training with the best trial's settings
EXAMPLES = 2  # pictures of right queries, and as many of wrong ones
METHODS = ("hcl", "untrained", "random", "prototype")


def run_demo(*, data: Path, runs: Path, seed: int = 0, address: str | None = None, command: str = "") -> None:
    """Make videos, extract, sweep, train the best, evaluate, explain, report; repeated, it goes on."""
    began = time.monotonic()
    data, runs = Path(data).absolute(), Path(runs).absolute()
    base = resolve("demo", {"seed": seed}).experiment
    with _step("videos of 36 actions in five domains"):
        total = len(DOMAINS) * len(ACTIONS) * VIDEOS_PER_CLASS
        with progress(total, "make videos", "videos") as advance:
            make_benchmark(
                data,
                videos_per_class=VIDEOS_PER_CLASS,
                size=base.clips.size,
                seed=seed,
                on_video=lambda done, total: advance(),
            )
    with connect(address):
        with _step("frames, by Ray actors"):
            for domain in DOMAINS:
                summary = extract_dataset(StoredDataset(data, dataset_name(domain)), short_side=base.clips.size)
                out.print(f"{summary.dataset}: {summary.n_ok} extracted, {summary.n_skipped} there already")
        with _step(f"{TRIALS} trials by Ray Tune and Optuna"):
            experiment = override(base, {"name": "demo-sweep"})
            study = Study(experiment, load_space("two_stage"), DataRoot(data), runs, TRIALS, seed)
            record, trials = sweep(study, command=command, on_trial=show_trial)
            show_trials(study.folder)
        with _step("the best trial's settings, trained for longer by Ray Train on two workers"):
            length = {"name": "demo", "train.epochs": TRAIN_EPOCHS, "train.workers": 2}
            best = override(best_experiment(study, trials), length)
            run = train(best, data=DataRoot(data), runs=runs, command=command, on_epoch=show_epoch)
        with _step("5 data sets x 5 shots, by Ray actors"):
            questions = questions_of([Target(run.folder, best, methods=METHODS)], DataRoot(data))
            answers = evaluate(questions, runs=runs, command=command, on_cell=show_records)
            out.print(encodings(questions, answers.n_encoded))
    with _step("single queries, explained"):
        explainer = Explainer(run.folder, best, data=DataRoot(data), command=command)
        for explained in explainer.examples(EXAMPLES, seed=seed):
            out.print(f"{explained.query}: taken for {explained.scores[0][0]}", markup=False)
    page = make_report([run.folder, study.folder], run.folder / "report", title="HCL demo", command=command).page
    out.print()
    print_table([run.folder])
    out.print(f"best trial {record.best_trial}: {', '.join(f'{k}={v:.3g}' for k, v in _best(record, trials).items())}")
    if lead := _lead(record, trials):
        out.print(lead, soft_wrap=True)
    out.print(f"page:        {page}", soft_wrap=True)
    out.print(f"tables:      {page.parent}", soft_wrap=True)
    out.print(f"checkpoints: {run.folder / 'checkpoints'}", soft_wrap=True)
    out.print(f"study:       {study.folder}", soft_wrap=True)
    out.print(f"done in {time.monotonic() - began:.0f} s")


def _best(record: results.SweepRecord, trials: list[results.TrialRecord]) -> dict[str, float]:
    return next(trial.params for trial in trials if trial.trial == record.best_trial)


def _lead(record: results.SweepRecord, trials: list[results.TrialRecord]) -> str:
    """Return a sentence about the best trial's lead over the second; empty for a single trial."""
    ended = {trial.trial: trial.value for trial in trials if trial.value is not None and trial.state != "failed"}
    lead = lead_of_best(ended, record.mode)
    return lead_text(lead, record.objective) if lead else ""


@contextmanager
def _step(title: str) -> Iterator[None]:
    out.rule(title)
    began = time.monotonic()
    yield
    out.print(f"[dim]{time.monotonic() - began:.0f} s[/]")

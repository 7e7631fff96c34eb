"""Turn videos into a results page in a few minutes, with the same steps as the separate commands: `hcl demo`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import results
from hcl.config import Experiment
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


@dataclass(frozen=True)
class DemoPlan:
    """Hold the sizes of a demo.

    Attributes:
        name: of the run; its study is called NAME-sweep.
        domains: visual domains of the videos, one a data set; the first is trained on.
        train_epochs: epochs of the longer training with the best trial's settings.
        examples: pictures of right queries, and as many of wrong ones.
        settings: changes to the experiment `demo`, by dotted path.
        caution: what its figures must not be taken for; on the page and in the output.
    """

    name: str = "demo"
    domains: tuple[str, ...] = DOMAINS
    videos_per_class: int = 14
    trials: int = 6
    train_epochs: int = 10
    examples: int = 2
    methods: tuple[str, ...] = ("hcl", "untrained", "random", "prototype")
    settings: Mapping[str, Any] = field(default_factory=dict)
    caution: str = ""

    def experiment(self, seed: int) -> Experiment:
        """Return the experiment of the study's trials."""
        datasets = [dataset_name(domain) for domain in self.domains]
        own = {"name": f"{self.name}-sweep", "seed": seed, "evaluation.datasets": datasets, **self.settings}
        return resolve("demo", own).experiment


FULL = DemoPlan()
QUICK = DemoPlan(
    name="demo-quick",
    domains=("plain", "cluttered"),
    videos_per_class=6,
    trials=2,
    train_epochs=2,
    examples=1,
    methods=("hcl", "prototype"),
    settings={
        "clips.n_frames": 4,
        "model.cached_views": 1,
        "optim.warmup_epochs": 0,
        "train.epochs": 1,
        "train.batches_per_epoch": 6,
        "train.val_shot": 1,
        "train.val_episodes": 30,
        "evaluation.shots": [1, 3],
        "evaluation.queries": 3,
        "evaluation.episodes": 200,
    },
    caution="The quick demo shows the way from videos to a page. Its accuracies mean nothing: it trains for seconds on "
    "few videos. `hcl demo` takes some minutes and has the figures.",
)


def run_demo(
    *,
    data: Path,
    runs: Path,
    seed: int = 0,
    address: str | None = None,
    command: str = "",
    plan: DemoPlan = FULL,
) -> None:
    """Make videos, extract, sweep, train the best, evaluate, explain, report; repeated, it goes on."""
    began = time.monotonic()
    data, runs = Path(data).absolute(), Path(runs).absolute()
    base = plan.experiment(seed)
    if plan.caution:
        out.print(plan.caution, highlight=False)
    with _step(f"videos of {len(ACTIONS)} actions in {len(plan.domains)} domains"):
        total = len(plan.domains) * len(ACTIONS) * plan.videos_per_class
        with progress(total, "make videos", "videos") as advance:
            make_benchmark(
                data,
                domains=plan.domains,
                videos_per_class=plan.videos_per_class,
                size=base.clips.size,
                seed=seed,
                on_video=lambda done, total: advance(),
            )
    with connect(address):
        with _step("frames, by Ray actors"):
            for domain in plan.domains:
                summary = extract_dataset(StoredDataset(data, dataset_name(domain)), short_side=base.clips.size)
                out.print(f"{summary.dataset}: {summary.n_ok} extracted, {summary.n_skipped} there already")
        with _step(f"{plan.trials} trials by Ray Tune and Optuna"):
            study = Study(base, load_space("two_stage"), DataRoot(data), runs, plan.trials, seed)
            record, trials = sweep(study, command=command, on_trial=show_trial)
            show_trials(study.folder)
        with _step("the best trial's settings, trained for longer by Ray Train on two workers"):
            length = {"name": plan.name, "train.epochs": plan.train_epochs, "train.workers": 2}
            best = override(best_experiment(study, trials), length)
            run = train(best, data=DataRoot(data), runs=runs, command=command, on_epoch=show_epoch)
        n_shots = len(best.evaluation.shots)
        with _step(f"{len(plan.domains)} data sets x {n_shots} shots, by Ray actors"):
            questions = questions_of([Target(run.folder, best, methods=plan.methods)], DataRoot(data))
            answers = evaluate(questions, runs=runs, command=command, on_cell=show_records)
            out.print(encodings(questions, answers.n_encoded))
    with _step("single queries, explained"):
        explainer = Explainer(run.folder, best, data=DataRoot(data), command=command)
        for explained in explainer.examples(plan.examples, seed=seed):
            out.print(f"{explained.query}: taken for {explained.scores[0][0]}", markup=False)
    folders, report = [run.folder, study.folder], run.folder / "report"
    page = make_report(folders, report, title="HCL demo", command=command, caution=plan.caution).page
    out.print()
    print_table([run.folder])
    out.print(f"best trial {record.best_trial}: {', '.join(f'{k}={v:.3g}' for k, v in _best(record, trials).items())}")
    if lead := _lead(record, trials):
        out.print(lead, soft_wrap=True)
    out.print(f"page:        {page}", soft_wrap=True)
    out.print(f"tables:      {page.parent}", soft_wrap=True)
    out.print(f"checkpoints: {run.folder / 'checkpoints'}", soft_wrap=True)
    out.print(f"study:       {study.folder}", soft_wrap=True)
    if plan.caution:
        out.print(plan.caution, highlight=False)
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

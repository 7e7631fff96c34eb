"""Turn checkpoints, data sets and shots into the questions of an evaluation, and check them before work starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results
from hcl.assembly import arguments, inputs
from hcl.assembly.experiment_files import load_resolved
from hcl.clips.episode_files import EpisodeList, lists_for
from hcl.config import Experiment
from hcl.config.resolve import changes
from hcl.errors import ConfigError, did_you_mean
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.methods import is_trained, methods_of, named
from orchestration.evaluation.tables import Cell
from orchestration.evaluation.training_state import Unfinished, unfinished
from orchestration.planning.preflight import evaluation_faults, raise_faults
from orchestration.training.run_files import BEST


@dataclass(frozen=True)
class Target:
    """Describe a run to evaluate on the data sets, partition and shots of `experiment.evaluation`.

    Attributes:
        folder: the run's folder, into which records are written.
        experiment: the run's experiment, with changed evaluation settings.
        checkpoint: the checkpoint of trained methods; None: the run's best.
        methods: some of `methods_of(experiment)`; empty: the run's own.
        label: name of the run's own method in records, if its fusion has a name; otherwise settings that make it
            another method are added to the method's name.
    """

    folder: Path
    experiment: Experiment
    checkpoint: Path | None = None
    methods: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Question:
    """Describe one cell of the table: a method on the episodes of a data set at one shot.

    Attributes:
        record: fields of its record other than the figures.
    """

    folder: Path
    cell: Cell
    asked: EpisodeList
    record: dict[str, Any]

    def reason(self) -> str | None:
        """Return why it cannot be answered from pairs; None if it can."""
        return self.cell.how.reason(self.asked.episodes.shot)

    @property
    def file(self) -> Path:
        """Return the file of its record, which does not depend on the figures."""
        return results.evaluation_file(self.folder, results.EvaluationRecord(**self.record, accuracy=0.0, ci95=None))


def questions_of(
    targets: Sequence[Target], data: DataRoot, *, episodes: Sequence[EpisodeList] | None = None
) -> list[Question]:
    """Return every question about the targets after checks; nothing is computed or written.

    Args:
        episodes: use these instead of those that `experiment.evaluation` would sample.

    Raises:
        ConfigError: if a run does not have a method, a fusion needs pairs but has none, or two questions would write
            the same record.
        DataError, SplitError, EpisodeError: if the data sets cannot provide the episodes, or the names of the classes.
        CheckpointError: if there is no checkpoint.
    """
    asked_of = [(target.experiment, dataset) for target in targets for dataset in _datasets(target)]
    raise_faults(evaluation_faults(asked_of, data, drawn=episodes is None))
    questions = []
    for target in targets:
        evaluation, settings = target.experiment.evaluation, target.folder / "experiment.yaml"
        own = load_resolved(settings) if settings.exists() else target.experiment
        for dataset in _datasets(target):
            stored = data.dataset(dataset)
            partition = stored.effective(evaluation.partition, keep_copies=target.experiment.asks_copies)
            if episodes is None:
                sampled = inputs.evaluation_episodes(target.experiment, partition)
                lists = [EpisodeList.of(partition, one, seed=evaluation.seed) for one in sampled]
            else:
                lists = lists_for(partition, episodes)
            for method in _methods(target):
                cell = Cell(method, target.experiment, stored, partition, _weights(target, method))
                cell.embeddings()  # a class without a name's embedding is told now
                state = unfinished(target.folder, own, cell.checkpoint) if cell.checkpoint else None
                questions += [
                    Question(target.folder.absolute(), cell, asked, _record_fields(target, cell, asked, own, state))
                    for asked in lists
                ]
    for question in questions:
        arguments.check_fusion(question.cell.experiment, question.reason())
    _check_files(question.file for question in questions)
    return questions


def encodings(questions: Sequence[Question], n_encoded: int) -> str:
    """Return how many clips were encoded, and how many an evaluation episode by episode would encode."""
    cells = dict.fromkeys(question.cell for question in questions)
    n_views = sum(cell.n_clips * cell.views for cell in cells)
    naive = sum(
        question.cell.views * (question.asked.episodes.support.size + question.asked.episodes.query.size)
        for question in questions
    )
    what = "clips" if all(cell.views == 1 for cell in cells) else "views of clips"
    return f"encoded {n_encoded:,} of {n_views:,} {what}, an evaluation episode by episode would encode {naive:,}"


def one_by_one_notes(questions: Sequence[Question]) -> list[str]:
    """Return which questions are scored episode by episode, and why."""
    notes = {
        f"{question.cell.method} on {question.cell.partition.dataset}, {question.asked.episodes.shot}-shot is scored "
        f"episode by episode: {question.reason()}"
        for question in questions
        if question.reason()
    }
    return sorted(notes)


def _datasets(target: Target) -> tuple[str, ...]:
    return target.experiment.evaluation.datasets or (target.experiment.data.dataset,)


def _methods(target: Target) -> tuple[str, ...]:
    available = methods_of(target.experiment)
    if unknown := [method for method in target.methods if method not in available]:
        raise ConfigError(
            f"method {unknown[0]!r} does not exist for this run, which was trained as "
            f"{target.experiment.regime_name}{did_you_mean(unknown[0], available)}",
            where=str(target.folder),
            remedy=f"one of {', '.join(available)}",
        )
    return target.methods or available[:1]


def _weights(target: Target, method: str) -> Path | None:
    if not is_trained(method, target.experiment):
        return None
    return (target.checkpoint or target.folder / BEST).absolute()


def _check_files(files: Iterable[Path]) -> None:
    seen = set()
    for file in files:
        if file in seen:
            raise ConfigError(
                "two questions of this job would write the same record",
                where=str(file),
                remedy="give each run, method, data set and shot once: a record's name does not include its episodes",
            )
        seen.add(file)


def _record_fields(
    target: Target, cell: Cell, asked: EpisodeList, own: Experiment, state: Unfinished | None
) -> dict[str, Any]:
    """Return the fields of a record other than its figures; `own` is the experiment of the run."""
    experiment, episodes = cell.experiment, asked.episodes
    evaluation = experiment.evaluation
    is_best = cell.checkpoint is None or cell.checkpoint == (target.folder / BEST).absolute()
    is_labelled = bool(target.label) and cell.method == experiment.regime_name
    name = target.label if is_labelled else named(cell.method, cell.method, own, experiment)
    return {
        "run": target.folder.name,
        "method": name if is_best else f"{name} {cell.checkpoint.stem}",  # type: ignore[union-attr]
        "train_dataset": experiment.data.dataset,
        "dataset": cell.partition.dataset,
        "partition": cell.partition.name,
        "way": episodes.way,
        "shot": episodes.shot,
        "queries": episodes.n_queries,
        "episodes": len(episodes),
        "seed": asked.seed,
        "protocol": experiment.data.protocol,
        "evaluation_protocol": evaluation.protocol,
        "overlapping": evaluation.protocol == "standard" and (evaluation.overlapping or episodes.is_overlapping),
        "mode": experiment.mode,
        "leaks_labels": cell.how.reads_names and arguments.defects(experiment).misplaced_semantics,
        "metric": cell.how.metric(episodes.shot),
        "split_digest": cell.partition.digest(),
        "episodes_digest": asked.digest(),
        "experiment_digest": experiment.digest(workers=own.train.workers),
        "digests": cell.digests,
        "checkpoint": str(cell.checkpoint or ""),
        "checkpoint_digest": cell.checkpoint_digest,
        "checkpoint_epoch": state.epoch if state else None,
        "epochs_done": state.done if state else None,
        "on_gpu": experiment.train.use_gpu,
        "n_clips": cell.n_clips,
        "n_classes": len(cell.partition.classes),
        "settings": changes(own, experiment),
    }

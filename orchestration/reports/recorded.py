"""Read how a result was made from its records, to reproduce it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.clips.episode_files import EpisodeList
from hcl.clips.episodes import Episodes
from hcl.config import MACHINE_SETTINGS, PUBLISHED_EVALUATION, Experiment, settings_digest
from hcl.config.paths import flatten, nest
from hcl.config.resolve import override
from hcl.config.strict_yaml import read_yaml
from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.fuse import named_fusions
from orchestration.evaluation.methods import methods_of, plain_name
from orchestration.evaluation.questions import Question, Target, questions_of
from orchestration.training.run_files import BEST, FUSION, IMPORTED
from results.records.outcomes import read_questions


@dataclass(frozen=True)
class Recorded:
    """Hold a result that is to be reproduced.

    Attributes:
        written: paths of the settings in its experiment.yaml; this version may have more.
        provenance: provenance of a run that is trained again; None: only its checkpoint is evaluated again.
        records: evaluation records by file.
    """

    folder: Path
    experiment: Experiment
    written: frozenset[str]
    provenance: results.Provenance | None
    records: dict[Path, results.EvaluationRecord]

    def digest(self, experiment: Experiment) -> str:
        """Return the digest that the version that wrote the run would give, without settings that were added since."""
        return self._digest(experiment, None)

    def _digest(self, experiment: Experiment, workers: int | None) -> str:
        content = flatten(experiment.identity(workers), "experiment")
        identity = nest({path: value for path, value in content.items() if path in self.written})
        return settings_digest(identity)

    def digest_here(self, experiment: Experiment, recorded: str) -> str:
        """Return the digest of settings for comparison with one that was recorded after the run.

        It is computed as in the run's version, as in this one, or as in versions that left the number of workers out.
        It is empty if none of them matches and a version between, with some of the settings that were added since, may
        have made the recorded one.
        """
        then = self.digest(experiment)
        if recorded in (then, experiment.digest(), self._digest(experiment, 1), experiment.digest(1)):
            return recorded
        return "" if self.added() else then

    def added(self) -> dict[str, Any]:
        """Return the settings of this version that the run's file lacks, with the values that are used for them."""
        here = flatten(self.experiment.model_dump(mode="json", exclude=MACHINE_SETTINGS), "experiment")
        return {path: value for path, value in here.items() if path not in self.written}


def read_recorded(path: Path) -> Recorded:
    """Read a run's folder with its evaluations, or one evaluation record of a run.

    Raises:
        ConfigError: if it is neither, or a study.
        RecordError: if a record is damaged.
    """
    is_record = path.is_file() and path.suffix == ".json"
    folder = path.resolve().parent.parent if is_record else path
    if (folder / "sweep.json").exists():
        raise ConfigError(
            "is a study, whose trials are the runs",
            where=str(path),
            remedy=f"use {folder / 'trials'}/NAME, or repeat `{results.read_sweep(folder).command}`",
        )
    if not (folder / "experiment.yaml").exists():
        raise ConfigError(
            "is neither a run nor an evaluation record of one: no experiment.yaml",
            where=str(path),
            remedy="use RUN or RUN/evaluation/FILE.json; `hcl results list` shows the runs",
        )
    settings = folder / "experiment.yaml"
    experiment = load_resolved(settings)
    written = frozenset(flatten(read_yaml(settings, str(settings)), str(settings)))
    if is_record:
        return Recorded(folder, experiment, written, None, {path: results.read_evaluation(path)})
    files = sorted((folder / "evaluation").glob("*.json"))
    provenance = results.read_provenance(folder) if (folder / "provenance.json").exists() else None
    provenance = provenance or results.Provenance(command="")
    return Recorded(
        folder,
        experiment,
        written,
        None if (folder / IMPORTED).exists() else provenance,
        {file: results.read_evaluation(file) for file in files},
    )


def experiment_of(recorded: Recorded, record: results.EvaluationRecord) -> Experiment:
    """Return the settings of a record; older records hold only a part of them."""
    experiment = override(recorded.experiment, record.settings)
    if (
        record.experiment_digest
        and recorded.digest_here(experiment, record.experiment_digest) == record.experiment_digest
    ):
        return experiment
    if not record.settings and (recorded.folder / FUSION).exists():
        experiment = override(experiment, named_fusions(recorded.folder).get(record.method, {}))
    if record.evaluation_protocol == "published" and experiment.evaluation.protocol != "published":
        experiment = override(experiment, PUBLISHED_EVALUATION)
    changes = {name: getattr(record, name) for name in ("partition", "way", "queries", "episodes", "seed")}
    changes = {name: value for name, value in changes.items() if getattr(experiment.evaluation, name) != value}
    if record.shot not in experiment.evaluation.shots:
        changes["shots"] = [record.shot]
    if record.dataset not in (experiment.evaluation.datasets or (experiment.data.dataset,)):
        changes["datasets"] = [record.dataset]
    return override(experiment, {f"evaluation.{name}": value for name, value in changes.items()})


def target_of(recorded: Recorded, record: results.EvaluationRecord, folder: Path) -> Target:
    experiment = experiment_of(recorded, record)
    name, checkpoint = record.method, None
    if record.checkpoint and Path(record.checkpoint).name != Path(BEST).name:
        checkpoint = folder / "checkpoints" / Path(record.checkpoint).name
        name = name.removesuffix(f" {checkpoint.stem}")
    is_known = plain_name(name) in methods_of(experiment)
    method = plain_name(name) if is_known else experiment.regime_name
    return Target(folder, experiment, checkpoint, (method,), "" if is_known else name)


class Asking:
    """Ask the questions of a result's records, which the run in `folder` is to answer.

    The records of several shots share a target, whose episodes are sampled and whose checkpoint is read once.
    """

    def __init__(self, recorded: Recorded, folder: Path, data: DataRoot):
        self.recorded, self.folder, self.data = recorded, folder, data
        self._questions: dict[Target, list[Question]] = {}

    def sampled(self, record: results.EvaluationRecord) -> Question | None:
        """Return the question of a record's settings; None if they have none at its shot. Raises as `questions_of`."""
        target = target_of(self.recorded, record, self.folder)
        if target not in self._questions:
            self._questions[target] = questions_of([target], self.data)
        cell = (record.dataset, record.shot)
        questions = self._questions[target]
        return next(
            (question for question in questions if (question.asked.dataset, question.asked.episodes.shot) == cell), None
        )

    def question(self, file: Path) -> Question:
        """Return the question of a record, with the episodes that were kept beside it if the settings sample others.

        Raises ConfigError if the settings sample others and none were kept.
        """
        record = self.recorded.records[file]
        question = self.sampled(record)
        if question is not None and question.asked.digest() == record.episodes_digest:
            return question
        try:
            kept = read_questions(file.parent, record.episodes_digest)
        except results.RecordError as error:
            raise ConfigError(
                f"its episodes ({record.episodes_digest or 'without a digest'}) are not those that its settings "
                "sample here, and none are kept beside it",
                where=str(file),
                remedy="use the split with which it was made, or evaluate again: hcl evaluate",
            ) from error
        target = target_of(self.recorded, record, self.folder)
        only = override(target.experiment, {"evaluation.datasets": [record.dataset]})
        episodes = Episodes(kept.classes, kept.support, kept.query)
        lists = [EpisodeList(record.dataset, record.partition, record.split_digest, record.seed, episodes)]
        return questions_of([replace(target, experiment=only)], self.data, episodes=lists)[0]

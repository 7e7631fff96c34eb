"""A result that is to be made again: what its records say of how it was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import results
from hcl.clips.episode_files import EpisodeList
from hcl.clips.episodes import Episodes
from hcl.config import MACHINE_SETTINGS, PUBLISHED_EVALUATION, Experiment, settings_digest
from hcl.config.paths import flatten, nest
from hcl.config.resolve import load_resolved, override
from hcl.config.strict_yaml import read_yaml
from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.fuse import named_fusions
from orchestration.evaluation.methods import methods_of, plain_name
from orchestration.evaluation.questions import Question, Target, questions_of
from orchestration.training.release_import import IMPORTED
from orchestration.training.run import BEST, FUSION
from results.records.outcomes import read_questions


@dataclass(frozen=True)
class Recorded:
    """What is to be made again.

    Attributes:
        written: the settings that its experiment.yaml holds, by dotted path; this version may have more.
        provenance: of a run that is trained again; None: its checkpoint is asked again.
        records: evaluation records by their files.
    """

    folder: Path
    experiment: Experiment
    written: frozenset[str]
    provenance: results.Provenance | None
    records: dict[Path, results.EvaluationRecord]

    def digest(self, experiment: Experiment) -> str:
        """As the version that wrote the run would have it: without the settings that were added since."""
        return self._digest(experiment, None)

    def _digest(self, experiment: Experiment, workers: int | None) -> str:
        content = flatten(experiment.identity(workers), "experiment")
        known = nest({path: value for path, value in content.items() if path in self.written})
        return settings_digest(known)

    def digest_here(self, experiment: Experiment, recorded: str) -> str:
        """The digest of settings, for comparison with one that was recorded after the run.

        Either as the run's version or as this one has it, or as versions had it that left the number of workers out;
        empty where it is none of them and a version between, with some of the settings that were added since, may have
        made it.
        """
        then = self.digest(experiment)
        if recorded in (then, experiment.digest(), self._digest(experiment, 1), experiment.digest(1)):
            return recorded
        return "" if self.added() else then

    def added(self) -> dict[str, Any]:
        """Settings of this version that the run's file does not have, with the values that they are taken with."""
        here = flatten(self.experiment.model_dump(mode="json", exclude=MACHINE_SETTINGS), "experiment")
        return {path: value for path, value in here.items() if path not in self.written}


def read_recorded(path: Path) -> Recorded:
    """A run's folder with its evaluations, or one evaluation record of a run.

    Raises:
        ConfigError: it is neither, or a study.
        RecordError: a damaged record.
    """
    is_record = path.is_file() and path.suffix == ".json"
    folder = path.resolve().parent.parent if is_record else path
    if (folder / "sweep.json").exists():
        raise ConfigError(
            "is a study: its trials are runs of their own",
            where=str(path),
            remedy=f"name {folder / 'trials'}/NAME, or repeat `{results.read_sweep(folder).command}`",
        )
    if not (folder / "experiment.yaml").exists():
        raise ConfigError(
            "is neither a run nor an evaluation record of one: no experiment.yaml",
            where=str(path),
            remedy="name RUN or RUN/evaluation/FILE.json; `hcl results list` knows the runs",
        )
    settings = folder / "experiment.yaml"
    experiment = load_resolved(settings)
    written = frozenset(flatten(read_yaml(settings, str(settings)), str(settings)))
    if is_record:
        return Recorded(folder, experiment, written, None, {path: results.read_evaluation(path)})
    files = sorted((folder / "evaluation").glob("*.json"))
    known = results.read_provenance(folder) if (folder / "provenance.json").exists() else None
    known = known or results.Provenance(command="")
    return Recorded(
        folder,
        experiment,
        written,
        None if (folder / IMPORTED).exists() else known,
        {file: results.read_evaluation(file) for file in files},
    )


def experiment_of(recorded: Recorded, record: results.EvaluationRecord) -> Experiment:
    """The settings that a record was made with; older records tell but a part of them."""
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
    told = {name: getattr(record, name) for name in ("partition", "way", "queries", "episodes", "seed")}
    told = {name: value for name, value in told.items() if getattr(experiment.evaluation, name) != value}
    if record.shot not in experiment.evaluation.shots:
        told["shots"] = [record.shot]
    if record.dataset not in (experiment.evaluation.datasets or (experiment.data.dataset,)):
        told["datasets"] = [record.dataset]
    return override(experiment, {f"evaluation.{name}": value for name, value in told.items()})


def target_of(recorded: Recorded, record: results.EvaluationRecord, folder: Path) -> Target:
    experiment = experiment_of(recorded, record)
    name, checkpoint = record.method, None
    if record.checkpoint and Path(record.checkpoint).name != Path(BEST).name:
        checkpoint = folder / "checkpoints" / Path(record.checkpoint).name
        name = name.removesuffix(f" {checkpoint.stem}")
    is_known = plain_name(name) in methods_of(experiment)
    method = plain_name(name) if is_known else experiment.train.regime
    return Target(folder, experiment, checkpoint, (method,), "" if is_known else name)


class Asking:
    """Asks the questions of a result's records, for the run in `folder` to answer.

    The records of several shots share a target, whose episodes are sampled and whose checkpoint is read once.
    """

    def __init__(self, recorded: Recorded, folder: Path, data: DataRoot):
        self.recorded, self.folder, self.data = recorded, folder, data
        self._asked: dict[Target, list[Question]] = {}

    def sampled(self, record: results.EvaluationRecord) -> Question | None:
        """What a record's settings ask here; None where they ask nothing at its shot. Raises as `questions_of`."""
        target = target_of(self.recorded, record, self.folder)
        if target not in self._asked:
            self._asked[target] = questions_of([target], self.data)
        cell = (record.dataset, record.shot)
        asked = self._asked[target]
        return next((one for one in asked if (one.asked.dataset, one.asked.episodes.shot) == cell), None)

    def question(self, file: Path) -> Question:
        """The question of a record: the very episodes that were kept beside it, where the settings sample others.

        Raises ConfigError where the settings sample others and none were kept.
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
                remedy="use the split that it was made with, or evaluate anew: hcl evaluate",
            ) from error
        target = target_of(self.recorded, record, self.folder)
        only = override(target.experiment, {"evaluation.datasets": [record.dataset]})
        episodes = Episodes(kept.classes, kept.support, kept.query)
        lists = [EpisodeList(record.dataset, record.partition, record.split_digest, record.seed, episodes)]
        return questions_of([replace(target, experiment=only)], self.data, episodes=lists)[0]

"""Show the commands behind a run or an evaluation record and what has changed since, or repeat it: `hcl reproduce`."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import results
from hcl.assembly.inputs import recorded_frames
from hcl.config import PUBLISHED_EVALUATION
from hcl.config.overrides import path_of
from hcl.errors import ConfigError, HCLError
from hcl.files.json_files import read_json, write_json
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.evaluate import evaluate
from orchestration.evaluation.fuse import FUSED, chosen_fusion
from orchestration.evaluation.questions import Question
from orchestration.reports.recorded import Asking, Recorded, experiment_of, target_of
from orchestration.runtime.connect import connect
from orchestration.training.run import Run
from orchestration.training.train import data_digests, train
from results.exports.reproduction import Check, Repeated, code_checks

T = TypeVar("T")

_COMMAND = "hcl reproduce --run"
REPRODUCES = "reproduces.json"
"""Name of a file that marks a folder of `hcl reproduce --run`, and names its run; nothing else is ever written into."""


def commands_of(recorded: Recorded, data: Path) -> list[tuple[str, str]]:
    """Return the typed commands, if known, and commands that do the same from the run's folder, by what they do."""
    folder, runs = recorded.folder, recorded.folder.parent
    places = ["--data", str(data), "--runs", str(runs)]
    commands = []
    if recorded.provenance is not None:
        commands.append(("trained, as typed", recorded.provenance.command))
        extensions = recorded.provenance.extended or ()
        commands += [("trained further, as typed", str(one.get("command", ""))) for one in extensions]
        commands.append(("train the same", shlex.join(["hcl", "train", str(folder / "experiment.yaml"), *places])))
    commands += [
        ("evaluated, as typed", command) for command in dict.fromkeys(r.command for r in recorded.records.values())
    ]
    alone = [_evaluate_command(recorded, record, places) for record in recorded.records.values()]
    commands += [("evaluate the same", command) for command in dict.fromkeys(alone)]
    return [(what, command) for what, command in commands if command]


def checks_of(recorded: Recorded, data: DataRoot) -> list[Check]:
    """Code, packages, settings, videos, episodes and weights, as recorded and as they are here."""
    checks = []
    if (origin := recorded.provenance) is not None:
        checks += code_checks("training", origin.revision, origin.dirty, origin.versions)
        settings, trained_as = recorded.digest(recorded.experiment), origin.digests.get("experiment", "")
        if recorded.digest_here(recorded.experiment, trained_as) == trained_as:
            settings = trained_as
        checks.append(Check("training: settings", trained_as, settings))
        run = Run(recorded.experiment, data, recorded.folder.parent, recorded.folder)
        digests, problem = _try(lambda: data_digests(run))
        for name in dict.fromkeys([*origin.digests, *(digests or {})]):
            if name != "experiment":
                here = (digests or {}).get(name, problem if digests is None else "none")
                checks.append(Check(f"training: {_content(name)}", _recorded(origin.digests, name, here), here))
    if added := recorded.added():
        checks.append(Check("settings added since", "", ", ".join(f"{path}={value}" for path, value in added.items())))
    asking = Asking(recorded, recorded.folder, data)
    for file, record in recorded.records.items():
        checks += code_checks("evaluation", record.revision, record.dirty, record.versions)
        checks += _record_checks(asking, file, record)
    return list(dict.fromkeys(checks))


def repeat(
    recorded: Recorded, data: DataRoot, runs: Path, address: str | None = None
) -> tuple[list[Repeated], list[dict[str, object]]]:
    """Repeat a result in another folder: train its run or use its checkpoint, and evaluate every record's episodes.

    New scores stay in that folder, and score tables of others in `runs` are not read. A repeated call after an
    interruption resumes.

    Returns:
        The records, old and new, and the metrics of the epochs, if it was trained.

    Raises:
        ConfigError: if the folder holds a run, or anything else, that this function did not make.
    """
    folder = runs.absolute() / recorded.experiment.name
    if folder.resolve() == recorded.folder.resolve():
        raise ConfigError(
            "holds the run itself, whose records would be replaced", where=str(runs), remedy="choose another folder"
        )
    _claim(recorded, folder)
    epochs: list[dict[str, object]] = []
    with connect(address):  # once for both
        if recorded.provenance is not None:
            train(recorded.experiment, data=data, runs=runs, address=address, command=_COMMAND)
            epochs = results.read_epochs(folder)
        else:
            _copy(recorded, folder)
        files, asking = list(recorded.records), Asking(recorded, folder, data)
        questions = [asking.question(file) for file in files]
        new = evaluate(questions, runs=folder, address=address, command=_COMMAND).records if questions else []
    pairs = [
        Repeated(recorded.records[file], record, file, results.evaluation_file(folder, record))
        for file, record in zip(files, _in_order(questions, new), strict=True)
    ]
    return pairs, epochs


def _in_order(questions: list[Question], records: list[results.EvaluationRecord]) -> list[results.EvaluationRecord]:
    """Return the answer to each question in order, because a job of several cells answers them cell by cell."""
    names = ("method", "dataset", "partition", "shot", "experiment_digest", "episodes_digest")
    by_name = {tuple(getattr(record, name) for name in names): record for record in records}
    return [by_name[tuple(question.record[name] for name in names)] for question in questions]


def _record_checks(asking: Asking, file: Path, record: results.EvaluationRecord) -> list[Check]:
    """Return checks of one record: settings, videos, episodes, checkpoint."""
    question, problem = _try(lambda: asking.sampled(record))
    here = question.record if question else {}
    settings = asking.recorded.digest_here(experiment_of(asking.recorded, record), record.experiment_digest)
    checks = [
        Check(f"{file.stem}: settings", record.experiment_digest, settings),
        Check(f"{record.dataset} {record.partition}: videos", record.split_digest, here.get("split_digest", problem)),
        *_content_checks(record, here.get("digests"), problem),
        Check(f"{file.stem}: episodes", record.episodes_digest, here.get("episodes_digest", problem)),
    ]
    if record.checkpoint_digest:
        weights = here.get("checkpoint_digest", problem)
        checks.append(Check(f"checkpoint {Path(record.checkpoint).name}", record.checkpoint_digest, weights))
    return checks


def _claim(recorded: Recorded, folder: Path) -> None:
    """Make the folder and mark it as made here. Raises ConfigError for another folder that exists."""
    mark = folder / REPRODUCES
    content = {"run": str(recorded.folder.resolve()), "trained": recorded.provenance is not None}
    if folder.exists() and any(folder.iterdir()):
        known = read_json(mark, remedy="name another folder with --runs") if mark.exists() else None
        if known != content:
            what = "holds what `hcl reproduce --run` has made of another result" if mark.exists() else "exists already"
            raise ConfigError(
                f"{what}, and is not replaced",
                where=str(folder),
                remedy="choose another folder with --runs, or move this one away",
            )
    write_json(mark, content)


def _content_checks(record: results.EvaluationRecord, digests: dict[str, str] | None, problem: str) -> list[Check]:
    """Check the frames, class-name embeddings and weights on which a record depends; older records lack them."""
    checks = []
    for name in dict.fromkeys(["frames", *record.digests, *(digests or {})]):
        here = problem if digests is None else digests.get(name, "none")
        what = f"{record.dataset} {record.partition}: {_content(name)}"
        checks.append(Check(what, _recorded(record.digests, name, here), here))
    return checks


def _recorded(digests: Mapping[str, str], name: str, here: str) -> str:
    """Return the recorded digest in a form that compares with the one here; empty if none was recorded."""
    recorded = digests.get(name, "")
    return recorded_frames(recorded, here) if recorded and name.partition(".")[0] == "frames" else recorded


def _content(name: str) -> str:
    """Return a description of the content of a digest."""
    kind, _, partition = name.partition(".")
    words = {"frames": "frames", "embeddings": "class-name embeddings", "weights": "file of model.weights"}
    return f"{words[kind]} of {partition}" if partition else words.get(kind, f"videos of {name}")


def _copy(recorded: Recorded, folder: Path) -> None:
    """Copy the run's settings and the checkpoints of its records, so that nothing is written beside the originals."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    shutil.copy2(recorded.folder / "experiment.yaml", folder)
    for name in {Path(record.checkpoint).name for record in recorded.records.values() if record.checkpoint}:
        if (recorded.folder / "checkpoints" / name).exists():  # otherwise the evaluation reports what is missing
            shutil.copy2(recorded.folder / "checkpoints" / name, folder / "checkpoints")


def _evaluate_command(recorded: Recorded, record: results.EvaluationRecord, places: list[str]) -> str:
    target, settings = target_of(recorded, record, recorded.folder), list(record.settings)
    words = ["hcl", "evaluate", str(target.checkpoint or recorded.folder), *places, "--method", target.methods[0]]
    if record.evaluation_protocol == "published":
        words += ["--protocol", "published"]
        settings = [one for one in settings if path_of(one) not in PUBLISHED_EVALUATION]
    if record.method == FUSED and (chosen := _try(lambda: chosen_fusion(recorded.folder))[0]):
        words.append("--fused")
        settings = [one for one in settings if path_of(one) not in chosen]
    return shlex.join([*words, *(word for one in settings for word in ("--set", one))])


def _try(read: Callable[[], T]) -> tuple[T | None, str]:
    """Return what can be read here, or None and the reason: the checks must also work with missing data and weights."""
    try:
        return read(), "none here"
    except HCLError as error:
        return None, f"{error.where}: {error.problem}" if error.where else error.problem

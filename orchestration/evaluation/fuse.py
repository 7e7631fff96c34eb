"""Choose the fusion of the levels on val's score table, then evaluate it on test once: `hcl fuse`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import results
from hcl.assembly import arguments, inputs
from hcl.config import Experiment
from hcl.config.paths import flatten
from hcl.config.regimes import WITH_LEVELS
from hcl.config.resolve import override
from hcl.config.strict_yaml import dump_yaml, read_yaml
from hcl.errors import ConfigError
from hcl.evaluation.scores import LEVELS
from hcl.files.atomic import write_atomically
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.evaluate import evaluate
from orchestration.evaluation.fusion_search import PUBLISHED_FUSION, Search, search_table
from orchestration.evaluation.questions import Target, questions_of
from orchestration.evaluation.scoring import ensure_tables
from orchestration.evaluation.tables import Cell
from orchestration.runtime.connect import connect
from orchestration.training.grids import ensure_grids
from orchestration.training.run import write_fusion
from orchestration.training.run_files import BEST, FUSED_WEIGHTS, FUSION
from results.records.weights import Weights
from search_spaces import Space

FUSED = "hcl fused"


def search_fusion(
    folder: Path,
    experiment: Experiment,
    *,
    data: DataRoot,
    runs: Path,
    space: Space,
    n_trials: int,
    seed: int = 0,
    restart: bool = False,
    address: str | None = None,
) -> Search:
    """Choose the fusion with the best mean accuracy over `evaluation.shots` on val, and write it into the run's folder.

    A repeated call with the same arguments reads the earlier result.

    Raises:
        ConfigError: if val was trained on, the run has no levels, clips of an episode mix, the space searches other
            settings, or another fusion was chosen before, which would evaluate test a second time.
    """
    folder, runs = Path(folder).absolute(), Path(runs).absolute()
    experiment = override(experiment, {"evaluation.partition": "val"})
    space = _checked(space, experiment)
    stored = data.dataset(experiment.data.dataset)
    partition = stored.effective("val", keep_copies=experiment.asks_copies)
    cell = Cell("hcl", experiment, stored, partition, folder / BEST)
    search = {"table": cell.key, "space": space.model_dump(mode="json"), "n_trials": n_trials, "seed": seed}
    search["weights"] = cell.checkpoint_digest
    search["evaluation"] = experiment.evaluation.model_dump(mode="json", exclude={"datasets", "keep_features"})
    record = folder / "fusion" / "search.yaml"
    if record.exists() and not restart:
        return _repeated(record, search)
    with connect(address):
        if (job := cell.grid_job()) is not None:
            ensure_grids([job], runs)
        ensure_tables([cell], runs)
    table = cell.table(runs).read()
    episodes = inputs.evaluation_episodes(experiment, partition)
    chosen = search_table(table, episodes, experiment, space, n_trials=n_trials, seed=seed)
    write_fusion(folder, chosen.settings, "by `hcl fuse`, see fusion/search.yaml", weights=cell.checkpoint_digest)
    write_atomically(record, dump_yaml({"asked": search, "found": vars(chosen)}).encode())
    return chosen


def evaluate_fusion(
    folder: Path,
    experiment: Experiment,
    *,
    data: DataRoot,
    runs: Path,
    address: str | None = None,
    command: str = "",
    on_cell: Callable[[list[results.EvaluationRecord]], None] | None = None,
) -> dict[str, list[results.EvaluationRecord]]:
    """Evaluate on test, once: the chosen fusion, the run's own, the published weights and each level by itself."""
    fusions = named_fusions(folder)
    targets = [
        Target(folder, override(experiment, {**settings, "evaluation.partition": "test"}), label=label)
        for label, settings in fusions.items()
    ]
    answers = evaluate(questions_of(targets, data), runs=runs, address=address, command=command, on_cell=on_cell)
    return {label: [record for record in answers.records if record.method == label] for label in fusions}


def named_fusions(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of each fusion that is evaluated on test, by the method's name in records.

    Raises ConfigError.
    """
    fusions = {FUSED: chosen_fusion(folder), "hcl": {}, "hcl published weights": PUBLISHED_FUSION}
    alone = {f"hcl {level} only": {f"fusion.sigma_{name}": float(name == level) for name in LEVELS} for level in LEVELS}
    return fusions | alone


def chosen_fusion(folder: Path) -> dict[str, Any]:
    """Return the fusion that was chosen on val for a run, by dotted path. Raises ConfigError."""
    settings = flatten({name: part for name, part in _fusion_file(folder).items() if name != FUSED_WEIGHTS}, FUSION)
    path = folder / FUSION
    if other := set(settings) - set(PUBLISHED_FUSION):
        raise ConfigError(f"{min(other)} is no setting of a fusion", where=str(path), remedy="run `hcl fuse` again")
    return settings


def check_fusion_is_of(folder: Path) -> None:
    """Raise ConfigError if a run's fusion was chosen with weights that the run no longer has."""
    weights = _fusion_file(folder).get(FUSED_WEIGHTS)
    if isinstance(weights, str) and Weights().is_stale(folder, BEST, weights):
        raise ConfigError(
            "was chosen with weights that the run no longer has",
            where=str(folder / FUSION),
            remedy=f"choose again: hcl fuse {shlex.quote(folder.name)} --restart",
        )


def _fusion_file(folder: Path) -> dict[Any, Any]:
    path = folder / FUSION
    if not path.exists():
        raise ConfigError(
            "no fusion has been chosen", where=str(path), remedy=f"run `hcl fuse {shlex.quote(folder.name)}` first"
        )
    content = read_yaml(path, str(path))
    if not isinstance(content, dict):
        raise ConfigError("holds no settings", where=str(path), remedy="run `hcl fuse` again")
    return content


def _checked(space: Space, experiment: Experiment) -> Space:
    """Return the space with settings fixed that have no effect here.

    Raises ConfigError for others that cannot be searched.
    """
    if other := [path for path in space.parameters if path not in PUBLISHED_FUSION]:
        raise ConfigError(
            f"{other[0]} would need other features or other episodes",
            where=f"space {space.name}",
            remedy=f"search some of {', '.join(sorted(PUBLISHED_FUSION))}",
        )
    if "val" in experiment.data.train_partitions:
        raise ConfigError(
            "the model was trained on val, so a fusion chosen there would overfit",
            where="data.train_partitions",
            remedy="fuse a run that was trained on train only",
        )
    if not experiment.train.traits.has_levels:
        raise ConfigError(
            f"was trained as {experiment.regime_name}, which has no levels to weight",
            where="train.regime",
            remedy=f"fuse a run of train.regime: {WITH_LEVELS}",
        )
    reasons = [arguments.defects(experiment).reason(shot) for shot in experiment.evaluation.shots]
    if reason := next(filter(None, reasons), None):
        raise ConfigError(
            f"levels cannot be looked up: {reason}", where="matching", remedy="fuse a run of mode: corrected"
        )
    return space.pin({"fusion.triples": 0.5}) if len(experiment.matching.tuple_sizes) == 1 else space


def _repeated(record: Path, search: dict[str, Any]) -> Search:
    """Return the search that a run's folder holds, if it is this one. Raises ConfigError."""
    content = read_yaml(record, str(record))
    try:
        earlier, chosen = content["asked"], Search(**content["found"])
    except (TypeError, KeyError) as error:
        raise ConfigError(
            f"is no record of a search: {error}", where=str(record), remedy="delete it, or use --restart"
        ) from error
    if not isinstance(earlier, dict):
        raise ConfigError("is no record of a search", where=str(record), remedy="delete it, or use --restart")
    if earlier.get("weights", search["weights"]) != search["weights"]:
        raise ConfigError(
            "a fusion has been chosen with weights that the run no longer has",
            where=str(record),
            remedy="use --restart to search again with the present weights",
        )
    if earlier != {name: search[name] for name in search if name in earlier or name != "weights"}:
        raise ConfigError(
            "a fusion has been chosen by another search, and test was evaluated with it",
            where=str(record),
            remedy="evaluate it with `hcl evaluate --fused`; --restart searches again, which no record will show",
        )
    return chosen

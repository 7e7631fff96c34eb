"""Search the best weights of the levels on a score table: Optuna's trials, evaluated by `hcl.evaluation.fusion`.

Optuna is asked for batches of trials, and each batch is one matrix product. Trials are drawn at random and not by TPE:
with a few bounded parameters and thousands of trials random draws cover the space, and TPE's own time, which grows with
the history, would be a hundred times that of the trials. All trials are screened on the first thousand episodes of each
shot. The best of them, and the first points, are judged on all episodes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import torch

from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.config.paths import flatten
from hcl.evaluation.fusion import Contested, contested, fused_accuracies, level_weights
from hcl.evaluation.scores import LEVELS
from search_spaces import Space

PUBLISHED_FUSION = {"fusion.sigma_global": 1.0, "fusion.sigma_temporal": 0.5, "fusion.sigma_spatial": 0.5,
                    "fusion.triples": 0.5, "fusion.over_shots": "mean", "matching.metric": "auto"}  # fmt: skip
"""The settings that can be searched on a score table, with the values of the published run."""
_BATCH = 256  # trials of one product
_SCREENED = 1000  # episodes of a shot
_FINALISTS = 100  # of which the one that screening puts first is rarely the best


@dataclass(frozen=True)
class Search:
    """Hold the result of a search.

    Attributes:
        settings: the chosen settings by dotted path.
        value, published: mean accuracy over the shots, of the chosen settings and of the published ones.
        seconds: time of the trials only.
    """

    settings: dict[str, Any]
    value: float
    published: float
    n_trials: int
    seconds: float


def search_table(
    table: Mapping[str, np.ndarray],
    episodes: Sequence[Episodes],
    experiment: Experiment,
    space: Space,
    *,
    n_trials: int,
    seed: int = 0,
) -> Search:
    """Return the fusion with the best mean accuracy over the shots.

    Args:
        table: a table of `hcl.evaluation.scores` for the clips to which `episodes` refer.
        episodes: the episodes of each shot.
        experiment: gives the settings that the space leaves out.
        space: a space of settings in `PUBLISHED_FUSION`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    first_points = space.encoded_first_points()
    for point in first_points:
        study.enqueue_trial(point)
    own = {path: value for path, value in flatten(experiment.model_dump(), "").items() if path in PUBLISHED_FUSION}
    sizes = experiment.matching.tuple_sizes
    first_episodes = [next(of_shot.parts(_SCREENED)) for of_shot in episodes]
    few, all_ = (_by_choice(table, of_shots, sizes) for of_shots in (first_episodes, episodes))
    tried: list[dict[str, Any]] = []
    values: list[float] = []
    began = time.monotonic()
    for start in range(0, n_trials, _BATCH):
        trials = [study.ask() for _ in range(min(_BATCH, n_trials - start))]
        suggested = [{**own, **space.suggest(trial)} for trial in trials]  # type: ignore[arg-type]
        tried, values = tried + suggested, values + _values(few, suggested, sizes)
    ranked = sorted(range(n_trials), key=lambda index: (index >= len(first_points), -values[index]))
    finalists = [tried[index] for index in ranked[:_FINALISTS]]
    [published, *judged] = _values(all_, [PUBLISHED_FUSION, *finalists], sizes)
    best = max(judged)  # the first of equal ones; the published weights come before all others
    return Search(finalists[judged.index(best)], best, published, n_trials, time.monotonic() - began)


def _by_choice(
    table: Mapping[str, np.ndarray], episodes: Sequence[Episodes], sizes: Sequence[int]
) -> Callable[[str, str], list[Contested]]:
    """Return a function for the margins of every shot's episodes, which are computed once for each argument."""
    made: dict[tuple[str, str], list[Contested]] = {}

    def margins(metric: str, over_shots: str) -> list[Contested]:
        if (metric, over_shots) not in made:
            made[metric, over_shots] = [
                contested(table, of_shot, metric=metric, over_shots=over_shots, tuple_sizes=sizes)
                for of_shot in episodes
            ]
        return made[metric, over_shots]

    return margins


def _values(
    margins: Callable[[str, str], list[Contested]], candidates: Sequence[dict[str, Any]], sizes: Sequence[int]
) -> list[float]:
    """Return the mean accuracy over shots of each candidate."""
    values = np.empty(len(candidates))
    ordered = sorted(range(len(candidates)), key=lambda index: _choice(candidates[index]))
    for choice, group in itertools.groupby(ordered, key=lambda index: _choice(candidates[index])):
        members = list(group)
        sigmas = [{level: candidates[index][f"fusion.sigma_{level}"] for level in LEVELS} for index in members]
        weights = level_weights(sigmas, [candidates[index]["fusion.triples"] for index in members], sizes)
        shots = margins(*choice)
        values[members] = torch.stack([fused_accuracies(shot, weights) for shot in shots]).mean(dim=0).numpy()
    return values.tolist()


def _choice(settings: dict[str, Any]) -> tuple[str, str]:
    return settings["matching.metric"], settings["fusion.over_shots"]

"""Which weights of the levels would have been best on a score table: Optuna over `hcl.evaluation.fusion`'s products.

Optuna asks for batches of trials, each batch is one product. Trials are drawn at random and not by TPE: with a few
bounded parameters and thousands of trials nothing is left between them, and TPE's own time, which grows with the
history, would be a hundred times that of the trials. All are screened on the first thousand episodes of each shot; the
best of them, and the first points, are judged on all episodes.
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
    """What was found.

    Attributes:
        settings: by dotted path.
        value, published: mean accuracy over the shots, of the chosen settings and of the published ones.
        seconds: of the trials alone.
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
    """The fusion with the best mean accuracy over the shots.

    Args:
        table: of `hcl.evaluation.scores`, of the clips that `episodes` count.
        episodes: one list a shot.
        experiment: gives what the space leaves out.
        space: of settings in `PUBLISHED_FUSION`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    first_points = space.encoded_first_points()
    for point in first_points:
        study.enqueue_trial(point)
    own = {path: value for path, value in flatten(experiment.model_dump(), "").items() if path in PUBLISHED_FUSION}
    sizes = experiment.matching.tuple_sizes
    few, all_ = (
        _by_choice(table, some, sizes) for some in ([next(one.parts(_SCREENED)) for one in episodes], episodes)
    )
    tried: list[dict[str, Any]] = []
    values: list[float] = []
    began = time.monotonic()
    for start in range(0, n_trials, _BATCH):
        trials = [study.ask() for _ in range(min(_BATCH, n_trials - start))]
        asked = [{**own, **space.suggest(trial)} for trial in trials]  # type: ignore[arg-type]
        tried, values = tried + asked, values + _values(few, asked, sizes)
    ranked = sorted(range(n_trials), key=lambda index: (index >= len(first_points), -values[index]))
    finalists = [tried[index] for index in ranked[:_FINALISTS]]
    [published, *judged] = _values(all_, [PUBLISHED_FUSION, *finalists], sizes)
    best = max(judged)  # of equal ones the first: the published weights stand before all others
    return Search(finalists[judged.index(best)], best, published, n_trials, time.monotonic() - began)


def _by_choice(
    table: Mapping[str, np.ndarray], episodes: Sequence[Episodes], sizes: Sequence[int]
) -> Callable[[str, str], list[Contested]]:
    """Margins of the episodes of every shot for a metric and a way to combine shots, each made when first asked."""
    made: dict[tuple[str, str], list[Contested]] = {}

    def margins(metric: str, over_shots: str) -> list[Contested]:
        if (metric, over_shots) not in made:
            made[metric, over_shots] = [
                contested(table, one, metric=metric, over_shots=over_shots, tuple_sizes=sizes) for one in episodes
            ]
        return made[metric, over_shots]

    return margins


def _values(
    margins: Callable[[str, str], list[Contested]], asked: Sequence[dict[str, Any]], sizes: Sequence[int]
) -> list[float]:
    """Mean accuracy over shots of each candidate."""
    values = np.empty(len(asked))
    ordered = sorted(range(len(asked)), key=lambda index: _choice(asked[index]))
    for choice, group in itertools.groupby(ordered, key=lambda index: _choice(asked[index])):
        members = list(group)
        sigmas = [{level: asked[index][f"fusion.sigma_{level}"] for level in LEVELS} for index in members]
        weights = level_weights(sigmas, [asked[index]["fusion.triples"] for index in members], sizes)
        shots = margins(*choice)
        values[members] = torch.stack([fused_accuracies(shot, weights) for shot in shots]).mean(dim=0).numpy()
    return values.tolist()


def _choice(settings: dict[str, Any]) -> tuple[str, str]:
    return settings["matching.metric"], settings["fusion.over_shots"]

"""Test the search of a fusion: candidates are screened on some episodes, and the best are judged on all."""

from __future__ import annotations

import numpy as np
import pytest

from hcl.assembly import arguments
from hcl.clips.episodes import Episodes, sample_episodes
from hcl.config.resolve import override
from hcl.evaluation.scores import accuracies, fused, look_up
from orchestration.evaluation import fusion_search
from orchestration.evaluation.fusion_search import PUBLISHED_FUSION, search_table
from search_spaces import Space
from tests.orchestration.conftest import tiny_experiment

LABELS, QUERIES, N_EPISODES, N_SCREENED, N_TRIALS = np.repeat(np.arange(5), 7), 3, 150, 5, 60
SPACE = Space.model_validate(
    {
        "name": "test",
        "about": "for tests",
        "parameters": {
            f"fusion.sigma_{level}": {"type": "float", "low": 0.0, "high": 2.0} for level in ("temporal", "spatial")
        },
    }
)


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    rng, same = np.random.default_rng(0), LABELS[:, None] == LABELS
    names = ["global", "temporal_cosine_2", "spatial_cosine_2", "temporal_euclidean_2", "spatial_euclidean_2"]
    return {name: 0.6 * same + rng.normal(size=(len(LABELS), len(LABELS))) for name in names}


@pytest.fixture(scope="module")
def episodes() -> list[Episodes]:
    return [
        sample_episodes(LABELS, way=3, shot=shot, queries=QUERIES, episodes=N_EPISODES, seed=shot) for shot in (1, 2)
    ]


def accuracy(table: dict[str, np.ndarray], episodes: list[Episodes], settings: dict[str, object]) -> float:
    """Return the accuracy of a fusion by a separate look-up."""
    experiment = override(tiny_experiment(), settings)
    fusion, sizes = experiment.fusion, experiment.matching.tuple_sizes
    means = []
    for of_shot in episodes:
        metric = experiment.matching.metric
        levels = look_up(
            table, of_shot, metric=metric, tuple_sizes=sizes, triples=fusion.triples, over_shots=fusion.over_shots
        )
        means.append(accuracies(fused(levels, arguments.sigmas_of_fusion(experiment)), QUERIES).mean())
    return float(np.mean(means))


def test_the_best_candidates_are_judged_on_all_episodes(
    table: dict[str, np.ndarray], episodes: list[Episodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Screening uses so few episodes that its best candidate is not the best on all."""
    monkeypatch.setattr(fusion_search, "_SCREENED", N_SCREENED)
    search = search_table(table, episodes, tiny_experiment(), SPACE, n_trials=N_TRIALS)
    assert search.value == pytest.approx(accuracy(table, episodes, search.settings), abs=1e-6)
    assert search.published == pytest.approx(accuracy(table, episodes, PUBLISHED_FUSION), abs=1e-6)
    few = [next(of_shot.parts(N_SCREENED)) for of_shot in episodes]
    assert search.value != pytest.approx(accuracy(table, few, search.settings), abs=1e-3)

    monkeypatch.setattr(fusion_search, "_SCREENED", N_EPISODES)
    of_all = search_table(table, episodes, tiny_experiment(), SPACE, n_trials=N_TRIALS)
    assert search.value == of_all.value, "all candidates are finalists: the best of all episodes is found"
    screened = search_table(table, few, tiny_experiment(), SPACE, n_trials=N_TRIALS)
    assert accuracy(table, episodes, screened.settings) < search.value - 1e-3, "screening alone would choose another"

"""Explain a query's score in its episode, with an encoding in this process, without Ray: `hcl explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

import results
from hcl.assembly import arguments, inputs, models
from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.config.regimes import WITH_LEVELS
from hcl.errors import ConfigError
from hcl.evaluation.scores import LEVELS, Levels, fused, look_up, score_pairs
from hcl.frames.stored_dataset import DataRoot
from hcl.models.encoding import encode, features_of
from hcl.models.features import ClipFeatures
from hcl.models.hcl import HCL
from orchestration.evaluation.drawing import Panel, draw, pair_panels, small_picture, write_picture
from orchestration.evaluation.single_episodes import asked_examples, drawn_support, given_support, video_index
from orchestration.storage.record_files import storing_records
from orchestration.training.run_files import BEST
from results.records.explanations import FOLDER, ExplanationRecord, write_explanation
from results.records.weights import read_digest


@dataclass(frozen=True)
class Explained:
    """Hold the picture of a query, and the scores of its episode.

    Attributes:
        query: `class/video`.
        scores: score of each class of the episode, the best first.
    """

    picture: Path
    query: str
    scores: tuple[tuple[str, float], ...]

    @property
    def is_right(self) -> bool:
        return self.scores[0][0] == self.query.partition("/")[0]


class Explainer:
    """Explain queries with a run's model, on the clips of the partition that it is evaluated on.

    Args:
        command: the command line, for the records.

    Raises:
        ConfigError: if the run matches neither tuples nor patches.
    """

    def __init__(self, folder: Path, experiment: Experiment, *, data: DataRoot, command: str = ""):
        self.folder, self.experiment, self.command = folder.absolute(), experiment, command
        if not experiment.train.traits.has_levels:
            raise ConfigError(
                f"was trained as {experiment.regime_name}, which matches neither tuples nor patches",
                where=str(self.folder),
                remedy=f"explain a run of train.regime: {WITH_LEVELS}",
            )
        dataset = (experiment.evaluation.datasets or (experiment.data.dataset,))[0]
        stored = data.dataset(dataset)
        self.partition = stored.effective(experiment.evaluation.partition, keep_copies=experiment.asks_copies)
        self._clips = inputs.make_dataset(experiment, stored.frames, self.partition, training=False)
        self._embeddings = inputs.clip_embeddings(experiment, stored, self.partition)
        self._model: HCL | None = None
        self._digest = ""

    def explain(
        self, query: str, *, support: Sequence[str] = (), shot: int = 1, seed: int = 0, to: Path | None = None
    ) -> Explained:
        """Draw the matches between a query and its own class, and the best of the other classes.

        The record and a small picture are written to the run's `explanations/`, which a report shows.

        Args:
            query: `class/video`, or the video's name if it is unique.
            support: `class/video` of each support clip, the same number for each class; empty: drawn by `seed`.
            to: file of the picture; default: `explanations/` in the run's folder.

        Raises:
            ConfigError: if there is no such video, the support clips form no episode, or the mode mixes clips.
        """
        if reason := arguments.defects(self.experiment).reason(shot):
            raise ConfigError(
                f"pairs cannot be explained separately: {reason}", where="mode", remedy="use mode: corrected"
            )
        partition = self.partition
        query_index = video_index(query, partition)
        if support:
            by_class = given_support(support, partition, query_index)
        else:
            by_class = drawn_support(partition, query_index, self.experiment, shot, seed)
        names, clips = list(by_class), [clip for shots in by_class.values() for clip in shots]
        shot = len(clips) // len(names)
        features, grid = self._features([*clips, query_index])
        levels = _levels(features, len(names), shot, self.experiment)
        scores = fused(levels, arguments.sigmas_of_fusion(self.experiment))[0, 0]
        own = names.index(partition.videos[query_index].class_name)
        rival = int(np.argmax(np.where(np.arange(len(names)) == own, -np.inf, scores)))
        panels = []
        for way, role in ((own, "its class"), (rival, "best other class")):
            figures = _figures(levels, scores, way, self.experiment)
            for place in range(way * shot, (way + 1) * shot):
                pair = features[slice(len(clips), None)], features[slice(place, place + 1)]
                panels += self._panels(*pair, query_index, clips[place], role, figures, grid)
        key = partition.videos[query_index].key
        ranked = tuple(
            sorted(zip(names, scores.tolist(), strict=True), key=lambda class_and_score: -class_and_score[1])
        )
        image = draw(panels, heading=f"query {key} ({len(names)}-way {shot}-shot): taken for {ranked[0][0]}")
        default_place = self.folder / FOLDER / f"{key.replace('/', '--')}.png"
        if to is None:
            record = ExplanationRecord(
                query=key,
                scores=dict(ranked),
                support=[partition.videos[clip].key for clip in clips],
                shot=shot,
                checkpoint_digest=self._digest,
                command=self.command,
                created=results.now(),
            )
            with storing_records():
                write_explanation(default_place.with_name(f"{default_place.stem}.json"), record, small_picture(image))
        return Explained(write_picture(to or default_place, image), key, ranked)

    def examples(self, n: int, *, shot: int | None = None, seed: int = 0) -> Iterator[Explained]:
        """Explain `n` queries that the run's evaluation got right and `n` that it got wrong, in its episodes.

        Raises ConfigError if no answers of an evaluation are kept.
        """
        regime = self.experiment.regime_name
        for example in asked_examples(self.folder, self.partition, regime, n, shot=shot, seed=seed):
            yield self.explain(example.query, support=example.support)

    def _features(self, clips: Sequence[int]) -> tuple[ClipFeatures, tuple[int, int]]:
        """Return the matching features of some clips, with the rows and columns of their patches."""
        if self._model is None:
            best = self.folder / BEST
            self._digest = read_digest(best) if best.exists() else ""  # read first: weights may change later
            self._model = cast(HCL, models.trained_model(self.experiment, best))
        tokens, rows = encode(self._model, self._clips, clips)
        features = features_of(
            self._model.heads,
            tokens,
            rows,
            project=self.experiment.matching.project_at_test,
            embeddings=None if self._embeddings is None else self._embeddings[clips],
        )
        return features, (rows, tokens.shape[2] // rows)

    def _panels(
        self, query: ClipFeatures, support: ClipFeatures, query_index: int, clip: int, role: str, figures: str,
        grid: tuple[int, int],
    ) -> list[Panel]:  # fmt: skip
        """Return the panels of one pair of clips, one for each tuple size."""
        frames = [self._clips[index].permute(0, 2, 3, 1).numpy() for index in (query_index, clip)]  # channels last
        return pair_panels(
            query,
            support,
            (frames[0], frames[1]),
            title=f"{role}: {self.partition.videos[clip].key}",
            figures=figures,
            grid=grid,
            matching=arguments.test_matching(self.experiment),
        )


def _levels(features: ClipFeatures, way: int, shot: int, experiment: Experiment) -> Levels:
    """Return the levels of the last clip, which stands for a query of any class, with the supports before it."""
    n_support = way * shot
    episode = Episodes(
        np.arange(way)[None], np.arange(n_support).reshape(1, way, shot), np.full((1, way, 1), n_support)
    )
    matcher = arguments.test_matcher(experiment)
    table = score_pairs(features, features, **matcher.options)
    return look_up({name: values.numpy() for name, values in table.items()}, episode, **matcher.looking)


def _figures(levels: Levels, scores: np.ndarray, way: int, experiment: Experiment) -> str:
    sigmas = arguments.sigmas_of_fusion(experiment)
    terms = [
        f"{name} {sigmas[name]:.3g} x {values[0, 0, way]:.3f}" for name, values in zip(LEVELS, levels, strict=True)
    ]
    return f"score {scores[way]:.3f} = {' + '.join(terms)}"

"""Build the episode of a single query: its support clips are given, drawn, or taken from an evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import results
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import ConfigError, EpisodeError, did_you_mean
from results.tables.details import outcomes_of


class Example(NamedTuple):
    """Hold a query of an evaluation with its support clips, as `class/video`."""

    query: str
    support: tuple[str, ...]
    is_right: bool


def asked_examples(
    folder: Path, partition: Partition, method: str, n: int, *, shot: int | None = None, seed: int = 0
) -> list[Example]:
    """Return `n` queries that an evaluation got right and `n` that it got wrong, of as many classes as possible.

    Args:
        folder: a run's folder, with the evaluation's answers.
        shot: the shot of the evaluation; None: the smallest.

    Raises:
        ConfigError: if no answers of an evaluation of this method on this partition are kept.
    """
    frame = results.load(folder).evaluations
    frame = frame[(frame["method"] == method) & (frame["split_digest"] == partition.digest())]
    if frame["stale"].any():
        raise ConfigError(
            f"was evaluated by {method} with weights that it no longer has, so its answers may differ now",
            where=str(folder),
            remedy=f"hcl evaluate {shlex.quote(folder.name)} again",
        )
    frame = frame[frame["shot"] == (frame["shot"].min() if shot is None else shot)]
    evaluated = outcomes_of(frame.sort_values("created"))
    if not evaluated:
        at = "" if shot is None else f" at {shot} shots"
        raise ConfigError(
            f"keeps no answers of {method} on {partition.dataset} {partition.name}{at} to choose examples from",
            where=str(folder),
            remedy=f"hcl evaluate {shlex.quote(folder.name)} first, on the same data",
        )
    outcomes = evaluated[-1][1]
    generator, right = np.random.default_rng(seed), outcomes.right
    chosen = []
    for is_right in (True, False):
        places = generator.permutation(np.argwhere(right == is_right))[:2000]
        keys = [
            (int(outcomes.questions.classes[episode, way]), index) for index, (episode, way, _) in enumerate(places)
        ]
        first = set(dict(reversed(keys)).values())  # one of each class before the second of any
        order = sorted(range(len(places)), key=lambda index: (index not in first, index))
        chosen += [_example(outcomes.questions, partition, places[index], is_right) for index in order[:n]]
    return chosen


def _example(questions: results.Questions, partition: Partition, place: np.ndarray, is_right: bool) -> Example:
    episode, way, query = place
    support = questions.support[episode].ravel().tolist()
    return Example(
        partition.videos[questions.query[episode, way, query]].key,
        tuple(partition.videos[clip].key for clip in support),
        is_right,
    )


def video_index(name: str, partition: Partition) -> int:
    """Return the index of a video. Raises ConfigError if no video or several have the name."""
    keys = [video.key for video in partition.videos]
    matches = [i for i, video in enumerate(partition.videos) if name in (video.key, video.name)]
    if len(matches) == 1:
        return matches[0]
    known = keys if "/" in name else [video.name for video in partition.videos]
    near = [key for key in keys if name.partition("/")[0] in key][:3] or keys[:3]
    raise ConfigError(
        f"is no video of {partition.dataset} {partition.name}{did_you_mean(name, known)}"
        if not matches
        else f"{len(matches)} videos have this name",
        where=name,
        remedy=f"give it as class/video, for instance {', '.join(near)}",
    )


def given_support(support: Sequence[str], partition: Partition, query: int) -> dict[str, list[int]]:
    """Return the given support clips by class, in their order. Raises ConfigError if they form no episode."""
    by_class: dict[str, list[int]] = {}
    for name in support:
        clip = video_index(name, partition)
        if clip == query:
            raise ConfigError("is the query itself", where=name, remedy="give another video of its class")
        by_class.setdefault(partition.videos[clip].class_name, []).append(clip)
    own = partition.videos[query].class_name
    if own not in by_class or len(by_class) < 2 or len({len(clips) for clips in by_class.values()}) > 1:
        counts = ", ".join(f"{name} {len(clips)}" for name, clips in by_class.items())
        raise ConfigError(
            f"form no episode of {own!r} and other classes with the same number of clips each: {counts}",
            where="--support",
            remedy="give equally many videos of the query's class and of at least one other; or let --seed draw them",
        )
    return by_class


def drawn_support(
    partition: Partition, query: int, experiment: Experiment, shot: int, seed: int
) -> dict[str, list[int]]:
    """Return the query's class and other classes, with support clips other than the query."""
    generator, labels = np.random.default_rng([seed, query]), partition.labels
    others = generator.permutation([c for c in range(len(partition.classes)) if c != labels[query]])
    way = min(experiment.evaluation.way, len(partition.classes))
    by_class = {}
    for index in [int(labels[query]), *others[: way - 1].tolist()]:
        clips = [clip for clip in np.flatnonzero(labels == index).tolist() if clip != query]
        if len(clips) < shot:
            raise EpisodeError(
                f"class {partition.classes[index]!r} has {len(clips)} clips besides the query, {shot} are needed",
                where="--shot",
                remedy="ask for fewer shots",
            )
        by_class[partition.classes[index]] = generator.permutation(clips)[:shot].tolist()
    return by_class

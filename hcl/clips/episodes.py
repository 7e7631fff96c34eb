"""Draw episodes for evaluation, and pair batches and episodes for training, as functions of seeds.

All are drawn from labels alone. Episode i depends on (seed, i) and a pair batch on (seed, epoch, step), never on the
number of draws or of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from hcl.errors import EpisodeError

_BLOCK = 1024  # episodes drawn at a time; it bounds memory, and changing it would change the sequence


@dataclass(frozen=True)
class Episodes:
    """Hold the clip indices of N-way K-shot episodes; row w holds support and query of class w.

    Attributes:
        classes: class index of each way.
        support, query: clip indices into the partition.
    """

    classes: Int[np.ndarray, "episode way"]
    support: Int[np.ndarray, "episode way shot"]
    query: Int[np.ndarray, "episode way query"]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def way(self) -> int:
        return self.classes.shape[1]

    @property
    def shot(self) -> int:
        return self.support.shape[2]

    @property
    def n_queries(self) -> int:
        """Return the number of queries of each class."""
        return self.query.shape[2]

    @property
    def is_overlapping(self) -> bool:
        """Return true if a query clip is in the support of its own episode and class."""
        return bool((self.support[..., :, None] == self.query[..., None, :]).any())

    def parts(self, size: int) -> Iterator[Episodes]:
        """Yield the episodes in order, `size` at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Episodes(self.classes[rows], self.support[rows], self.query[rows])

    def digest(self) -> str:
        """Return the digest of the clip indices and their shapes; `hcl.clips.episode_files` adds names of videos."""
        state = hashlib.sha256(str((self.support.shape, self.query.shape)).encode())
        for part in (self.support, self.query):
            state.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return state.hexdigest()[:12]


def sample_episodes(
    labels: Int[np.ndarray, "clip"],
    *,
    way: int,
    shot: int,
    queries: int,
    episodes: int,
    seed: int,
    class_names: Sequence[str] | None = None,
    overlapping: bool = False,
) -> Episodes:
    """Draw episodes with disjoint support and query.

    With the same seed the episodes of every shot share classes and queries, and the support of k shots is the first
    part of that of k + 1, so that shots are compared on the same queries.

    Args:
        labels: class index of each clip of the partition.
        class_names: names of the classes, for messages.
        overlapping: draw as released: never class 0, and support and query independently with replacement, so that
            one clip of each class is enough (deviations 9 and 10).

    Raises:
        EpisodeError: there are too few classes, or a class has too few clips.
    """
    members = [np.flatnonzero(labels == index) for index in range(int(labels.max(initial=-1)) + 1)]
    _check(members, way, 1 if overlapping else shot + queries, class_names, skip=int(overlapping))
    sizes = np.array([len(m) for m in members])
    padded = np.zeros((len(members), sizes.max()), dtype=np.int64)
    for index, clips in enumerate(members):
        padded[index, : len(clips)] = clips
    blocks = [
        _sample_block(padded, sizes, way, shot, queries, np.random.default_rng([seed, block]), overlapping)
        for block in range(-(-episodes // _BLOCK))
    ]
    classes, support, query = (np.concatenate(part)[:episodes] for part in zip(*blocks, strict=True))
    return Episodes(classes, support, query)


def with_absent_classes(drawn: Episodes, way: int) -> tuple[Episodes, Episodes]:
    """Return episodes of the first `way` classes, and the same supports with queries of the other classes.

    In the second, each place of a query of one of the `way` classes holds a query of another class: every class of the
    support is absent from its queries. Queries of the other classes are repeated, or some of them left out, so that
    each of the `way` classes has equally many places.
    """
    if not 0 < way < drawn.way:
        raise ValueError(f"way={way} leaves no class of {drawn.way} out")
    present = Episodes(drawn.classes[:, :way], drawn.support[:, :way], drawn.query[:, :way])
    others = np.moveaxis(drawn.query[:, way:], 2, 1).reshape(len(drawn), -1)  # one of each class, then the next
    each = max(1, others.shape[1] // way)
    places = np.resize(np.arange(others.shape[1]), way * each)
    return present, Episodes(present.classes, present.support, others[:, places].reshape(len(drawn), way, each))


def _sample_block(padded, sizes, way, shot, queries, generator, overlapping):
    class_keys = generator.random((_BLOCK, len(sizes)))
    if overlapping:
        class_keys[:, 0] = np.inf
    classes = np.argsort(class_keys, axis=1)[:, :way]
    if overlapping:
        numbers = generator.random((queries + shot, _BLOCK, way))  # other shots share a prefix of these
        drawn = np.moveaxis((numbers * sizes[classes]).astype(np.int64), 0, -1)
        clips = np.take_along_axis(padded[classes], drawn, axis=2)
        return classes, clips[..., queries:], clips[..., :queries]
    keys = generator.random((_BLOCK, way, padded.shape[1]))
    keys[np.arange(padded.shape[1]) >= sizes[classes][..., None]] = np.inf
    order = np.argsort(keys, axis=2)
    clips = np.take_along_axis(padded[classes], order, axis=2)
    return classes, clips[..., queries : queries + shot], clips[..., :queries]


def pair_batch(
    labels: Int[np.ndarray, "clip"],
    *,
    classes_per_batch: int,
    seed: int,
    epoch: int,
    step: int,
    class_names: Sequence[str] | None = None,
) -> Int[np.ndarray, "two_per_class"]:
    """Draw two clips of each of `classes_per_batch` classes, side by side: clips 2k and 2k + 1 are a pair.

    Raises EpisodeError if the partition has too few classes, or a class fewer than two clips.
    """
    members = [np.flatnonzero(labels == index) for index in range(int(labels.max(initial=-1)) + 1)]
    _check(members, classes_per_batch, 2, class_names, what="a pair batch", setting="train.classes_per_batch")
    generator = np.random.default_rng([seed, epoch, step])
    classes = generator.permutation(len(members))[:classes_per_batch]
    return np.concatenate([generator.choice(members[index], 2, replace=False) for index in classes])


def training_episode(
    labels: Int[np.ndarray, "clip"],
    *,
    way: int,
    shot: int,
    queries: int,
    seed: int,
    epoch: int,
    step: int,
    number: int,
    class_names: Sequence[str] | None = None,
) -> Int[np.ndarray, "episode_clip"]:
    """Draw the clips of one episode of a training step: all support clips, class after class, then all query clips.

    Raises EpisodeError if the partition has too few classes, or a class too few clips.
    """
    members = [np.flatnonzero(labels == index) for index in range(int(labels.max(initial=-1)) + 1)]
    _check(members, way, shot + queries, class_names, what="a training episode", setting="train.episode_way")
    generator = np.random.default_rng([seed, epoch, step, number])
    classes = generator.permutation(len(members))[:way]
    clips = np.stack([generator.choice(members[index], shot + queries, replace=False) for index in classes])
    return np.concatenate([clips[:, :shot].ravel(), clips[:, shot:].ravel()])


FEWER = {
    "evaluation.way": ", or ask for fewer shots (evaluation.shots, train.val_shot) or queries (evaluation.queries)",
    "train.episode_way": ", or ask for fewer shots (train.episode_shot) or queries (train.episode_queries)",
}
"""The remedy for episodes that need too many clips of a class, by the setting of their classes."""


def too_few_classes(
    what: str, way: int, partitions: Sequence[str], n_classes: Sequence[int], most: int, setting: str
) -> EpisodeError:
    """Return the error of partitions with too few classes.

    Args:
        what: what is drawn.
        partitions, n_classes: names of the partitions, and the number of classes of each.
        most: the most classes that the setting may have; 0 if it cannot mend this.
    """
    of = [f" of {name}" if name else "" for name in partitions]
    counts = ", ".join(f"{n} classes{name}" for n, name in zip(n_classes, of, strict=True))
    return EpisodeError(
        f"{what} of {way} classes cannot be drawn from {counts}",
        where=setting,
        remedy=f"set it to at most {most}, or add classes to the split" if most > 0 else "add classes to the split",
    )


def too_few_clips(what: str, n_clips: int, short: Mapping[str, int], partition: str, fewer: str) -> EpisodeError:
    """Return the error of classes with too few clips.

    Args:
        short: the number of clips of each such class.
        partition: name of the partition; empty if it is not known.
        fewer: what else mends it.
    """
    first, *others = [repr(name) for name in short]
    more = f"; too few too: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}" if others else ""
    return EpisodeError(
        f"class {first} has {next(iter(short.values()))} clips, {what} needs {n_clips} of each class{more}",
        where=f"the video list of {partition}" if partition else "the partition's video list",
        remedy=f"add videos of that class, or remove it from the split{fewer}",
    )


def _check(members, way, clips, names, *, skip=0, what="an episode", setting="evaluation.way"):
    n_classes = len(members) - skip
    if n_classes < way:
        raise too_few_classes(what, way, [""], [n_classes], n_classes, setting)
    short = [index for index, of_class in enumerate(members) if index >= skip and len(of_class) < clips]
    if short:
        counts = {names[index] if names is not None else f"number {index}": len(members[index]) for index in short}
        raise too_few_clips(what, clips, counts, "", FEWER.get(setting, ""))

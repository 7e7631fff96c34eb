"""Propose which classes of a folder are for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hcl.datasets.cards import PARTITIONS
from hcl.datasets.folder_layouts import MIN_CLASSES, MIN_VIDEOS
from hcl.errors import DataError
from hcl.files.names import some

DISJOINT_CLASSES = 6
"""The fewest classes of which training, validation and test each get two of their own."""

_MANY_VIDEOS = 10
"""Videos of a class that provide five shots and five queries."""


@dataclass(frozen=True)
class ProposedSplit:
    """Hold the classes of each partition.

    Attributes:
        classes: by partition, sorted.
        n_clips: videos of the smallest class of validation and test, of which episodes are drawn.
        selects_on_test: there are too few classes for validation classes: the best epoch is chosen on test, and
            training uses the classes of train and val.
        origin: who divided the classes.
        left_out: classes that are in no partition, with the reason.
        notes: notes on the division.
    """

    classes: dict[str, tuple[str, ...]]
    n_clips: int
    selects_on_test: bool
    origin: str
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_training(self) -> int:
        """Return the number of classes that are trained on."""
        return len(self.classes["train"]) + (len(self.classes["val"]) if self.selects_on_test else 0)

    @property
    def n_episode_classes(self) -> int:
        """Return the number of classes from which every episode can be drawn: those of test, or fewer of val."""
        n_test = len(self.classes["test"])
        return n_test if self.selects_on_test else min(n_test, len(self.classes["val"]))


def propose_split(sizes: Mapping[str, int], given: Mapping[str, str], *, seed: int, where: str) -> ProposedSplit:
    """Divide classes, as a function of their names, their sizes and a seed.

    Args:
        sizes: number of videos of each class.
        given: the partition of classes whose folder or list names one; used if it leaves each partition enough.

    Raises:
        DataError: there are too few classes or videos; it says how many are missing.
    """
    usable = {name: size for name, size in sizes.items() if size >= 2}
    left_out = {name: "it has one video, a pair takes two" for name in sizes if name not in usable}
    _check_enough(usable, sizes, where)
    notes: list[str] = []
    classes, origin = _as_given(usable, given, notes, left_out, seed)
    selects_on_test = False
    if not classes:
        selects_on_test = len(usable) < DISJOINT_CLASSES
        classes, origin = _drawn(usable, notes, seed), f"drawn with seed {seed}"
    asked = classes["test"] if selects_on_test else classes["val"] + classes["test"]
    parts = {name: tuple(sorted(classes[name])) for name in PARTITIONS}
    n_clips = min(usable[name] for name in asked)
    return ProposedSplit(parts, n_clips, selects_on_test, origin, left_out, tuple(notes))


def class_partitions(videos: Sequence[tuple[str, str]], notes: list[str]) -> dict[str, str]:
    """Return the partition of each class, from the class and the partition of each video; empty where they conflict.

    Args:
        notes: receives a note on classes that stand in several partitions.
    """
    of_class: dict[str, set[str]] = {}
    for class_name, part in videos:
        of_class.setdefault(class_name, set()).add(part)
    if shared := sorted(name for name, parts in of_class.items() if len(parts - {""}) > 1):
        notes.append(
            f"the given partitions share {len(shared)} classes ({some(shared, 2)}), and few-shot partitions must not: "
            "classes are divided anew"
        )
        return {}
    return {name: next(iter(parts - {""})) for name, parts in of_class.items() if parts - {""}}


def _check_enough(usable: Mapping[str, int], sizes: Mapping[str, int], where: str) -> None:
    large = [name for name, size in usable.items() if size >= MIN_VIDEOS]
    if len(large) >= MIN_CLASSES:
        return
    growing = sorted((name for name, size in sizes.items() if size < MIN_VIDEOS), key=lambda name: -sizes[name])
    lacking = MIN_CLASSES - len(large)
    additions = [f"{MIN_VIDEOS - sizes[name]} of {name!r} ({sizes[name]} now)" for name in growing[:lacking]]
    n_new = lacking - len(additions)
    if n_new:
        additions.append(f"{n_new} new class{'es' if n_new > 1 else ''} of {MIN_VIDEOS} videos")
    raise DataError(
        f"has {len(large)} class{'' if len(large) == 1 else 'es'} of {MIN_VIDEOS} videos or more (of {len(sizes)} in "
        f"all); two to learn from and two to test take {MIN_CLASSES}",
        where=where,
        remedy=f"add videos: {', '.join(additions)}",
    )


def _as_given(
    usable: Mapping[str, int], given: Mapping[str, str], notes: list[str], left_out: dict[str, str], seed: int
) -> tuple[dict[str, list[str]], str]:
    """Return the given division, with validation classes taken from training if it has none; empty if it is too small.

    Classes of validation and test with too few videos are left out.
    """
    if not given:
        return {}, ""
    classes: dict[str, list[str]] = {name: [] for name in PARTITIONS}
    small: dict[str, str] = {}
    for name in sorted(usable):
        part = given.get(name)
        if part in ("val", "test") and usable[name] < MIN_VIDEOS:
            small[name] = f"an episode takes {MIN_VIDEOS} videos of each class of {part}, it has {usable[name]}"
        elif part:
            classes[part].append(name)
        else:
            small[name] = "no partition is given for it"
    origin = "as the folders or lists divide the classes"
    if not classes["val"]:
        able = [name for name in classes["train"] if usable[name] >= MIN_VIDEOS]
        n_val = min(5, len(able), len(classes["train"]) // 3)
        if n_val >= 2:
            drawn = np.random.default_rng([seed, 1]).permutation(len(able))[:n_val]
            classes["val"] = [able[index] for index in drawn]
            classes["train"] = [name for name in classes["train"] if name not in classes["val"]]
            origin += f", with {n_val} classes of train for validation, drawn with seed {seed}"
    if min(len(names) for names in classes.values()) < 2:
        counts = ", ".join(f"{name} {len(names)}" for name, names in classes.items())
        notes.append(f"the given partitions leave too few classes ({counts}): classes are divided anew")
        return {}, ""
    left_out |= small
    return classes, origin


def _drawn(usable: Mapping[str, int], notes: list[str], seed: int) -> dict[str, list[str]]:
    """Draw a division; validation and test get classes of many videos where there are enough of these."""
    n_test, n_val = _counts(len(usable))
    n_asked = n_test + n_val
    n_large = sum(size >= MIN_VIDEOS for size in usable.values())
    if n_large < n_asked:
        n_test, n_val = n_large - n_large // 2, n_large // 2
        n_asked = n_large
    least = next(
        least
        for least in range(_MANY_VIDEOS, MIN_VIDEOS - 1, -1)
        if sum(size >= least for size in usable.values()) >= n_asked
    )
    names = sorted(usable)
    order = [names[index] for index in np.random.default_rng([seed, 0]).permutation(len(names))]
    asked = [name for name in order if usable[name] >= least][:n_asked]
    if small := [name for name in names if usable[name] < least]:
        notes.append(f"{len(small)} classes of fewer than {least} videos are for training: {some(small, 3)}")
    rest = [name for name in order if name not in asked]
    return {"train": rest, "val": asked[n_test:], "test": asked[:n_test]}


def _counts(n_classes: int) -> tuple[int, int]:
    """Return the numbers of test and validation classes: 24% and 12%, and enough for a way of 5 where there are."""
    if n_classes < DISJOINT_CLASSES:
        return 2, 1
    least = min(5, n_classes // 3)
    return max(least, round(0.24 * n_classes)), max(least, round(0.12 * n_classes))

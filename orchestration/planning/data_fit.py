"""Compare a checked data set with what experiments ask of it: `hcl data check`."""

from __future__ import annotations

from pathlib import Path

from hcl.assembly.draw_faults import ClassSizes, draw_faults
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.frames.checking import DatasetCheck, PartitionCheck
from hcl.frames.stored_dataset import DataRoot
from orchestration.planning.preflight import machine_faults, raise_faults
from orchestration.training.run import Run


def limits_text(check: DatasetCheck) -> str:
    """Return the most classes and clips that an experiment can ask of a data set with the standard protocol."""
    sizes = {part.listed.name: _sizes(part) for part in check.partitions}
    asked = [sizes["val"], sizes["test"]]
    way, n_clips = min(len(one.n_clips) for one in asked), min(one.smallest for one in asked)
    n_training = sum(count > 1 for count in sizes["train"].n_clips.values())
    return (
        f"an experiment can ask for evaluation.way up to {way}, evaluation.shots + evaluation.queries up to {n_clips}, "
        f"train.classes_per_batch up to {n_training}"
    )


def tell_fit(experiment: Experiment, check: DatasetCheck, data: Path, address: str | None) -> None:
    """Raise an error with everything that an experiment asks for and this data set or this machine does not have.

    Videos that are not extracted yet count as if they were.
    """
    experiment = override(experiment, {"data.dataset": check.card.name})
    sizes = {part.listed.name: _sizes(part) for part in check.partitions}
    learnt = [sizes[name] for name in experiment.data.train_partitions]
    train = ClassSizes(
        f"{check.card.name} {'+'.join(experiment.data.train_partitions)}",
        {name: count for one in learnt for name, count in one.n_clips.items()},
    )
    faults = draw_faults(
        experiment,
        train=train,
        selection=sizes[experiment.data.selection_partition],
        tested=[sizes[experiment.evaluation.partition]],
    )
    run = Run(experiment, DataRoot(data.absolute()), Path("runs").absolute(), Path("runs", experiment.name).absolute())
    raise_faults([*faults, *machine_faults(run, address)])


def _sizes(part: PartitionCheck) -> ClassSizes:
    """Return the videos of each class that are used once they are extracted."""
    counts, unused = dict.fromkeys(part.listed.classes, 0), {*part.left_out, *part.copies}
    for video in part.listed.videos:
        counts[video.class_name] += video not in unused
    return ClassSizes(f"{part.listed.dataset} {part.listed.name}", counts)

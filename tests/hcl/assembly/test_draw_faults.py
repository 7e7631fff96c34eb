"""The settings that mend faults of draws are accepted, alone and together, for any classes and any wishes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcl.assembly import inputs, models
from hcl.assembly.draw_faults import ClassSizes, Fault, draw_faults
from hcl.config import Experiment
from hcl.config.resolve import override, resolve
from hcl.datasets.splits import Partition, Video
from hcl.errors import ConfigError, EpisodeError

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=9)


def sizes(name: str, counts: list[int]) -> ClassSizes:
    return ClassSizes(f"toy {name}", {f"{name} {number}": count for number, count in enumerate(counts)})


def partition(of: ClassSizes) -> Partition:
    videos = tuple(Video(name, f"{number}") for name, count in of.n_clips.items() for number in range(count))
    return Partition("toy", of.name, tuple(of.n_clips), videos)


def is_refused(experiment: Experiment, train: ClassSizes, val: ClassSizes, test: ClassSizes) -> bool:
    """Draw a batch and the episodes as training and evaluation do."""
    try:
        labels = partition(train).labels
        models.make_regime(experiment).sampler.draw(labels, epoch=0, step=0)
        inputs.val_episodes(experiment, partition(val))
        inputs.evaluation_episodes(experiment, partition(test))
    except EpisodeError:
        return True
    return False


@given(
    train=COUNTS, val=COUNTS, test=COUNTS, way=st.integers(2, 9), queries=st.integers(1, 9),
    shots=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    val_shot=st.integers(1, 9), batch=st.integers(2, 8), workers=st.integers(1, 4),
    regime=st.sampled_from(["hcl", "cosine"]),
)  # fmt: skip
def test_each_remedy_is_accepted_and_all_together_leave_nothing(
    train: list[int], val: list[int], test: list[int], way: int, queries: int, shots: list[int], val_shot: int,
    batch: int, workers: int, regime: str,
) -> None:  # fmt: skip
    experiment = resolve(
        "demo",
        {
            "evaluation.way": way, "evaluation.queries": queries, "evaluation.shots": shots, "evaluation.episodes": 3,
            "train.val_shot": val_shot, "train.val_episodes": 3, "train.classes_per_batch": batch * workers,
            "train.episodes_per_step": workers, "train.workers": workers, "train.episode_way": way,
            "train.episode_queries": queries, "train.regime": regime, "model.pooled_from": "encoder",
        },
    ).experiment  # fmt: skip
    places = sizes("train", train), sizes("val", val), sizes("test", test)

    def faults_of(experiment: Experiment) -> list[Fault]:
        return draw_faults(experiment, train=places[0], selection=places[1], tested=places[2:])

    faults = faults_of(experiment)
    assert bool(faults) == is_refused(experiment, *places)
    texts = {str(fault.error) for fault in faults}
    together: dict[str, Any] = {}
    for fault in faults:
        together |= fault.settings
        if fault.settings:
            others = {str(other.error) for other in faults_of(override(experiment, fault.settings))}
            assert str(fault.error) not in others and len(others) < len(texts)
    mended = override(experiment, together)
    left = faults_of(mended)
    assert len(left) == sum(not fault.settings for fault in faults)
    assert not any(fault.settings for fault in left)
    if all(fault.settings for fault in faults):
        assert not is_refused(mended, *places)


def test_ten_classes_of_eight_videos_hear_everything_at_once() -> None:
    experiment = resolve("metaworld_cpu").experiment
    faults = draw_faults(
        experiment, train=sizes("train", [8] * 4), selection=sizes("val", [8] * 3), tested=[sizes("test", [8] * 3)]
    )
    assert [dict(fault.settings) for fault in faults] == [
        {"train.classes_per_batch": 4},
        {"evaluation.way": 3},
        {"evaluation.queries": 3},  # of val, which is asked at 1 and 5 shots too
        {"evaluation.queries": 3},
    ]
    assert "cannot be drawn from 3 classes of toy val, 3 classes of toy test" in str(faults[1].error)


def test_a_class_with_one_video_is_mended_by_no_setting() -> None:
    experiment = resolve("demo").experiment
    many = sizes("test", [20] * 6)
    (fault,) = draw_faults(experiment, train=sizes("train", [20] * 12), selection=sizes("val", [20] * 5 + [1]),
                           tested=[many])  # fmt: skip
    assert not fault.settings and "class 'val 5' has 1 clips" in str(fault.error)


def test_the_published_draws_need_one_clip_and_one_class_more() -> None:
    experiment = resolve("demo", {"evaluation.overlapping": True}).experiment
    train = sizes("train", [2] * 12)
    assert not draw_faults(experiment, train=train, selection=sizes("val", [1] * 6), tested=[sizes("test", [1] * 6)])
    (fault,) = draw_faults(experiment, train=train, selection=sizes("val", [1] * 5), tested=[sizes("test", [1] * 6)])
    assert fault.settings == {"evaluation.way": 4}


def test_settings_that_contradict_are_not_proposed() -> None:
    with pytest.raises(ConfigError):
        resolve("demo", {"train.workers": 2, "train.classes_per_batch": 3})
    experiment = resolve("demo", {"train.workers": 4, "train.min_workers": 4, "train.classes_per_batch": 12}).experiment
    (fault,) = draw_faults(experiment, train=sizes("train", [9] * 3))
    assert fault.settings == {"train.classes_per_batch": 3, "train.workers": 3, "train.min_workers": None}
    override(experiment, fault.settings)

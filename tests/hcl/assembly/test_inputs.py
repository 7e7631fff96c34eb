from __future__ import annotations

import numpy as np
import pytest

from hcl.assembly import inputs
from hcl.clips.episodes import sample_episodes
from hcl.datasets.splits import Partition, Video
from hcl.errors import ConfigError, EpisodeError
from hcl.frames.stored_dataset import StoredDataset
from tests.hcl.assembly.test_models import experiment
from tests.hcl.clips.test_dataset import FakeFrames


def partition() -> Partition:
    names = ("a", "b", "c")
    return Partition(
        "toy", "val", names, tuple(Video(name, f"{name}{number}") for name in names for number in range(6))
    )


def test_validation_episodes_are_the_same_whatever_the_seeds():
    [one], [other] = (
        inputs.val_episodes(
            experiment(evaluation__way=3, evaluation__queries=2, train__val_episodes=7, **seeds), partition()
        )
        for seeds in ({"seed": 1, "evaluation__seed": 1}, {"seed": 2, "evaluation__seed": 2})
    )
    assert one.digest() == other.digest()
    assert (len(one), one.way, one.shot, one.query.shape[2]) == (7, 3, 1, 2)


def test_validation_does_not_ask_what_the_evaluation_asks():
    settings = experiment(evaluation__way=3, evaluation__queries=2, train__val_episodes=7)
    of_evaluation = sample_episodes(
        partition().labels, way=3, shot=1, queries=2, episodes=7, seed=settings.evaluation.seed
    )
    [of_validation] = inputs.val_episodes(settings, partition())
    assert of_validation.digest() != of_evaluation.digest()


def test_validation_of_several_shots_is_that_of_each():
    settings = {"evaluation__way": 2, "evaluation__queries": 2, "train__val_episodes": 5}
    both = inputs.val_episodes(experiment(train__val_shot=[1, 3], **settings), partition())
    each = [inputs.val_episodes(experiment(train__val_shot=shot, **settings), partition())[0] for shot in (1, 3)]
    assert [one.digest() for one in both] == [one.digest() for one in each]
    with pytest.raises(ConfigError, match="names a shot twice"):
        experiment(train__val_shot=[1, 1])


def test_training_clips_are_augmented_and_test_clips_are_not():
    settings = experiment(clips__train_sampling="random", clips__per_frame=True, clips__flip=True)
    training = inputs.make_dataset(settings, FakeFrames(), partition(), training=True)
    test = inputs.make_dataset(settings, FakeFrames(), partition(), training=False)
    assert training.random and training.per_frame and training.sampling == "random"
    assert not test.random and not test.per_frame and test.sampling == "segments"
    assert training.clip_length == test.clip_length == 4 and len(test) == 18
    kinds = [type(step).__name__ for step in training.transform.transforms]
    assert kinds == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomApply", "RandomGrayscale"]
    assert "Random" not in repr(test.transform)


def test_reduced_decoding_keeps_the_pixels_that_the_view_needs():
    def min_side(reduced: bool, training: bool) -> int:
        settings = experiment(clips__reduced_decoding=reduced, clips__size=64, clips__crop_scale=(0.75, 1.0))
        frames = SizedFrames()
        inputs.make_dataset(settings, frames, partition(), training=training)[0]
        return frames.min_side

    assert [min_side(False, False), min_side(False, True)] == [0, 0]
    assert [min_side(True, False), min_side(True, True)] == [64, 86]


def test_embeddings_are_those_of_the_data_set(tmp_path):
    partition = Partition(
        "toy", "val", ("eel", "fox"), tuple(Video(c, f"{c}{i}") for c in ("eel", "fox") for i in "ab")
    )
    settings = experiment(matching__semantic=True, matching__tuple_sizes=[2], model__embedding_dim=2)
    stored = StoredDataset(tmp_path, "toy")
    assert inputs.clip_embeddings(experiment(), stored, partition) is None
    assert inputs.embeddings_identity(experiment(), stored) == ""
    (tmp_path / "embeddings").mkdir()
    np.savez(tmp_path / "embeddings/toy.npz", classes=np.array(["fox", "eel"]), vectors=np.eye(2, dtype=np.float32))
    assert inputs.clip_embeddings(settings, stored, partition).tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]
    assert len(inputs.embeddings_identity(settings, stored)) == 12


class SizedFrames:
    min_side = 0

    def n_frames(self, video):
        return 9

    def read(self, video, indices, *, min_side=0):
        self.min_side = min_side
        return np.zeros((len(indices), 100, 120, 3), np.uint8)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [((2, 1), (2, 1, 4)), ((5, 9), (2, 5, 1)), ((3, 3), (2, 3, 3)), ((2, 4), (2, 4, 2))],
)
def test_calibration_takes_what_the_partition_can_give(asked: tuple[int, int], expected: tuple[int, int, int]) -> None:
    settings = experiment(evaluation__queries=4, evaluation__episodes=9)
    present, absent = inputs.calibration_episodes(settings, partition(), way=asked[0], shot=asked[1])
    assert (present.way, present.shot, present.n_queries) == expected and len(present) == 9
    assert absent is not None and not present.is_overlapping


def test_calibration_on_two_classes_has_no_absent_class() -> None:
    two = Partition("toy", "val", ("a", "b"), partition().videos[:12])
    present, absent = inputs.calibration_episodes(experiment(), two, way=5, shot=1)
    assert present.way == 2 and absent is None
    with pytest.raises(EpisodeError):
        inputs.calibration_episodes(experiment(), Partition("toy", "val", ("a",), two.videos[:6]), way=5, shot=1)

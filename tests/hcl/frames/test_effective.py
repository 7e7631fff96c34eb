import cv2
import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord, write_manifest
from hcl.datasets.splits import Partition, Video, write_split
from hcl.errors import DataError
from hcl.frames.stored_dataset import StoredDataset

LISTED = Partition("toy", "train", ("eel", "owl"), (Video("eel", "a"), Video("eel", "b"), Video("owl", "c")))


@pytest.fixture(autouse=True)
def _lists(tmp_path):
    write_split(tmp_path, "toy", {"train": LISTED})


def frames_of(root, video):
    folder = root / "images" / "toy" / video.class_name / video.name
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "0.jpg"), np.full((8, 8, 3), 20 * ord(video.name[0]) % 255, np.uint8))


def record(video, status):
    error = "" if status == "ok" else "no frame could be decoded"
    return VideoRecord(video.class_name, video.name, status=status, n_frames=int(status == "ok"), error=error)


def test_videos_recorded_as_broken_are_left_out_by_name(tmp_path):
    good, broken, other = LISTED.videos
    for video in (good, other):
        frames_of(tmp_path, video)
    write_manifest(tmp_path / "images" / "toy", [record(good, "ok"), record(broken, "broken"), record(other, "ok")])
    assert StoredDataset(tmp_path, "toy").effective("train").videos == (good, other)
    assert StoredDataset(tmp_path, "toy").left_out("train") == {broken: "no frame could be decoded"}
    assert StoredDataset(tmp_path, "toy").effective("train").digest() != LISTED.digest()


def test_a_video_that_was_never_extracted_is_refused(tmp_path):
    for video in LISTED.videos[1:]:
        frames_of(tmp_path, video)
    with pytest.raises(DataError, match=r"1 of 3 videos of toy train have no frames: 'eel/a'\n.*hcl data check toy"):
        StoredDataset(tmp_path, "toy").effective("train")


def test_a_class_without_a_whole_video_is_refused_by_name(tmp_path):
    for video in LISTED.videos[:2]:
        frames_of(tmp_path, video)
    records = [record(video, "ok") for video in LISTED.videos[:2]] + [record(LISTED.videos[2], "timeout")]
    write_manifest(tmp_path / "images" / "toy", records)
    with pytest.raises(DataError, match="1 of 2 classes of toy train have lost all of their videos: 'owl'"):
        StoredDataset(tmp_path, "toy").effective("train")

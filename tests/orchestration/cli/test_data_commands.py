"""Test `hcl data list`, `check`, `splits make`, `embed` and `show` by their command lines."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hcl.assembly import inputs
from hcl.datasets.embeddings import read_embeddings
from hcl.errors import DataError
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from orchestration.evaluation.tables import Cell
from orchestration.training.run import Run
from orchestration.training.train import data_digests
from tests.orchestration.conftest import CLASSES, N_VIDEOS, Command, tiny_experiment, write_data

ALL = [one for classes in CLASSES.values() for one in classes]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data", ("toy",), n_videos=N_VIDEOS)


def video(path: Path, n_frames: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for index in range(n_frames):
        writer.write(np.full((24, 32, 3), 20 * index, np.uint8))
    writer.release()
    return path


def test_missing_videos_are_accepted_by_a_check_and_then_left_out_by_name(
    hcl: Command, data: Path, experiment_file: Path
) -> None:
    shutil.rmtree(data / "images" / "toy" / "ant" / "ant_1")
    train = ("train", experiment_file, "--data", data, "--dry-run")
    refused = hcl(*train)
    assert refused.code == 1 and "1 of 20 videos of toy train have no frames: 'ant/ant_1'" in refused.err
    assert "hcl data check toy" in refused.err

    strict = hcl("data", "check", "toy", "--data", data, "--strict")
    assert strict.code == 1 and "1 warnings, and the check is strict" in strict.err
    assert (data / "splits" / "toy" / "missing.txt").read_text() == "ant/ant_1\n"
    assert hcl(*train).code == 1

    checked = hcl("data", "check", "toy", "--data", data)
    assert checked.code == 0
    assert "warning train: 1 of 20 videos missing: 'ant/ant_1'" in checked.err
    accepted = json.loads((data / "splits" / "toy" / "effective.json").read_text())["partitions"]
    assert f"effective train: 19 videos, digest {accepted['train']['digest']}" in checked.out
    ran = hcl(*train)
    assert ran.code == 0 and "train: 19 clips of 4 classes" in ran.out


def test_copies_are_named_with_what_they_are_copies_of(hcl: Command, data: Path, experiment_file: Path) -> None:
    """Copies lie in train and test, and twice in test; without a check the same videos are used."""
    images = data / "images" / "toy"
    for copy in ("ant/ant_1", "hen/hen_3"):
        shutil.rmtree(images / copy)
        shutil.copytree(images / "hen" / "hen_2", images / copy)
    refused = hcl("train", experiment_file, "--data", data, "--dry-run")
    assert refused.code == 1 and "class 'hen' has 4 clips, an episode needs 5" in refused.err  # of the test classes
    train = ("train", experiment_file, "--data", data, "--dry-run", "--set", "evaluation.shots=[1]")
    unchecked = hcl(*train)
    assert unchecked.code == 0 and "train: 19 clips of 4 classes" in unchecked.out
    checked = hcl("data", "check", "toy", "--data", data, "--strict")
    assert checked.code == 0, checked.err
    assert "train: 1 videos are copies and left out: ant/ant_1 = hen/hen_2 (test)" in checked.err
    assert "test: 1 videos are copies and left out: hen/hen_3 = hen/hen_2 (test)" in checked.err
    assert "evaluation.way up to 3, evaluation.shots + evaluation.queries up to 4" in checked.out
    assert "effective train: 19 videos" in checked.out and "effective test: 14 videos" in checked.out
    copies = (data / "splits" / "toy" / "copies.txt").read_text()
    assert copies == "train\tant/ant_1\ttest\then/hen_2\ntest\then/hen_3\ttest\then/hen_2\n"
    assert hcl(*train).out.splitlines()[1:] == unchecked.out.splitlines()[1:]
    for settings in (("data.keep_copies=true",), ("data.protocol=published",)):
        kept = hcl(*train, *(word for setting in settings for word in ("--set", setting)))
        assert "train: 20 clips of 4 classes" in kept.out, settings


def test_hints_quote_names_and_lists_of_other_tools_are_told(hcl: Command, tmp_path: Path) -> None:
    for class_name in "abc":
        (tmp_path / "raw" / class_name).mkdir(parents=True)
        (tmp_path / "raw" / class_name / "1.MTS").write_text(class_name)
    (tmp_path / "raw" / "a" / "1.srt").write_text("words")
    sizes = ("--train", "1", "--val", "1", "--test", "1")
    made = hcl(
        "data", "splits", "make", "küche 1 [x]", "--from", tmp_path / "raw", "--data", tmp_path / "my data", *sizes
    )
    options = f"'küche 1 [x]' --data '{tmp_path}/my data'"
    assert made.code == 0 and f"next: hcl extract {options}, then hcl data check {options}" in made.out
    assert "note 1 files are no videos (.srt 1): left out, such as 'a/1.srt'" in made.err
    lists = tmp_path / "my data" / "splits" / "küche 1 [x]"
    for path in lists.glob("*.list"):
        path.write_text(path.read_text().replace("/1", "/1.MTS 4"))
    checked = hcl("data", "check", "küche 1 [x]", "--data", tmp_path / "my data")
    assert checked.code == 0 and checked.err.count("extensions were taken off the names of 1 lines") == 3
    assert f"after `hcl extract {options}`" in checked.err


def test_short_videos_and_files_to_extract_are_told_of(hcl: Command, data: Path) -> None:
    shutil.rmtree(data / "images" / "toy" / "ant" / "ant_1")
    video(data / "videos" / "toy" / "ant" / "ant_1.avi")
    checked = hcl("data", "check", "toy", "--data", data, "--min-frames", "6")
    assert checked.code == 0
    assert "note train: 19 videos have fewer than 6 frames: ant/ant_0 (5)" in checked.err
    assert "1 videos have no frames yet" in checked.err
    assert not (data / "splits" / "toy" / "effective.json").exists()


@pytest.mark.ray
def test_files_that_cannot_be_opened_are_found_before_extraction(local_ray, hcl: Command, data: Path) -> None:
    for name in ("ant_1", "ant_2"):
        shutil.rmtree(data / "images" / "toy" / "ant" / name)
    video(data / "videos" / "toy" / "ant" / "ant_1.avi")
    (data / "videos" / "toy" / "ant" / "ant_2.avi").write_bytes(b"RIFF and nothing more")
    checked = hcl("data", "check", "toy", "--data", data, "--open-files")
    assert checked.code == 0
    assert "warning train: 1 of 20 videos broken: 'ant/ant_2'" in checked.err
    assert (data / "splits" / "toy" / "broken.txt").read_text().startswith("ant/ant_2\tnot a video")
    frames = data / "images" / "toy" / "bee"
    (frames / "bee_0" / "2.jpg").write_bytes(b"")
    (frames / "bee_1" / "3.jpg").write_bytes((frames / "bee_1" / "3.jpg").read_bytes()[:-9])  # the end is missing
    checked = hcl("data", "check", "toy", "--data", data, "--open-files", "--strict")
    assert checked.code == 1
    assert "warning train: 3 of 20 videos broken: 'ant/ant_2', 'bee/bee_0', 'bee/bee_1'" in checked.err
    assert "bee/bee_0: 2.jpg is not an image" in checked.err and "bee/bee_1: 3.jpg is not an image" in checked.err


def test_data_sets_of_ones_own_are_listed_and_flips_warned_of(hcl: Command, data: Path) -> None:
    (data / "datasets").mkdir()
    (data / "datasets" / "mine [red].yaml").write_text("name: mine [red]\nflips_are_safe: false\n")
    listed = hcl("data", "list", "--data", data)
    assert listed.code == 0
    assert "flip" not in hcl("train", "ssv2_100_otam", "--data", data, "--dry-run").err
    mirrored = hcl("train", "ssv2_100_otam", "--data", data, "--dry-run", "--set", "clips.flip=true")
    assert "left and right are classes of ssv2_100_otam: --set clips.flip=false" in mirrored.err
    for text in ("ssv2_100_otam", "train 64 / 67,013", "mine [red]", "left and right are classes", "toy: videos/toy/"):
        assert text in listed.out


def test_splits_are_made_and_not_replaced(hcl: Command, tmp_path: Path) -> None:
    for class_name in "abcdef":
        (tmp_path / "raw" / class_name).mkdir(parents=True)
        (tmp_path / "raw" / class_name / "1.mp4").write_text(class_name)
    make = ("data", "splits", "make", "mine", "--from", tmp_path / "raw", "--data", tmp_path / "data")
    made = hcl(*make, "--folds", "2", "--train", "3", "--val", "1", "--test", "2")
    assert (
        "an episode takes 5 classes by default, and val has 1 and test has 2: give them more with --train" in made.err
    )
    assert made.code == 0 and "mine_1: train 3 classes, 3 videos; val 1 classes, 1 videos" in made.out
    assert len(StoredDataset(tmp_path / "data", "mine_0").split.partitions["test"].classes) == 2
    again = hcl(*make, "--folds", "2")
    assert again.code == 2 and "exists" in again.err and "--overwrite" in again.err
    assert hcl(*make, "--folds", "2", "--overwrite", "--seed", "1").code == 0


def test_published_embeddings_are_imported_and_not_replaced(hcl: Command, data: Path) -> None:
    vectors = np.arange(len(ALL) * 3, dtype=np.float32).reshape(len(ALL), 3)
    (data / "toy_embs.pkl").write_bytes(pickle.dumps(vectors, protocol=3))
    (data / "names.txt").write_text("\n".join(f"{name},the {name}" for name in ALL))
    embed = ("data", "embed", "toy", "--data", data, "--published", data / "toy_embs.pkl")
    without = hcl(*embed)
    assert without.code == 1 and "toy_dirname2cls.txt: cannot be read" in without.err
    done = hcl(*embed, "--names", data / "names.txt")
    assert done.code == 0 and "10 classes x 3" in done.out
    embeddings = read_embeddings(data / "embeddings" / "toy.npz", ALL[::-1], dataset="toy", dim=3)
    np.testing.assert_array_equal(embeddings.numpy(), vectors[::-1])
    assert hcl(*embed, "--names", data / "names.txt").code == 2
    assert hcl(*embed, "--names", data / "names.txt", "--overwrite").code == 0


def test_data_embeddings_is_the_one_place_of_class_name_embeddings(hcl: Command, data: Path, tmp_path: Path) -> None:
    """`data embed` writes the file that training, evaluation, explanations and `reproduce` read, wherever it lies."""
    pattern = str(tmp_path / "own place" / "of {dataset}.npz")
    semantic = {"matching__semantic": True, "matching__tuple_sizes": [2], "model__embedding_dim": 3}
    experiment = tiny_experiment(data__embeddings=pattern, **semantic)
    stored = StoredDataset(data, "toy")
    [partition, _] = Run(experiment, DataRoot(data), tmp_path / "runs", tmp_path / "runs" / "tiny").partitions()
    with pytest.raises(DataError, match="no such file of class-name embeddings") as caught:
        inputs.clip_embeddings(experiment, stored, partition)
    [command] = re.findall("`hcl (.*)`", str(caught.value.remedy))
    vectors = np.arange(len(ALL) * 3, dtype=np.float32).reshape(len(ALL), 3)
    (data / "toy_embs.pkl").write_bytes(pickle.dumps(vectors, protocol=3))
    (data / "names.txt").write_text("\n".join(f"{one},the {one}" for one in ALL))
    released = ("--data", data, "--published", data / "toy_embs.pkl", "--names", data / "names.txt")
    done = hcl(*shlex.split(command), *released)
    assert done.code == 0, done.err
    assert (tmp_path / "own place" / "of toy.npz").exists() and not (data / "embeddings" / "toy.npz").exists()
    found = inputs.class_embeddings(experiment, stored, partition)
    assert found is not None and found.tolist() == [vectors[ALL.index(name)].tolist() for name in partition.classes]
    digest = inputs.embeddings_identity(experiment, stored)
    run = Run(experiment, DataRoot(data), tmp_path / "runs", tmp_path / "runs" / "tiny")
    assert len(digest) == 12 and data_digests(run)["embeddings"] == digest
    cell = Cell("hcl", experiment, stored, partition, tmp_path / "best.pt")
    assert cell.digests["embeddings"] == digest
    names = cell.embeddings()
    assert names is not None and names.shape == (len(partition.videos), 3)
    assert hcl(*shlex.split(command), *released).code == 2, "it exists, under this name"
    assert hcl("data", "embed", "toy", *released).code == 0, "the default place is another"
    assert hcl("data", "embed", "toy", "--set", "seed=3", *released).code == 2


def test_a_sheet_of_a_video_a_class_and_a_file(hcl: Command, data: Path, tmp_path: Path) -> None:
    small = ("--data", data, "--set", "clips.n_frames=4", "--set", "clips.size=48")
    for what, name in (("toy/ant/ant_0", "toy_ant_ant_0.png"), ("toy/hen", "toy_hen.png")):
        shown = hcl("data", "show", what, *small)
        assert shown.code == 0 and name in shown.out
        assert cv2.imread(str(tmp_path / name)).shape[1] == 1014
    path = video(tmp_path / "50% [a].avi")
    assert hcl("data", "show", path, *small, "--to", tmp_path / "sheet.png", "--views", "1").code == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] > 300


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        ("toy/ante", ("no class 'ante'", "did you mean 'ant'")),
        ("toy/ant/ant_9", ("no video 'ant_9' of 'ant'", "did you mean 'ant_")),
        ("toy", ("is neither a file nor DATASET/CLASS",)),
        ("../toy/ant", ("dataset name '..'",)),
        ("none/ant", ("train_class.txt: there are no lists of data set 'none'",)),
    ],
)
def test_what_cannot_be_shown_is_named(hcl: Command, data: Path, what: str, texts: tuple[str, ...]) -> None:
    shown = hcl("data", "show", what, "--data", data)
    assert shown.code == 1
    assert all(text in shown.err for text in texts), shown.err

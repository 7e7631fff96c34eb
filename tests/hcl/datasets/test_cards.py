"""Test cards of data sets: shipped ones, a user's own, and invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcl.config.resolve import resolve, shipped_experiments
from hcl.datasets.cards import card_of, known_datasets, shipped_datasets
from hcl.errors import ConfigError, SplitError
from hcl.frames.stored_dataset import StoredDataset

BENCHMARKS = {  # classes and videos of train, val, test; the released files' extension; whether flips are safe
    "ssv2_100_otam": ((64, 12, 24), (67013, 1926, 2857), "webm", False),
    "ssv2_100": ((64, 12, 24), (6400, 1200, 2400), "webm", False),
    "kinetics100": ((64, 12, 24), (6400, 1200, 2400), "mp4", True),
    "hmdb51": ((31, 10, 10), (4280, 1194, 1292), "avi", True),
    "ucf101": ((70, 10, 21), (9154, 1421, 2745), "avi", True),
}


def own(root: Path, text: str, name: str = "mine") -> Path:
    (root / "datasets").mkdir(exist_ok=True)
    (root / "datasets" / f"{name}.yaml").write_text(text)
    return root


def test_the_five_benchmarks_are_known(tmp_path: Path) -> None:
    assert set(shipped_datasets()) == {*BENCHMARKS, "metaworld"}
    for name, (classes, videos, extension, flips_are_safe) in BENCHMARKS.items():
        card = card_of(tmp_path, name)
        assert card.name == name and card.title and "https://" in card.obtain
        assert list(card.partitions) == ["train", "val", "test"]
        assert tuple(part.classes for part in card.partitions.values()) == classes
        assert tuple(part.videos for part in card.partitions.values()) == videos
        assert (card.extensions, card.flips_are_safe) == ((extension,), flips_are_safe)


def test_shipped_experiments_mirror_only_where_it_is_safe(tmp_path: Path) -> None:
    for name in shipped_experiments():
        experiment = resolve(name).experiment
        card = card_of(tmp_path, experiment.data.dataset)
        if card.flips_are_safe is not None and experiment.mode == "corrected":
            assert experiment.clips.flip == card.flips_are_safe, name


def test_a_dataset_without_a_card_is_its_folder(tmp_path: Path) -> None:
    card = card_of(tmp_path, "toy")
    assert card.places("a {video} (b)", "v[1]") == [("videos/toy/a {video} (b)", "v[1]")]
    assert card.flips_are_safe is None and not card.partitions


def test_a_card_of_ones_own_comes_before_the_shipped_one(tmp_path: Path) -> None:
    text = "name: hmdb51\nvideos: ['/mnt/hmdb/{class}/clip-{video}', '{video}']\nframes_of: shared\n"
    card = card_of(own(tmp_path, text, "hmdb51"), "hmdb51")
    assert card.places("kick", "x") == [("/mnt/hmdb/kick", "clip-x"), ("", "x")]
    assert StoredDataset(tmp_path, "hmdb51").images_root == tmp_path / "images" / "shared"
    assert StoredDataset(tmp_path, "ucf101").images_root == tmp_path / "images" / "ucf101"
    assert known_datasets(own(tmp_path, "name: mine")) == sorted([*BENCHMARKS, "metaworld", "mine"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "is not the description of a data set"),
        ("name: other", r"mine\.yaml: name: describes 'other', its file is named 'mine'"),
        ("title: x", r"mine\.yaml: name: Field required"),
        ("name: mine\nflip: true", r"mine\.yaml: flip: Extra inputs are not permitted"),
        ("name: mine\npartitions: {dev: {classes: 1, videos: 2}}", r"mine\.yaml: partitions\.dev"),
        ("name: mine\npartitions: {val: {classes: 0, videos: 2}}", r"partitions\.val\.classes: .* greater than"),
        ("name: mine\nvideos: []", r"mine\.yaml: videos: "),
        ("name: mine\nvideos: ['x/{class}']", "must end in a component with {video}"),
        ("name: mine\nvideos: ['{video}/x']", "must end in a component with {video}"),
        ("name: mine\nvideos: ['{video}/{video}']", "must end in a component with {video}"),
        ("name: mine\nvideos: ['{clip}/{video}']", "must end in a component with {video}"),
        ("name: mine\nextensions: [.MP4]", "must be lower case, without a dot"),
        ("name: mine\nvideos: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_card_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        card_of(own(tmp_path, text), "mine")


def test_frames_cannot_be_taken_from_outside(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"frames_of: dataset name '\.\./other'"):
        card_of(own(tmp_path, "name: mine\nframes_of: ../other"), "mine")
    with pytest.raises(SplitError, match="dataset name"):
        card_of(tmp_path, "../mine")

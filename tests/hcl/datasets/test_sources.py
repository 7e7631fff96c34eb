"""Test the search for the file of a listed video."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcl.datasets.cards import DatasetCard
from hcl.datasets.sources import find_sources
from hcl.datasets.splits import Video
from hcl.errors import DataError

ODD = [  # names from the published lists
    Video("Twisting (wringing) something, wet", "88644"),
    Video("cartwheel", "(Rad)Schlag_die_Bank!_f_cm"),
    Video("[a-z]*", "%04d {class} ?"),
    Video("air drumming", "-VtLx-mcPds_000012_000022"),
    Video("kick.ball", "v.with.dots"),
]


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    files(tmp_path, *(f"videos/toy/{video.key}.WebM" for video in ODD))
    found = find_sources(tmp_path, DatasetCard(name="toy"), ODD)
    assert found == {video.key: tmp_path / f"videos/toy/{video.key}.WebM" for video in ODD}


def test_the_first_place_that_has_a_video_counts(tmp_path: Path) -> None:
    card = DatasetCard(name="toy", videos=("videos/{dataset}/{class}/{video}", "flat/{video}", "flat/clip-{video}"))
    files(tmp_path, "videos/toy/a/1.avi", "flat/1.avi", "flat/2.avi", "flat/clip-3.avi", "flat/4.txt", "flat/.5.avi")
    (tmp_path / "flat" / "6.avi").mkdir()
    found = find_sources(tmp_path, card, [Video("a", str(number)) for number in range(1, 7)])
    assert found == {
        "a/1": tmp_path / "videos/toy/a/1.avi",
        "a/2": tmp_path / "flat/2.avi",
        "a/3": tmp_path / "flat/clip-3.avi",
    }


def test_of_two_files_that_of_the_released_kind_counts(tmp_path: Path) -> None:
    files(tmp_path, "videos/toy/a/1.avi", "videos/toy/a/1.mp4", "videos/toy/a/1.txt")
    found = find_sources(tmp_path, DatasetCard(name="toy", extensions=("mp4",)), [Video("a", "1")])
    assert found["a/1"].name == "1.mp4"
    with pytest.raises(DataError, match=r"'1\.avi' and '1\.mp4' are both video '1'") as caught:
        find_sources(tmp_path, DatasetCard(name="toy"), [Video("a", "1")])
    assert caught.value.remedy
    assert find_sources(tmp_path, DatasetCard(name="toy"), [Video("a", "2")]) == {}  # no list names the two

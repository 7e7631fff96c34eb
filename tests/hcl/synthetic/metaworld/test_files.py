"""Test the video files of the Meta-World benchmark, the list of what is known of them, and what filming needs."""

from __future__ import annotations

import ctypes
import importlib.util
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from hcl.errors import ConfigError, DataError, StorageError
from hcl.synthetic.metaworld import files, requirements
from hcl.synthetic.metaworld.encoding import ENCODERS, FPS, draw_container, write_video
from hcl.synthetic.metaworld.facts import VideoFacts, video_name
from hcl.synthetic.metaworld.requirements import (
    INSTALL_LIBRARIES,
    check_requirements,
    choose_software_rendering,
    opened_rendering,
)


def moving_square(n_frames: int = 9) -> np.ndarray:
    frames = np.full((n_frames, 48, 64, 3), (30, 90, 200), np.uint8)
    for n, frame in enumerate(frames):
        frame[10:30, 4 * n : 4 * n + 16] = (220, 160, 20)
    return frames


def read(path: Path) -> np.ndarray:
    reader, frames = cv2.VideoCapture(str(path)), []
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
    while (one := reader.read())[0]:
        frames.append(one[1][..., ::-1])
    return np.array(frames)


# encoding


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "vp9"), (".mp4", "h264"), (".avi", "mpeg4")])
def test_a_file_holds_its_frames_in_their_order(tmp_path: Path, suffix: str, codec: str) -> None:
    frames = moving_square()
    write_video(tmp_path / "v", frames, suffix)
    with av.open(str(tmp_path / "v")) as file:
        assert file.streams.video[0].codec_context.name == codec
        assert {"webm": "webm", "mp4": "mp4", "avi": "avi"}[suffix[1:]] in file.format.name
    decoded = read(tmp_path / "v")
    assert decoded.shape == frames.shape
    errors = np.abs(decoded[:, None].astype(float) - frames[None]).mean((2, 3, 4))
    assert errors.argmin(1).tolist() == list(range(len(frames))) and errors.diagonal().max() < 8
    write_video(tmp_path / "again", frames, suffix)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "v").read_bytes()


def test_containers_are_drawn_by_their_shares() -> None:
    drawn = Counter(draw_container(np.random.default_rng(seed)) for seed in range(1000))
    for suffix, encoder in ENCODERS.items():
        assert drawn[suffix] / 1000 == pytest.approx(encoder.share, abs=0.05)


# files


def facts_of(number: int = 3, suffix: str = ".avi") -> VideoFacts:
    return VideoFacts("door_open", number, suffix, 9, textures={"T_floor": "wood"}, rejected=["too early"])


def test_a_video_is_written_under_its_name(tmp_path: Path) -> None:
    path = files.save_video(tmp_path, facts_of(), moving_square())
    assert path == tmp_path / "door_open" / "door_open_0003.avi" == files.video_path(tmp_path, facts_of())
    assert len(read(path)) == 9 and [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_file_that_does_not_yield_its_frames_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_video", lambda path, frames, suffix: write_video(path, frames[:-1], suffix))
    with pytest.raises(DataError, match="9 frames were written, and 8 can be read") as caught:
        files.save_video(tmp_path, facts_of(), moving_square())
    assert str(caught.value.where).endswith("door_open_0003.avi") and not list(tmp_path.glob("*/*"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "door_open").write_text("in the way")
    with pytest.raises(StorageError, match=r"door_open_0003\.avi: cannot be written"):
        files.save_video(tmp_path, facts_of(), moving_square())


def test_leftovers_of_kills_are_removed_and_videos_stay(tmp_path: Path) -> None:
    path = files.save_video(tmp_path, facts_of(), moving_square())
    left = path.with_name(f".{path.name}.abc.partial")
    left.write_bytes(b"half")
    files.discard_partials(tmp_path)
    assert path.exists() and not left.exists()


def test_the_list_survives_a_kill_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "videos.jsonl"
    assert files.read_facts(path) == {}
    files.append_facts(path, [facts_of(12), facts_of(2)])
    files.append_facts(path, [facts_of(7, suffix="")])
    with path.open("a") as file:
        file.write('{"action": "door_open", "num')
    known = files.read_facts(path)
    assert known == {video_name("door_open", n): facts_of(n, ".avi" if n != 7 else "") for n in (12, 2, 7)}
    files.write_facts(path, known.values())
    assert list(files.read_facts(path)) == ["door_open_0002", "door_open_0007", "door_open_0012"]


# what filming needs


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there("json") if name == "mujoco" else None)
    with pytest.raises(ConfigError, match="not installed: metaworld") as caught:
        check_requirements()
    assert caught.value.remedy == "pip install 'hcl-orchestrator[metaworld]'"


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace())
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError, match=r"libEGL\.so\.1 cannot be loaded") as caught:
        check_requirements()
    assert "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri" in str(caught.value.remedy)


@pytest.mark.parametrize("error", [ImportError("no EGL\nx"), AttributeError("eglQueryString"), RuntimeError("context")])
def test_what_mujoco_raises_without_a_driver_is_explained(error: Exception) -> None:
    with pytest.raises(ConfigError, match=f"{type(error).__name__}: {str(error).splitlines()[0]}") as caught:  # noqa: SIM117
        with opened_rendering():
            raise error
    assert INSTALL_LIBRARIES in str(caught.value.remedy)


def test_software_draws_unless_the_user_has_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_MESA", str(tmp_path / "50_mesa.json"))
    environment = {"MUJOCO_GL": "osmesa"}
    choose_software_rendering(environment)
    assert environment == {"MUJOCO_GL": "osmesa", "LIBGL_ALWAYS_SOFTWARE": "1", "LP_NUM_THREADS": "1"}
    (tmp_path / "50_mesa.json").write_text("{}")
    choose_software_rendering(environment)
    assert environment["__EGL_VENDOR_LIBRARY_FILENAMES"] == str(tmp_path / "50_mesa.json"), (
        "a graphics card is not asked"
    )

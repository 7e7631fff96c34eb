"""The commands of README, as it prints them, take a folder of ten classes of eight videos to a table and a page."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import results
from tests.architecture.pages import ROOT, hcl_commands, section

pytestmark = [pytest.mark.ray, pytest.mark.long]

CLASSES, VIDEOS, FRAMES, SIDE = 10, 8, 12, 64

SHORTER = {
    "train": ("train.epochs=1", "train.batches_per_epoch=2", "train.val_episodes=20", "model.cached_views=1"),
    "evaluate": ("evaluation.episodes=50",),
}
"""Settings that leave the commands as they are and make them short."""


def write_videos(folder: Path) -> None:
    """Write videos of a square that moves across the picture, in a direction of its class."""
    draw = np.random.default_rng(0)
    for number in range(CLASSES):
        angle = 2 * np.pi * number / CLASSES
        step = np.array([np.cos(angle), np.sin(angle)]) * SIDE / (2 * FRAMES)
        target = folder / f"direction {number}"
        target.mkdir(parents=True)
        for video in range(VIDEOS):
            colour = tuple(int(value) for value in draw.integers(80, 255, 3))
            start = draw.integers(SIDE // 4, 3 * SIDE // 4, 2)
            writer = cv2.VideoWriter(
                str(target / f"video {video}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 12, (SIDE, SIDE)
            )
            for frame in range(FRAMES):
                picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
                corner = (start + frame * step).astype(int)
                cv2.rectangle(picture, corner.tolist(), (corner + 10).tolist(), colour, -1)
                writer.write(picture)
            writer.release()


def test_readme_leads_from_a_folder_of_videos_to_a_table(tmp_path: Path) -> None:
    write_videos(tmp_path / "data" / "videos" / "mine")
    page = section(ROOT / "README.md", "From a folder of videos to a table")
    first = [words for line in page.blocks for words in hcl_commands(line)]
    assert [words[0] for words in first] == ["new", "extract", "train", "evaluate", "report"]
    spans = section(ROOT / "README.md", "What next").spans
    further = [words for span in spans for words in hcl_commands(span) if words[0] not in ("sweep", "train")]
    assert len(further) >= 6
    for words in [*first, *further]:
        run_it(words, tmp_path)
    assert (tmp_path / "runs" / "mine" / "report" / "index.html").is_file()
    cells = results.load(str(tmp_path / "runs" / "*")).evaluations
    assert set(cells["method"]) >= {"hcl", "untrained", "prototype", "otam"}
    assert set(cells["way"]) == {3} and set(cells["shot"]) == {1, 5}


def run_it(words: list[str], folder: Path) -> None:
    """Run a command in a process of its own, in a folder."""
    shorter = [word for setting in SHORTER.get(words[0], ()) for word in ("--set", setting)]
    command = [sys.executable, "-m", "orchestration", *words, *shorter]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"hcl {shlex.join(words)}\n{ended.stdout}\n{ended.stderr}"

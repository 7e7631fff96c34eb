"""Compare speed and size of extraction with a plain loop, on the same files in one run; `make bench` prints them.

The files are 640 x 480, in three codecs. At 320 x 240 and below no frame is resized: the gain is then due only to two
cores and to the JPEG quality.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from hcl.datasets.manifest import VideoRecord, append_record, read_manifest
from hcl.datasets.video_files import find_videos
from hcl.frames.extraction import extract_video
from hcl.frames.stored_dataset import StoredDataset
from orchestration.extraction import extract
from orchestration.extraction.extract import extract_dataset

N_VIDEOS, N_FRAMES, WIDTH, HEIGHT = 36, 60, 640, 480
CODECS = ((".mp4", "mp4v"), (".webm", "VP80"), (".avi", "MJPG"))


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write videos of a camera that pans over a texture with detail at two scales, behind a ball."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    coarse, fine = (
        cv2.resize(rng.integers(0, 256, (HEIGHT // n, WIDTH // n, 3), np.uint8), (2 * WIDTH, 2 * HEIGHT))
        for n in (8, 1)
    )
    scene = cv2.addWeighted(coarse, 0.8, fine, 0.2, 0)
    for index in range(N_VIDEOS):
        suffix, codec = CODECS[index % len(CODECS)]
        path = root / "videos" / "bench" / "class" / f"{index:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 12.0, (WIDTH, HEIGHT))
        for step in range(N_FRAMES):
            x, y = (
                int(side / 2 + side / 3 * np.sin((step + 7 * index) / rate))
                for side, rate in ((WIDTH, 15), (HEIGHT, 17))
            )
            frame = scene[y : y + HEIGHT, x : x + WIDTH].copy()
            cv2.circle(frame, (step * 8 % WIDTH, HEIGHT // 2), 60, (0, 0, 255), -1)
            writer.write(frame)
        writer.release()
    return root


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time at which each video of an extraction was recorded."""
    times: list[float] = []

    def note(images_root: Path, record: VideoRecord) -> None:
        append_record(images_root, record)
        times.append(time.perf_counter())

    monkeypatch.setattr(extract, "append_record", note)
    return times


def rate(times: list[float], after: int) -> float:
    """Return videos a second after the first `after`, which excludes the start of actors (a second or two)."""
    return (len(times) - after) / (times[-1] - times[after - 1])


def plain(videos: dict[str, Path], destination: Path) -> list[float]:
    """Write every frame at full size at quality 95, like the published script."""
    times = []
    for key, path in videos.items():
        folder = destination / key
        folder.mkdir(parents=True)
        capture, index = cv2.VideoCapture(str(path)), 0
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            cv2.imwrite(str(folder / f"{index}.jpg"), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
            index += 1
        times.append(time.perf_counter())
    return times


def n_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*.jpg"))


def test_two_actors_against_a_plain_loop(
    local_ray: ModuleType, data: Path, tmp_path: Path, finished: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    videos = find_videos(data / "videos" / "bench")
    theirs = rate(plain(videos, tmp_path / "plain"), after=3)
    began = time.perf_counter()
    extract_dataset(StoredDataset(data, "bench"), actors=2)
    whole, ours = len(videos) / (time.perf_counter() - began), rate(finished, after=3)
    size = n_bytes(data / "images") / n_bytes(tmp_path / "plain")
    tell(
        capsys,
        f"plain loop {theirs:.2f} videos/s, two actors {ours:.2f} ({whole:.2f} with their start), "
        f"ratio {ours / theirs:.2f}",
    )
    tell(capsys, f"bytes: {size:.2f} of the plain loop's")
    finished.clear()
    extract_dataset(StoredDataset(data, "bench"), actors=2, n_frames=8)
    tell(capsys, f"with 8 frames of {N_FRAMES}: {rate(finished, after=3):.2f} videos/s")
    assert ours > 1.5 * theirs
    assert size < 1 / 3


def test_one_actor_against_the_same_work_without_ray(
    local_ray: ModuleType, data: Path, tmp_path: Path, finished: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.setNumThreads(1)
    times = []
    for key, path in find_videos(data / "videos" / "bench").items():
        append_record(tmp_path, extract_video(path, tmp_path / key))
        times.append(time.perf_counter())
    extract_dataset(StoredDataset(data, "bench"), actors=1, quality=89)  # other options: all of it is done again
    without, ours = rate(times, after=3), rate(finished, after=3)
    tell(capsys, f"one actor {ours:.2f} videos/s, the same work without Ray {without:.2f}, ratio {ours / without:.3f}")
    assert len(read_manifest(data / "images" / "bench")) == N_VIDEOS
    assert ours > 0.8 * without

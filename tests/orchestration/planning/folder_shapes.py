"""Make twenty folders of tiny videos in the layouts of usual downloads."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

SIDE, FRAMES = 32, 6
ACTIONS = ("run", "jump", "wave", "throw", "push", "pull", "open", "close", "lift", "drop", "turn", "kick")

_numbers: Iterator[int] = iter(range(10**9))


def pictures(n_frames: int = FRAMES) -> Iterator[np.ndarray]:
    """Yield the frames of a video that no other call makes."""
    draw = np.random.default_rng(next(_numbers))
    start, step, colour = draw.integers(8, 24, 2), draw.normal(0, 1.5, 2), draw.integers(80, 255, 3).tolist()
    for frame in range(n_frames):
        picture = np.full((SIDE, SIDE, 3), 30, np.uint8)
        corner = (start + frame * step).astype(int)
        cv2.rectangle(picture, corner.tolist(), (corner + 6).tolist(), colour, -1)
        yield picture


def write_video(path: Path) -> Path:
    """Write a video; mp4 as MPEG-4, everything else as Motion JPEG in an avi container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    made = path if path.suffix in (".mp4", ".avi") else path.with_suffix(".avi")
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter.fourcc(*code), 12, (SIDE, SIDE))
    for picture in pictures():
        writer.write(picture)
    writer.release()
    return made if made == path else made.rename(path)


def classes_in(folder: Path, n_classes: int, n_videos: int, suffix: str = ".avi") -> Path:
    """Write a folder of class folders."""
    for name in ACTIONS[:n_classes]:
        for number in range(n_videos):
            write_video(folder / name / f"{name}_{number}{suffix}")
    return folder


def ten_of_eight(root: Path) -> Path:
    return classes_in(root, 10, 8, ".mp4")


def four_of_four(root: Path) -> Path:
    return classes_in(root, 4, 4)


def five_of_five(root: Path) -> Path:
    return classes_in(root, 5, 5)


def six_of_four(root: Path) -> Path:
    return classes_in(root, 6, 4)


def twelve_of_eleven(root: Path) -> Path:
    return classes_in(root, 12, 11)


def unequal_classes(root: Path) -> Path:
    for number, name in enumerate(ACTIONS):
        for video in range(1 + number):
            write_video(root / name / f"{video}.avi")
    return root


def class_in_class(root: Path) -> Path:
    for name in ACTIONS[:6]:
        for number in range(5):
            write_video(root / name / name / f"v{number}.avi")
    return root


def one_folder_above(root: Path) -> Path:
    classes_in(root / "dataset" / "videos", 7, 5)
    (root / "README.txt").write_text("A download.\n")
    return root


def persons_above_classes(root: Path) -> Path:
    for person in range(5):
        for name in ACTIONS[:6]:
            write_video(root / f"person{person:02d}" / name / "1.avi")
    return root


def groups_below_classes(root: Path) -> Path:
    for name in ACTIONS[:6]:
        for group in range(3):
            for number in range(2):
                write_video(root / name / f"g{group}" / f"clip{number}.avi")
    return root


def parts_of_disjoint_classes(root: Path) -> Path:
    for part, names in {"train": ACTIONS[:4], "val": ACTIONS[4:6], "test": ACTIONS[6:9]}.items():
        for name in names:
            for number in range(5):
                write_video(root / part / name / f"{number}.avi")
    return root


def parts_of_shared_classes(root: Path) -> Path:
    for part, n_videos in {"train": 5, "test": 2}.items():
        for name in ACTIONS[:6]:
            for number in range(n_videos):
                write_video(root / part / name / f"{number}.avi")
    return root


def parts_without_validation(root: Path) -> Path:
    for part, names in {"Training": ACTIONS[:8], "Testing": ACTIONS[8:11]}.items():
        for name in names:
            for number in range(5):
                write_video(root / part / name / f"{number}.avi")
    return root


def frames_of_classes(root: Path) -> Path:
    for name in ACTIONS[:6]:
        for number in range(5):
            folder = root / name / f"clip {number}"
            folder.mkdir(parents=True)
            for index, picture in enumerate(pictures()):
                cv2.imwrite(str(folder / f"img_{index:05d}.jpg"), picture)
    return root


def one_folder_with_a_table(root: Path) -> Path:
    rows = []
    for name in ACTIONS[:7]:
        for _ in range(5):
            path = write_video(root / "clips" / f"{next(_numbers):06d}.avi")
            rows.append((path.name, name))
    with (root / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("video", "action"), *rows])
    return root


def one_folder_with_numbered_labels(root: Path) -> Path:
    lines = []
    for label, _ in enumerate(ACTIONS[:6]):
        for _ in range(5):
            path = write_video(root / "videos" / f"{next(_numbers):06d}.avi")
            lines.append(f"{path.name} {label}")
    (root / "list.txt").write_text("\n".join(lines) + "\n")
    (root / "classInd.txt").write_text("".join(f"{label} {name}\n" for label, name in enumerate(ACTIONS[:6])))
    return root


def names_with_classes(root: Path) -> Path:
    for name in ("HandStand", "PullUps", "Typing", "YoYo", "Surfing", "Punch"):
        for number in range(5):
            write_video(root / f"v_{name}_g{number:02d}_c01.avi")
    return root


def lists_of_partitions(root: Path) -> Path:
    classes_in(root / "videos", 9, 5)
    for part, names in {"train": ACTIONS[:4], "val": ACTIONS[4:6], "test": ACTIONS[6:8]}.items():
        lines = [f"{name}/{name}_{number}.avi" for name in names for number in range(5)]
        (root / f"{part}list01.txt").write_text("\n".join(lines) + "\n")
    return root


def copies_and_broken_files(root: Path) -> Path:
    classes_in(root, 7, 6)
    shutil.copy(root / "run" / "run_0.avi", root / "run" / "again.avi")
    shutil.copy(root / "run" / "run_1.avi", root / "jump" / "same.avi")
    (root / "jump" / "empty.avi").write_bytes(b"")
    (root / "wave" / "broken.avi").write_bytes(b"RIFF and nothing more")
    (root / "wave" / "wave_0.temp.avi").write_bytes(b"")
    (root / "wave" / "next.mp4.part").write_bytes(b"1")
    (root / "wave" / "wave_0.srt").write_text("words")
    (root / "push" / "gone.avi").symlink_to(root / "nowhere.avi")
    write_video(root / "pull" / "pull_0.mp4")
    (root / "idle").mkdir()
    return root


def unusual_names(root: Path) -> Path:
    root = root / "my {videos}"
    for name in ("kick ball", "größer", "[a], (b)", "100%", "'quoted\"", "two\nlines"):
        for number in range(5):
            write_video(root / name / f"v {number}.avi")
    return root


SHAPES: dict[str, Callable[[Path], Path]] = {
    make.__name__: make
    for make in (
        ten_of_eight,
        four_of_four,
        five_of_five,
        six_of_four,
        twelve_of_eleven,
        unequal_classes,
        class_in_class,
        one_folder_above,
        persons_above_classes,
        groups_below_classes,
        parts_of_disjoint_classes,
        parts_of_shared_classes,
        parts_without_validation,
        frames_of_classes,
        one_folder_with_a_table,
        one_folder_with_numbered_labels,
        names_with_classes,
        lists_of_partitions,
        copies_and_broken_files,
        unusual_names,
    )
}
"""The functions that make a shape in an empty folder and return the folder to give to `hcl new`."""

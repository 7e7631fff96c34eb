"""Correct lists of other tools: extensions, label columns, trailing blanks, other spellings of classes.

A list is left unchanged if the videos that it names exist. Otherwise unambiguous deviations are corrected for the whole
list at once, with a note.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hcl.datasets.cards import DatasetCard
from hcl.datasets.spellings import Spellings, folded, spelled_like
from hcl.datasets.video_files import SYSTEM_FOLDERS, is_video
from hcl.files.names import problem_with, shown

Lines = list[tuple[int, str]]
"""Numbered lines of a file."""

_N_SAMPLES = 5  # lines that are searched on disk
_COLUMNS = [re.compile(rf"(.*\S)((?:[ \t]+[0-9]+){{{n}}})", re.DOTALL) for n in (1, 2)]


@dataclass
class Known:
    """Check if a listed name has frames, a record in the manifest, or a video file in a place of the card."""

    data_root: Path
    card: DatasetCard
    images_root: Path
    recorded: Callable[[], Collection[str]]
    _spellings: Spellings = field(default_factory=Spellings)

    def as_it_is(self, line: str) -> bool:
        """Return true if something with exactly this name exists."""
        class_name, slash, name = line.partition("/")
        if not slash or problem_with(class_name) or problem_with(name):
            return False
        if (self.images_root / class_name / name).is_dir():
            return True
        for folder, stem in self.card.places(class_name, name):
            if any(_stem(file) == stem for file in _videos(Path(self.data_root, folder))):
                return True
        return line in self.recorded()

    def by_spelling(self, line: str) -> bool:
        """Return true if something with this name or another spelling of it exists."""
        class_name, slash, name = line.partition("/")
        if not slash or problem_with(class_name) or problem_with(name):
            return False
        if self._spellings.find(self.images_root, (class_name, name)):
            return True
        for folder, stem in self.card.places(class_name, name):
            root = "/" if os.path.isabs(folder) else self.data_root
            path = self._spellings.find(root, [part for part in folder.split("/") if part])
            if path is not None and any(folded(_stem(file)) == folded(stem) for file in _videos(path)):
                return True
        return self.as_it_is(line)


@dataclass
class Reading:
    """Hold a partition's two lists, and notes on the corrections."""

    classes: Lines
    videos: Lines
    notes: list[str] = field(default_factory=list)

    def replace_videos(self, changed: Sequence[str], what: str) -> None:
        """Replace the texts of the lines, and add a note."""
        pairs = [(old, new) for (_, old), new in zip(self.videos, changed, strict=True) if old != new]
        if pairs:
            self.notes.append(f"{what} of {len(pairs):,} lines, such as {shown(pairs[0][0])}")
        self.videos = [(number, new) for (number, _), new in zip(self.videos, changed, strict=True)]


def put_right(
    classes: Lines, videos: Lines, *, as_it_is: Callable[[str], bool], by_spelling: Callable[[str], bool]
) -> Reading:
    """Return the lines in the format of `hcl.datasets.splits`: classes, and `class/video` without an extension.

    Args:
        as_it_is, by_spelling: return true if the video of a line exists; see `Known`.
    """
    reading = Reading(list(classes), list(videos))
    _drop_system_folders(reading)
    _strip_blanks(reading, as_it_is)
    _drop_columns(reading, as_it_is, by_spelling)
    _drop_extensions(reading, as_it_is)
    _spell_classes(reading)
    return reading


def _drop_system_folders(reading: Reading) -> None:
    """Drop folders of the file system, such as lost+found, which `ls` lists among the classes."""
    used = {line.partition("/")[0] for _, line in reading.videos if "/" in line}
    for name in ("classes", "videos"):
        lines = getattr(reading, name)
        kept = [(number, line) for number, line in lines if line.lower() not in SYSTEM_FOLDERS or line in used]
        if kept and len(kept) < len(lines):
            setattr(reading, name, kept)
            reading.notes.append("a folder of the file system is no class: lost+found and the like were left out")


def _strip_blanks(reading: Reading, as_it_is: Callable[[str], bool]) -> None:
    used = {line.partition("/")[0] for _, line in reading.videos}
    reading.classes = [
        (number, line if line in used or not line.strip() else line.rstrip(" \t")) for number, line in reading.classes
    ]
    stripped = [line.rstrip(" \t") for _, line in reading.videos]
    stripped = [line if new.endswith("/") else new for (_, line), new in zip(reading.videos, stripped, strict=True)]
    changed = [line for (_, line), new in zip(reading.videos, stripped, strict=True) if line != new]
    if changed and not any(map(as_it_is, changed[:_N_SAMPLES])):
        reading.replace_videos(stripped, "blanks were taken off the ends")


def _drop_columns(reading: Reading, as_it_is: Callable[[str], bool], by_spelling: Callable[[str], bool]) -> None:
    """Drop columns of labels, or of frame counts and labels.

    A name may itself end in a number. Numbers are columns if the names before them end in an extension, or if each
    class has one label of its own and the remaining names exist.
    """
    lines = [line for _, line in reading.videos]
    for columns in _COLUMNS:
        matches = [match for match in map(columns.fullmatch, lines) if match and "/" in match[1]]
        if len(matches) < len(lines) or any(map(as_it_is, lines[:_N_SAMPLES])):
            return
        paths = [match[1] for match in matches]
        labels = {(path.partition("/")[0], match[2].split()[-1]) for path, match in zip(paths, matches, strict=True)}
        goes_with_class = len(labels) == len({name for name, _ in labels}) == len({label for _, label in labels})
        if all(map(is_video, paths)) or (goes_with_class and any(map(by_spelling, paths[:_N_SAMPLES]))):
            reading.replace_videos(paths, "columns of numbers were taken off the ends")
            return


def _drop_extensions(reading: Reading, as_it_is: Callable[[str], bool]) -> None:
    lines = [line for _, line in reading.videos]
    if all(map(is_video, lines)) and not any(map(as_it_is, lines[:_N_SAMPLES])):
        reading.replace_videos([os.path.splitext(line)[0] for line in lines], "extensions were taken off the names")


def _spell_classes(reading: Reading) -> None:
    """Use the class file's spelling of each class."""
    classes = [line for _, line in reading.classes]
    spelled: dict[str, str] = dict(zip(classes, classes, strict=True))
    changed = []
    for _, line in reading.videos:
        class_name, slash, name = line.partition("/")
        if slash and class_name not in spelled:
            spelled[class_name] = spelled_like(class_name, classes) or class_name
        changed.append(f"{spelled.get(class_name, class_name)}{slash}{name}")
    reading.replace_videos(changed, "the class file's spelling of the class was taken")


def _stem(file: str) -> str:
    return os.path.splitext(file)[0]


def _videos(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if is_video(name)]
    except OSError:
        return []

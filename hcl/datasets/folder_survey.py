"""Survey a folder of videos in any usual layout of a download: which videos it holds, and of which classes.

Nothing is opened or written here. A layout that has only one reading is read; one with several is refused with the
readings to choose from.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hcl.datasets.cards import DatasetCard
from hcl.datasets.folder_layouts import ClassOf, classes_of_folders, classes_of_names
from hcl.datasets.label_lists import read_labels
from hcl.datasets.sources import find_sources
from hcl.datasets.splits import Video
from hcl.datasets.video_files import FolderContent, walk_folders
from hcl.errors import DataError
from hcl.files.names import MAX_BYTES, problem_with, shown, some

_MAX_PLACES = 20
"""The most templates of places that a card gets; more are replaced by links."""


@dataclass(frozen=True)
class SurveyedVideo:
    """Hold a video file or a folder of frames, with the names that its data set gives it.

    Attributes:
        part: `train`, `val` or `test` if its folder or a list says so; otherwise empty.
    """

    class_name: str
    name: str
    path: Path
    part: str = ""

    @property
    def key(self) -> str:
        return f"{self.class_name}/{self.name}"


@dataclass(frozen=True)
class FolderSurvey:
    """Hold the content of a folder.

    Attributes:
        videos: sorted by class and name, which are unique and allowed in lists.
        of_frames: they are folders of frames, not video files.
        places: path templates of the files below the folder, as in a card; empty if no templates name them.
        layout: a description of the layout.
        notes: notes on what was left out or read in a special way.
    """

    root: Path
    videos: tuple[SurveyedVideo, ...]
    of_frames: bool
    places: tuple[str, ...]
    layout: str
    notes: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of videos of each class."""
        return dict(sorted(Counter(video.class_name for video in self.videos).items()))

    def without(self, keys: set[str], note: str) -> FolderSurvey:
        """Return the survey without some videos, with a note on them."""
        kept = tuple(video for video in self.videos if video.key not in keys)
        return replace(self, videos=kept, notes=(*self.notes, note)) if keys else self


@dataclass(frozen=True)
class _Unit:
    """Hold a video file or a folder of frames: the folders above it, its name and its path."""

    parts: tuple[str, ...]
    stem: str
    path: Path


def survey_folder(root: Path, *, class_level: int | None = None) -> FolderSurvey:
    """Find the videos of a folder, or without any its folders of frames, and their classes and partitions.

    Args:
        class_level: the level of the folders that are the classes, 1 for those directly in the folder; None: find out.

    Raises:
        DataError: there is no video, a folder cannot be listed, or it cannot be told what the classes are.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError("is no folder", where=str(root), remedy="name the folder that holds the videos")
    folders = list(walk_folders(root))
    notes: list[str] = []
    units = _video_units(root, folders, notes)
    of_frames = not units
    if of_frames:
        units = [_Unit(folder.parts[:-1], folder.parts[-1], Path(root, *folder.parts))
                 for folder in folders if folder.n_images and folder.parts]  # fmt: skip
    elif images := [folder for folder in folders if folder.n_images and not folder.videos and len(folder.parts) > 1]:
        notes.append(f"{len(images):,} folders of images beside the videos: left out")
    if not units:
        raise DataError(
            "holds neither videos nor folders of frames",
            where=str(root),
            remedy="name the folder that holds one folder a class, with the class's videos or frames in it",
        )
    _note_files(folders, notes)
    layout, classes = _classes(root, units, class_level, notes)
    unlabelled = [unit for unit, of in zip(units, classes, strict=True) if of is None]
    if unlabelled:
        example = shown(_shown_path(unlabelled[0]))
        notes.append(f"{len(unlabelled):,} videos have no class or no partition: left out, such as {example}")
    labelled = [(unit, of) for unit, of in zip(units, classes, strict=True) if of is not None]
    named = _named(labelled, notes)
    places = (
        () if of_frames else _places(root, [(unit, video) for (unit, _), video in zip(labelled, named, strict=True)])
    )
    videos = tuple(sorted(named, key=lambda video: (video.class_name, video.name)))
    return FolderSurvey(root, videos, of_frames, places, layout, tuple(notes))


def _classes(
    root: Path, units: Sequence[_Unit], class_level: int | None, notes: list[str]
) -> tuple[str, list[ClassOf | None]]:
    """Return a description of the layout, and the class and partition of each unit."""
    parts = [unit.parts for unit in units]
    found = classes_of_folders(parts, class_level, where=str(root))
    refs = [(*unit.parts, unit.path.name) for unit in units]
    labels = read_labels(root, refs, notes)
    if found is None and labels.n_labelled * 2 >= len(units):
        classes = [
            ClassOf(label.class_name, label.part) if label.class_name else None for label in labels.by_index(len(units))
        ]
        return f"videos in one folder, and classes in {', '.join(labels.files)}", classes
    if found is None:
        found = classes_of_names([unit.stem for unit in units], parts)
    if found is None:
        raise DataError(
            f"{len(units):,} videos lie in one folder, and neither a list nor their names tell their classes",
            where=str(root),
            remedy="put the videos of each class into a folder of their own, or write a file labels.csv beside them "
            "with the columns video and class",
        )
    layout, classes = found
    given = labels.by_index(len(units))
    if any(label.part for label in given) and not any(of and of.part for of in classes):
        layout = f"{layout}, and partitions in {', '.join(labels.files)}"
        classes = [
            ClassOf(of.class_name, label.part) if of and label.part else None
            for of, label in zip(classes, given, strict=True)
        ]
    return layout, classes


def _video_units(root: Path, folders: Sequence[FolderContent], notes: list[str]) -> list[_Unit]:
    """Return the video files, one of each name in a folder."""
    units, others = [], []
    for folder in folders:
        by_stem: dict[str, list[str]] = {}
        for file in folder.videos:
            by_stem.setdefault(os.path.splitext(file)[0], []).append(file)
        for stem, files in by_stem.items():
            files.sort(key=lambda file: (not file.lower().endswith(".mp4"), file))
            units.append(_Unit(folder.parts, stem, Path(root, *folder.parts, files[0])))
            others += [folder.path(file) for file in files[1:]]
    if others:
        notes.append(f"{len(others):,} files have the name of another video with another extension: left out, such as "
                     f"{shown(others[0])}")  # fmt: skip
    return units


def _note_files(folders: Sequence[FolderContent], notes: list[str]) -> None:
    """Note files that are not videos of the data set."""
    kinds: list[tuple[str, Callable[[FolderContent], Sequence[str]]]] = [
        ("leftovers of a downloader", lambda folder: list(folder.leftovers)),
        ("unfinished downloads", lambda folder: folder.unfinished),
        ("links that lead nowhere", lambda folder: folder.broken),
        ("files that are no videos", lambda folder: folder.others if folder.parts else []),
    ]
    for what, names in kinds:
        found = [folder.path(name) for folder in folders for name in names(folder)]
        if found:
            notes.append(f"{len(found):,} {what}: left out, such as {shown(found[0])}")


def _named(labelled: Sequence[tuple[_Unit, ClassOf]], notes: list[str]) -> list[SurveyedVideo]:
    """Give every video names that are allowed in lists, and unique."""
    changed: list[str] = []
    taken: set[tuple[str, str]] = set()
    videos = []
    counts = Counter((of.class_name, unit.stem) for unit, of in labelled)
    for unit, of in labelled:
        above = [part for part in unit.parts if part != of.class_name]
        is_unique = counts[of.class_name, unit.stem] == 1
        name = _allowed(unit.stem if is_unique or not above else "_".join([*above, unit.stem]))
        class_name = _allowed(of.class_name)
        base, number = name, 2
        while (class_name, name) in taken:
            name, number = f"{base}_{number}", number + 1
        if (class_name, name) != (of.class_name, unit.stem):
            changed.append(_shown_path(unit))
        taken.add((class_name, name))
        videos.append(SurveyedVideo(class_name, name, unit.path, of.part))
    if changed:
        notes.append(f"{len(changed):,} videos get other names in the lists, because theirs are taken or not allowed: "
                     f"{some(changed, 2)}")  # fmt: skip
    return videos


def _allowed(name: str) -> str:
    """Return a name as it may be written in a list."""
    name = name.encode("utf-8", "replace").decode()
    if not problem_with(name):
        return name
    visible = "".join(char if not problem_with(f"x{char}x") else "_" for char in name).strip(" .") or "_"
    while len(visible.encode()) > MAX_BYTES - 8:
        visible = visible[:-1]
    return visible if not problem_with(visible) else f"_{visible}"


def _places(root: Path, units: Sequence[tuple[_Unit, SurveyedVideo]]) -> tuple[str, ...]:
    """Return the templates of a card that name all of these files; empty if there are none, or too many."""
    counts: Counter[str] = Counter()
    for unit, video in units:
        if video.name != unit.stem or any("{" in part for part in unit.parts if part != video.class_name):
            return ()
        counts["/".join([*("{class}" if part == video.class_name else part for part in unit.parts), "{video}"])] += 1
    places = tuple(place for place, _ in counts.most_common())
    if "{" in str(root.absolute()) or len(places) > _MAX_PLACES:
        return ()
    card = DatasetCard(name="surveyed", videos=tuple(f"{root.absolute()}/{place}" for place in places))
    try:
        files = find_sources(root, card, [Video(video.class_name, video.name) for _, video in units])
    except DataError:
        return ()
    is_right = all(files.get(video.key) == root.absolute() / video.path.relative_to(root) for _, video in units)
    return places if is_right else ()


def _shown_path(unit: _Unit) -> str:
    return "/".join((*unit.parts, unit.path.name))

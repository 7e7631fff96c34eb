"""Find video files: recognise them by name, and list the classes and videos of a folder of class folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hcl.errors import DataError
from hcl.files.names import shown

VIDEO_EXTENSIONS = frozenset(
    {
        *(".mp4", ".m4v", ".mp4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".divx", ".xvid", ".mpg"),
        *(".mpeg", ".mpe", ".m1v", ".m2v", ".mpv", ".ts", ".mts", ".m2ts", ".m2t", ".vob", ".mod"),
        *(".tod", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".gif", ".ogv", ".ogm", ".mxf"),
        *(".dv", ".nut", ".ivf", ".y4m", ".amv", ".rm", ".rmvb", ".wtv", ".mjpg", ".mjpeg", ".h264"),
        *(".264", ".avc", ".h265", ".265", ".hevc", ".insv"),
    }
)
SYSTEM_FOLDERS = frozenset(
    {"lost+found", "@eadir", "__macosx", "$recycle.bin", "#recycle", "system volume information"}
)
"""Folders of file systems and servers in lower case, which are never classes."""

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders and files in lower case that name a partition, with the partition."""

_LEFTOVER = re.compile(r"(.+)\.(?:f\d+(?:-\w+)?|f(?:hls|dash|http)[\w-]*|temp)", re.DOTALL)
_UNFINISHED = re.compile(r".+\.(?:part|part-frag\d+|ytdl|crdownload|download|aria2|!qb)", re.IGNORECASE | re.DOTALL)
_FRAME = re.compile(r".*[0-9]\.(?:jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class VideoTree:
    """Hold the content of a folder of class folders.

    Attributes:
        files: `class/video` -> file, sorted.
        places: path templates of its videos below the folder, as in a data set's card, the most frequent first.
        frames: `class/video` of folders that hold numbered images and no videos, sorted.
        notes: notes on files that were left out or read in a special way, with counts and an example.
    """

    root: Path
    files: dict[str, Path]
    places: tuple[str, ...]
    frames: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class FolderContent:
    """Hold the visible content of one folder.

    Attributes:
        parts: the names of the folders from the root to this one.
        n_images: number of images whose names end in a number, as frames do.
        leftovers: leftovers of a downloader with the finished video of each; they are not in `videos`.
    """

    parts: tuple[str, ...]
    videos: list[str] = field(default_factory=list)
    n_images: int = 0
    others: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # dangling links
    leftovers: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        return "/".join((*self.parts, name))


def is_video(name: str) -> bool:
    """Return true if a file's extension is that of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS


def is_unfinished(name: str) -> bool:
    """Return true if a file's name is that of an unfinished download."""
    return _UNFINISHED.fullmatch(name) is not None


def is_there(entry: os.DirEntry[str]) -> bool:
    """Return true for anything but a folder or a dangling link; reading a named pipe times out in extraction."""
    if entry.is_dir():
        return False
    with suppress(OSError):
        return bool(entry.stat())  # follows links, and raises for a dangling one
    return False


def leftovers(files: Iterable[str]) -> dict[str, str]:
    """Return the leftovers of a downloader with the finished video of each: `x.f137.webm` and `x.temp.mp4` of `x.mp4`.

    Args:
        files: the video files of one folder.
    """
    by_stem = {os.path.splitext(file)[0]: file for file in files}
    finished = {}
    for stem, file in by_stem.items():
        if (match := _LEFTOVER.fullmatch(stem)) and match[1] in by_stem:
            finished[file] = by_stem[match[1]]
    return finished


def find_videos(videos_root: Path) -> dict[str, Path]:
    """Return the files of all videos in the class folders by `class/video`, sorted. Raises as `read_tree`."""
    return read_tree(videos_root).files


def read_tree(root: Path) -> VideoTree:
    """Find the videos of each class in its folder, or in a folder of the same name inside it.

    If all class folders are in folders such as `train` and `test`, those are skipped, and equal class names merged.

    Raises:
        DataError: a folder cannot be listed, two files have the same key, a name is not UTF-8, or videos are in deeper
            folders, so that the class folders are ambiguous.
    """
    folders = list(walk_folders(Path(root)))
    of_class, deep = _classes(folders)
    if deep:
        raise _deep(Path(root), folders, deep)
    files: dict[str, Path] = {}
    places: Counter[str] = Counter()
    for folder, class_name, place in of_class:
        for file in folder.videos:
            key, path = f"{class_name}/{os.path.splitext(file)[0]}", Path(root, *folder.parts, file)
            if not _is_utf8(key):
                raise DataError(f"{key!r} is not UTF-8", where=str(root), remedy="rename the file")
            if key in files:
                raise _twice(Path(root), key, files[key], path)
            files[key] = path
            places[place] += 1
    frames = sorted("/".join(f.parts) for f in folders if len(f.parts) == 2 and f.n_images and not f.videos)
    ordered = tuple(place for place, _ in places.most_common())
    return VideoTree(Path(root), dict(sorted(files.items())), ordered, tuple(frames), _notes(folders, of_class, files))


def walk_folders(root: Path) -> Iterator[FolderContent]:
    """Yield a folder and its subfolders, sorted, each once because links may form cycles."""
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        folder = FolderContent(waiting.pop())
        path = Path(root, *folder.parts)
        below = []
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        below += [entry.name] if entry.name.lower() not in SYSTEM_FOLDERS else []
                    else:
                        _sort_in(folder, entry)
        except OSError as error:
            raise DataError(
                f"cannot be listed: {error.strerror or error}", where=str(path), remedy="check the data root"
            ) from error
        for names in (folder.videos, folder.others, folder.unfinished, folder.broken):
            names.sort()
        folder.leftovers = leftovers(folder.videos)
        folder.videos = [file for file in folder.videos if file not in folder.leftovers]
        waiting += [(*folder.parts, name) for name in sorted(below, reverse=True)]
        yield folder


def _sort_in(folder: FolderContent, entry: os.DirEntry[str]) -> None:
    if is_video(entry.name):
        (folder.videos if is_there(entry) else folder.broken).append(entry.name)
    elif _FRAME.fullmatch(entry.name):
        folder.n_images += 1
    else:
        (folder.unfinished if is_unfinished(entry.name) else folder.others).append(entry.name)


_OfClass = list[tuple[FolderContent, str, str]]
"""Folders with videos, each with its class and its path template below the root."""


def _classes(folders: Sequence[FolderContent]) -> tuple[_OfClass, list[FolderContent]]:
    """Assign the folders with videos to classes; the second result lists folders too deep to assign."""
    with_videos = [folder for folder in folders if folder.videos and folder.parts]
    for skipped in (0, 1):  # levels above the class: none, or a part such as `train`
        assigned: _OfClass = []
        for folder in with_videos:
            above, below = folder.parts[:skipped], folder.parts[skipped:]
            if not all(part.lower() in PART_NAMES for part in above) or not below:
                break
            if len(below) == 1 or (len(below) == 2 and below[0] == below[1]):
                assigned.append((folder, below[0], "/".join((*above, *["{class}"] * len(below), "{video}"))))
        n_parts = len({folder.parts[0] for folder in with_videos})
        if len(assigned) == len(with_videos) and (not skipped or n_parts > 1):
            return assigned, []
    return [], [folder for folder in with_videos if len(folder.parts) > 1 and folder.parts[:1] * 2 != folder.parts]


def _deep(root: Path, folders: Sequence[FolderContent], deep: Sequence[FolderContent]) -> DataError:
    n_videos, n_deep = (sum(len(folder.videos) for folder in some_folders) for some_folders in (folders, deep))
    top = {folder.parts[0] for folder in folders if folder.parts}
    remedy = "let every class be a folder that holds its videos itself, or give the folder that is above the classes"
    if len(top) == 1:
        remedy = f"give {root / next(iter(top))}, if its folders are the classes"
    return DataError(
        f"{n_deep:,} of {n_videos:,} videos lie deeper than in a class folder, such as "
        f"{shown(deep[0].path(deep[0].videos[0]))}: which folders are the classes cannot be told",
        where=str(root),
        remedy=remedy,
    )


def _twice(root: Path, key: str, first: Path, second: Path) -> DataError:
    if first.parent == second.parent:
        problem, where = f"{first.name!r} and {second.name!r} are both video {key!r}", str(first.parent)
    else:
        names = [str(path.relative_to(root)) for path in (first, second)]
        problem, where = f"{names[0]!r} and {names[1]!r} are both video {key!r}", str(root)
    return DataError(problem, where=where, remedy="remove or rename one of the two files")


def _notes(folders: Sequence[FolderContent], of_class: _OfClass, files: dict[str, Path]) -> tuple[str, ...]:
    notes = []

    def add(names: Sequence[str], what: str) -> None:
        if names:
            notes.append(f"{len(names):,} {what}, such as {shown(names[0])}")

    add([folder.path(name) for folder, _, place in of_class if place.count("{class}") > 1 for name in folder.videos],
        "videos lie in a folder of their class's name within the class and were read")  # fmt: skip
    parts = sorted({folder.parts[0] for folder, _, place in of_class if not place.startswith("{class}")})
    if parts:
        n_classes = len({class_name for _, class_name, _ in of_class})
        notes.append(f"{', '.join(parts)} were read as one set of {n_classes:,} classes; their division is not kept")
    add([name for top in folders if not top.parts for name in top.videos], "videos lie in no class folder: left out")
    add([folder.path(name) for folder in folders for name in folder.leftovers],
        "leftovers of a downloader lie beside their videos: left out")  # fmt: skip
    add([folder.path(name) for folder in folders for name in folder.unfinished], "unfinished downloads: left out")
    add([folder.path(name) for folder in folders for name in folder.broken], "links lead nowhere: left out")
    with_videos = {folder.parts[: len(folder.parts) - place.count("{class}") + 1] for folder, _, place in of_class}
    depth = 2 if parts else 1
    if files:
        empty = [folder for folder in folders if len(folder.parts) == depth and folder.parts not in with_videos]
        add(["/".join(folder.parts) for folder in empty], "folders hold no video and are no class")
        images = [folder for folder in folders if folder.n_images and len(folder.parts) > depth and not folder.videos]
        add(["/".join(folder.parts) for folder in images], "folders of images beside the videos: left out")
    else:
        bare = [folder for folder in folders if len(folder.parts) == 2 and not folder.n_images]
        add(["/".join(folder.parts) for folder in bare], "folders hold neither videos nor frames: left out")
    if others := [(folder, name) for folder in folders if folder.parts for name in folder.others]:
        kinds = Counter(os.path.splitext(name)[1].lower() or "without extension" for _, name in others)
        listed = ", ".join(f"{kind} {n:,}" for kind, n in kinds.most_common(5))
        add([folder.path(name) for folder, name in others], f"files are no videos ({listed}): left out")
    return tuple(notes)


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False

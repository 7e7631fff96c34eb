"""Find the video file of each listed video in the places that the data set's card names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hcl.datasets.cards import DatasetCard
from hcl.datasets.spellings import Spellings, folded
from hcl.datasets.splits import Video
from hcl.datasets.video_files import VIDEO_EXTENSIONS, is_there
from hcl.errors import DataError


def find_sources(
    data_root: Path, card: DatasetCard, videos: Iterable[Video], *, respelled: list[str] | None = None
) -> dict[str, Path]:
    """Return the files of the videos that have one, by `class/video`.

    Folders are listed once each, so that seventy thousand videos need no file system calls of their own. A missing name
    is matched to its other spelling if only one exists (`hcl.datasets.spellings`).

    Args:
        respelled: receives the keys of the videos that were found under another spelling.

    Raises:
        DataError: a folder cannot be listed, or has two files for a video, none of which the card prefers.
    """
    folders: dict[str, dict[str, list[str]]] = {}
    file_by_key: dict[str, Path] = {}
    missing: list[Video] = []
    for video in videos:
        for folder, stem in card.places(video.class_name, video.name):
            path = os.path.join(data_root, folder)
            if path not in folders:
                folders[path] = _listed(path)
            if files := folders[path].get(stem):
                file_by_key[video.key] = Path(path, files[0] if len(files) == 1 else _preferred(files, card, path))
                break
        else:
            missing.append(video)
    spellings = Spellings()
    for video in missing:
        if file := _respelled(data_root, card, video, spellings, folders):
            file_by_key[video.key] = file
            if respelled is not None:
                respelled.append(video.key)
    return file_by_key


def _respelled(
    data_root: Path, card: DatasetCard, video: Video, spellings: Spellings, folders: dict[str, dict[str, list[str]]]
) -> Path | None:
    """Return a video's file from the first place that has it under another spelling of its folders or its name."""
    for folder, stem in card.places(video.class_name, video.name):
        root = "/" if os.path.isabs(folder) else data_root
        path = spellings.find(root, [part for part in folder.split("/") if part])
        if path is None:
            continue
        if str(path) not in folders:
            folders[str(path)] = _listed(str(path))
        by_fold = folders.setdefault(f"{path}/\0folded", {})
        if not by_fold:
            for file_stem, files in folders[str(path)].items():
                by_fold.setdefault(folded(file_stem), []).extend(files)
        files = folders[str(path)].get(stem) or by_fold.get(folded(stem), [])
        if len(files) == 1:
            return Path(path, files[0])
    return None


def _preferred(files: list[str], card: DatasetCard, folder: str) -> str:
    preferred = [file for file in files if os.path.splitext(file)[1][1:].lower() in card.extensions]
    if len(preferred) != 1:
        raise DataError(
            f"{files[0]!r} and {files[1]!r} are both video {os.path.splitext(files[0])[0]!r}",
            where=folder,
            remedy="remove or rename one of the two files",
        )
    return preferred[0]


def _listed(folder: str) -> dict[str, list[str]]:
    """Return the names of video files by stem; empty if the folder does not exist."""
    listed: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda file: file.name):
                stem, extension = os.path.splitext(entry.name)
                if extension.lower() in VIDEO_EXTENSIONS and not entry.name.startswith(".") and is_there(entry):
                    listed.setdefault(stem, []).append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(
            f"cannot be listed: {error.strerror or error}", where=folder, remedy="check the data root"
        ) from error
    return listed

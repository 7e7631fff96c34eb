"""Tell from the names of folders or files which classes videos belong to, in the usual layouts of downloads."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hcl.datasets.video_files import PART_NAMES
from hcl.errors import DataError
from hcl.files.names import some

MIN_CLASSES = MIN_VIDEOS = 4
"""A reading of a layout is plausible if it has this many classes with this many videos."""


class ClassOf(NamedTuple):
    """Hold the class of a video, and the partition that its folder names, if any."""

    class_name: str
    part: str = ""


Reading = tuple[str, list[ClassOf | None]]
"""A description of the layout, and the class of each video; None for videos without a class."""


@dataclass(frozen=True)
class _Below:
    """Hold the folders above each video without the `n_above` above all classes, and the partition of each video."""

    rests: list[tuple[str, ...]]
    parts: list[str]
    layout: str
    n_above: int = 0


def classes_of_folders(folders: Sequence[tuple[str, ...]], class_level: int | None, *, where: str) -> Reading | None:
    """Return the classes of videos by the folders above each; None if no folder is a class.

    Args:
        class_level: the level of the folders that are the classes, from 1.

    Raises:
        DataError: several levels of folders may be the classes, or some videos have no folder at the level.
    """
    if class_level is not None:
        if short := sum(len(parts) < class_level for parts in folders):
            raise DataError(
                f"{short:,} of {len(folders):,} videos lie above level {class_level}",
                where=where,
                remedy="give another --class-level; 1 means the folders directly in it",
            )
        below = _without_parts(folders, "")
        return f"classes at level {class_level}", [
            ClassOf(path[class_level - 1], part) for path, part in zip(folders, below.parts, strict=True)
        ]
    below = _below(folders)
    if not any(below.rests):
        return None
    depths = {len(rest) for rest in below.rests if rest}
    level, layout = (0, "one folder a class") if min(depths) == 1 else _level(below.rests, below.n_above, where)
    return below.layout + layout, [
        ClassOf(rest[level], part) if rest else None for rest, part in zip(below.rests, below.parts, strict=True)
    ]


def classes_of_names(stems: Sequence[str], folders: Sequence[tuple[str, ...]]) -> Reading | None:
    """Return the classes of videos by the words that their names begin with; None if these are no classes."""
    names = [name_class(stem) for stem in stems]
    counts = Counter(name for name in names if name)
    n_in_classes = sum(count for count in counts.values() if count > 1)
    large = [name for name, count in counts.items() if count >= MIN_VIDEOS]
    if len(large) < MIN_CLASSES or 2 * n_in_classes < len(stems):
        return None
    parts = _below(folders).parts
    classes = [ClassOf(name, part) if name else None for name, part in zip(names, parts, strict=True)]
    return f"videos in one folder, classes by the beginnings of their names ({some(sorted(large), 3)})", classes


def name_class(stem: str) -> str:
    """Return the words of a file's name before its first number: `run` of `run_007`, `HandStand` of
    `v_HandStand_g01_c02`; empty without any."""
    words = [word for word in re.split(r"[\s_\-.()\[\]]+", stem) if word]
    if len(words) > 1 and words[0] == "v":
        words = words[1:]
    kept = []
    for word in words:
        if word[0].isdigit() or re.fullmatch(r"[a-zA-Z]\d+", word):
            break
        kept.append(word.rstrip("0123456789"))
        if kept[-1] != word:
            break
    return "_".join(kept)


def _below(folders: Sequence[tuple[str, ...]]) -> _Below:
    """Take off the folders that hold everything, and folders named as partitions above or below the classes."""
    common = len(os.path.commonprefix(list(folders)))  # noqa: RUF071 - of tuples
    within = f"in {'/'.join(folders[0][:common])}: " if common else ""
    below = _without_parts([parts[common:] for parts in folders], within)
    return replace(below, rests=[_collapsed(rest) for rest in below.rests], n_above=common + below.n_above)


def _without_parts(folders: Sequence[tuple[str, ...]], within: str) -> _Below:
    for place, above in ((0, "folders "), (-1, "in each class folders ")):
        names = [PART_NAMES.get(parts[place].lower(), "") if parts else "" for parts in folders]
        if all(names) and (len(set(names)) > 1 or place == 0) and (place == 0 or min(map(len, folders)) > 1):
            rests = [parts[1:] if place == 0 else parts[:-1] for parts in folders]
            listed = ", ".join(sorted({parts[place] for parts in folders}))
            return _Below(rests, names, f"{within}{above}{listed}, ", 1 if place == 0 else 0)
    return _Below(list(folders), [""] * len(folders), within)


def _collapsed(rest: tuple[str, ...]) -> tuple[str, ...]:
    """Return folders without one of the same name as the one above it."""
    return tuple(name for index, name in enumerate(rest) if index == 0 or name != rest[index - 1])


def _level(rests: Sequence[tuple[str, ...]], n_above: int, where: str) -> tuple[int, str]:
    """Return which of several levels of folders are the classes. Raises DataError if it cannot be told."""
    rests = [rest for rest in rests if rest]
    firsts, lasts = [rest[0] for rest in rests], [rest[-1] for rest in rests]
    first, last = (0, "one folder a class, with folders in it"), (-1, "one folder a class, in folders of others")
    if _are_numbered(lasts) != _are_numbered(firsts):
        return first if _are_numbered(lasts) else last
    above: dict[str, set[tuple[str, ...]]] = {}
    for rest in rests:
        above.setdefault(rest[-1], set()).add(rest[:-1])
    if 2 * sum(len(places) > 1 for places in above.values()) >= len(above):
        return last
    are_plausible = [_is_plausible(firsts), _is_plausible(lasts)]
    if sum(are_plausible) == 1:
        return first if are_plausible[0] else last
    counts = [len(set(firsts)), len(set(lasts))]
    depths = {len(rest) for rest in rests}
    inner = f", --class-level {n_above + max(depths)} for the inner ones" if len(depths) == 1 else ""
    raise DataError(
        f"the classes may be the {counts[0]} outer folders ({some(sorted(set(firsts)), 2)}) or the {counts[1]} inner "
        f"ones ({some(sorted(set(lasts)), 2)})",
        where=where,
        remedy=f"say which: --class-level {n_above + 1} for the outer ones{inner}",
    )


def _are_numbered(names: Sequence[str]) -> bool:
    """Return true if the names are one word with different numbers, such as person01 and person02."""
    stems = {re.sub(r"\d+", "", name) for name in names}
    return len(stems) == 1 and all(re.search(r"\d", name) for name in names)


def _is_plausible(names: Sequence[str]) -> bool:
    return sum(count >= MIN_VIDEOS for count in Counter(names).values()) >= MIN_CLASSES

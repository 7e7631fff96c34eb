"""Find the readable name of a class in a file beside the data set, or derive it from its folder's name."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from hcl.datasets.text_lists import numbered_lines
from hcl.errors import SplitError
from hcl.files.names import shown, some


def lines_of_names(path: Path, classes: Collection[str]) -> list[tuple[str | None, str]]:
    """Return (class, readable name) of each line of a file; the class is None for lines of classes not in `classes`.

    The published files contain `folder,name` or `folder name`; a tab is accepted too. The separator is the first of
    tab, comma and space that every line contains. Folders' names may contain spaces and commas, so that a line belongs
    to the longest class that it begins with.

    Raises:
        SplitError: the file cannot be read, a name is blank, or a class is listed twice.
    """
    class_set = frozenset(classes)
    seen: dict[str, int] = {}
    pairs: list[tuple[str | None, str]] = []
    lines = numbered_lines(path, remedy="name a file with `class,readable name` on each line")
    separator = next((character for character in "\t," if all(character in line for _, line in lines)), " ")
    for number, line in lines:
        ends = [at for at, character in enumerate(line) if character == separator]
        end = next((at for at in reversed(ends) if line[:at] in class_set), None)
        if end is None:
            pairs.append((None, line))
            continue
        class_name, name = line[:end], line[end + 1 :].strip()
        where = f"{path}, line {number}"
        if not name:
            raise SplitError(f"class {shown(class_name)} has a blank name", where=where, remedy="write the name")
        if seen.setdefault(class_name, number) != number:
            raise SplitError(
                f"class {shown(class_name)} is listed here and in line {seen[class_name]}",
                where=where,
                remedy="name it once",
            )
        pairs.append((class_name, name))
    return pairs


def read_names(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Return the readable name of each class, in the order of `classes`; lines of other classes are ignored.

    Raises:
        SplitError: a class has no line, or as `lines_of_names`.
    """
    names = {class_name: name for class_name, name in lines_of_names(path, classes) if class_name is not None}
    if unnamed := [class_name for class_name in classes if class_name not in names]:
        raise SplitError(
            f"{len(unnamed)} of {len(classes)} classes have no line: {some(unnamed)}",
            where=str(path),
            remedy="write `class,readable name` on a line of its own for each",
        )
    return {class_name: names[class_name] for class_name in classes}


def spelled_out(class_name: str) -> str:
    """Split a folder's name into words: `CleanAndJerk` and `clean_and_jerk` become `clean and jerk`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", class_name).replace("_", " ").split()
    return " ".join(words).lower()

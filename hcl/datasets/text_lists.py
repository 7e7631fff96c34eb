"""Read lists of names from text files as numbered lines."""

from __future__ import annotations

from pathlib import Path

from hcl.errors import SplitError

MAX_BYTES = 2**28
"""Maximum size of a list. The largest published one has one megabyte; a far larger file is something else."""


def numbered_lines(path: Path, *, remedy: str) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1.

    A byte order mark and Windows line ends are dropped, and a last newline may be absent. Only newlines separate lines:
    other line ends of Unicode count as part of a name, which is then refused with a message that shows it.

    Args:
        remedy: the remedy in the error for a missing file.

    Raises:
        SplitError: the file is missing, unreadable, not UTF-8, empty or far too large.
    """
    try:
        if (n_bytes := path.stat().st_size) > MAX_BYTES:
            raise SplitError(
                f"has {n_bytes:,} bytes and is no list of names", where=str(path), remedy="put the list in its place"
            )
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise SplitError(f"cannot be read: {error.strerror or error}", where=str(path), remedy=remedy) from error
    lines = []
    for number, line in enumerate(raw, 1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise SplitError(
                f"is not UTF-8 (byte {error.start + 1} of the line)",
                where=f"{path}, line {number}",
                remedy="save the file as UTF-8",
            ) from error
        if text.strip():
            lines.append((number, text))
    if not lines:
        raise SplitError("has no lines", where=str(path), remedy="put one name on each line")
    return lines

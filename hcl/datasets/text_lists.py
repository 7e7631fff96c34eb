"""Lists of names as text files: numbered lines, whoever's editor wrote them."""

from __future__ import annotations

from pathlib import Path

from hcl.errors import SplitError

MAX_BYTES = 2**28
"""Of a list. The largest published one has one megabyte; what is larger by far is another file."""


def numbered_lines(path: Path, *, remedy: str) -> list[tuple[int, str]]:
    """Lines numbered from 1, without those that are blank.

    A byte order mark and Windows line ends are dropped, a last newline may be absent. Only newlines separate lines:
    names may hold other characters that Unicode counts as line ends, and are refused for them by name.

    Args:
        remedy: what to do where the file is missing.

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

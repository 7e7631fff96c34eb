"""Names under another spelling: in another case, with underscores for blanks, in another form of Unicode."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path


def folded(name: str) -> str:
    """Return what spellings of one name have in common."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())


def spelled_like(name: str, names: Iterable[str]) -> str | None:
    """Return the one of some names that is a spelling of `name`: itself, or the only other one; None where none is."""
    alike = [one for one in names if folded(one) == folded(name)]
    return name if name in alike else alike[0] if len(alike) == 1 else None


class Spellings:
    """Finds what names stand for on disk; folders are listed once each, where a name is not there as it is."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, root: Path | str, parts: Sequence[str]) -> Path | None:
        """Return a path below a folder, each part of it as it is or under the only other spelling that is there."""
        exact = os.path.join(root, *parts)
        if os.path.exists(exact):
            return Path(exact)
        path = str(root)
        for part in parts:
            below = os.path.join(path, part)
            if not os.path.exists(below):
                alike = self._names(path).get(folded(part), [])
                if len(alike) != 1:
                    return None
                below = os.path.join(path, alike[0])
            path = below
        return Path(path)

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            for name in _listed(folder):
                names.setdefault(folded(name), []).append(name)
            self._listed[folder] = names
        return self._listed[folder]


def nearest(path: Path, root: Path) -> str:
    """Say how far a path below a folder exists, and which name comes nearest to the part that does not."""
    there = root
    for part in path.relative_to(root).parts:
        if (there / part).exists():
            there = there / part
            continue
        names = _listed(str(there))
        if not names:
            return f"{there} {'is empty' if there.is_dir() else 'does not exist'}"
        by_stem = {os.path.splitext(name)[0]: name for name in reversed(names)} | {name: name for name in names}
        close = difflib.get_close_matches(part, by_stem, n=1, cutoff=0.3) or [names[0]]
        return f"{there} holds {by_stem[close[0]]!r}"
    return f"{path} exists"


def _listed(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []

"""Match names that differ only in case, in underscores for blanks, or in the normal form of Unicode."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path


def folded(name: str) -> str:
    """Return the common form of all spellings of a name."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())


def spelled_like(name: str, names: Iterable[str]) -> str | None:
    """Return the spelling of `name` among `names`: itself, or the only other one; None if there is none."""
    alike = [other for other in names if folded(other) == folded(name)]
    return name if name in alike else alike[0] if len(alike) == 1 else None


class Spellings:
    """Find names on disk under another spelling; a folder is listed once, if a name in it does not exist exactly."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, root: Path | str, parts: Sequence[str]) -> Path | None:
        """Return a path below a folder, each part exact or under the only other spelling; None if a part is missing."""
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
    """Describe how far a path below a folder exists, and the name that is most similar to the missing part."""
    existing = root
    for part in path.relative_to(root).parts:
        if (existing / part).exists():
            existing = existing / part
            continue
        names = _listed(str(existing))
        if not names:
            return f"{existing} {'is empty' if existing.is_dir() else 'does not exist'}"
        by_stem = {os.path.splitext(name)[0]: name for name in reversed(names)} | {name: name for name in names}
        close = difflib.get_close_matches(part, by_stem, n=1, cutoff=0.3) or [names[0]]
        return f"{existing} holds {by_stem[close[0]]!r}"
    return f"{path} exists"


def _listed(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []

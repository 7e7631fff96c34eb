"""Define the exception of this package, for an invalid search space."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any


class SpaceError(Exception):
    """Report a user's mistake in a search space. The command line prints it without a traceback.

    Args:
        problem: the value that came and the value that was expected.
        where: the file and the entry concerned.
        remedy: the next step for the user.
    """

    exit_code = 2

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem, self.where, self.remedy = problem, where, remedy
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)

    def __reduce__(self):  # pickle would drop keyword arguments
        return _rebuild, (self.problem, self.where, self.remedy)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the most similar word, or the list of known words."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


def short(value: Any) -> str:
    """Return a shortened `repr`, because a few lines with YAML's aliases can expand to gigabytes."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 80


def _rebuild(problem: str, where: str | None, remedy: str | None) -> SpaceError:
    return SpaceError(problem, where=where, remedy=remedy)

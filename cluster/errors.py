"""What a user can do wrong about a place to run, and what a cluster can answer."""

from __future__ import annotations


class PlaceError(Exception):
    """A place to run that is described wrongly, cannot be reached or refuses. The command line prints no traceback.

    Args:
        problem: what was wrong: what came and what was expected.
        where: the file, field or address concerned.
        remedy: what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem, self.where, self.remedy = problem, where, remedy
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)


class DescriptionError(PlaceError):
    """A description of a cluster that cannot mean anything."""

    exit_code = 2


class PackageError(PlaceError):
    """Code that cannot be packed for a job: too large, or tracked by nobody."""


class JobError(PlaceError):
    """A job server that cannot be reached or refuses, or a job that it does not know."""

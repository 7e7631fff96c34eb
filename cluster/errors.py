"""Define the exceptions about descriptions of clusters, packages and job servers."""

from __future__ import annotations


class PlaceError(Exception):
    """Report a cluster that is described wrongly, cannot be reached or refuses. The command line prints no traceback.

    Args:
        problem: the value that came and the value that was expected.
        where: the file, field or address concerned.
        remedy: the next step for the user.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem, self.where, self.remedy = problem, where, remedy
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)


class DescriptionError(PlaceError):
    """Report an invalid description of a cluster."""

    exit_code = 2


class PackageError(PlaceError):
    """Report code that cannot be packed for a job, because it is too large or not in a git checkout."""


class JobError(PlaceError):
    """Report a job server that cannot be reached or refuses, or an unknown job."""

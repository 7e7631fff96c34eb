"""The exceptions of this package; they read like those of `hcl.errors`, which it may not import."""

from __future__ import annotations


class RecordError(Exception):
    """A record, or a place for records, that cannot be read or written.

    Args:
        problem: what was wrong: what came and what was expected.
        where: the file or field concerned.
        remedy: what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem, self.where, self.remedy = problem, where, remedy
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)

    def __reduce__(self):  # keyword arguments survive pickling between processes
        return _rebuild, (type(self), self.problem, self.where, self.remedy)


class UnwritableError(RecordError):
    """A record that the system refuses to write, such as on a full disk; `where` is its file.

    Nothing of the file is left then. `__cause__` is the system's OSError, for those who know more about disks.
    """


def _rebuild(kind: type[RecordError], problem: str, where: str | None, remedy: str | None) -> RecordError:
    return kind(problem, where=where, remedy=remedy)

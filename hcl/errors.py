"""The exceptions that a user can cause; everything else that is raised is a bug."""

from __future__ import annotations

from collections.abc import Sequence

NON_FINITE_REMEDY = "lower optim.lr, raise loss.temperature, or train in float32 (train.precision)"


class HCLError(Exception):
    """A failure with a cause outside the code. The command line prints it without a traceback.

    Args:
        problem: what was wrong: what came and what was expected.
        where: the file, class or field concerned.
        remedy: what to do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem, self.where, self.remedy = problem, where, remedy
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)

    def __reduce__(self):  # keyword arguments survive the way through Ray's pickling
        return _rebuild, (type(self), self.problem, self.where, self.remedy)


def _rebuild(kind: type[HCLError], problem: str, where: str | None, remedy: str | None) -> HCLError:
    return kind(problem, where=where, remedy=remedy)


class ConfigError(HCLError):
    """An experiment, an override or an option that cannot mean anything."""

    exit_code = 2


class DataError(HCLError):
    """Videos, frames or lists that are missing, broken or contradict each other."""


class SplitError(DataError):
    """A split whose class files or video lists are missing, inconsistent or overlap."""


class VideoError(DataError):
    """One video that cannot be decoded."""


class EpisodeError(DataError):
    """An episode or pair batch that a partition cannot provide."""


class BackboneError(HCLError):
    """A backbone or text model whose weights or package cannot be had here."""


class CheckpointError(HCLError):
    """A checkpoint that is missing, damaged or made for another model."""


class TrainingError(HCLError):
    """A run that cannot go on, such as a loss that is not finite."""


class NonFiniteLossError(TrainingError):
    """A loss that is not finite, which would end in weights that are not.

    Args:
        terms: names of those that are not finite.
        clips: indices into the training partition of the whole batch, in the order of the workers.
    """

    def __init__(self, terms: Sequence[str], clips: Sequence[int]):
        self.terms, self.clips = list(terms), list(clips)
        super().__init__(
            f"the loss is not finite: {', '.join(terms)} (clips {list(clips)} of the training partition)",
            where="training",
            remedy=NON_FINITE_REMEDY,
        )

    def __reduce__(self):
        return NonFiniteLossError, (self.terms, self.clips)


class ClusterError(HCLError):
    """Ray cannot be started or reached, or does not have what was asked for."""


class StorageError(HCLError):
    """A place where results should go that cannot be written or read."""

"""Define the exceptions that a user can cause; every other exception is a bug."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

NON_FINITE_REMEDY = "lower optim.lr, raise loss.temperature, or train in float32 (train.precision)"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean X?` for the most similar name, or an empty text; the problem of an error ends with it."""
    name = most_similar(word, known)
    return f", did you mean `{name}`?" if name not in (None, word) else ""


def most_similar(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a word, or the only one that contains it; None if none is like it.

    The case of letters does not matter.
    """
    word, by_fold = word.casefold(), {name.casefold(): name for name in known}
    containing = [name for name in by_fold if word in name] if len(word) > 2 else []
    close = containing if len(containing) == 1 else difflib.get_close_matches(word, list(by_fold), n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


class HCLError(Exception):
    """Report a failure with a cause outside the code. The command line prints it without a traceback.

    Args:
        problem: the value that came and the value that was expected.
        where: the file, class or field concerned.
        remedy: the next step for the user.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str | None = None, remedy: str | None = None):
        self.problem, self.where, self.remedy = problem, where, remedy
        message = f"{where}: {problem}" if where else problem
        super().__init__(f"{message}\n  -> {remedy}" if remedy else message)

    def __reduce__(self):  # Ray pickles exceptions, and pickle would drop keyword arguments
        return _rebuild, (type(self), self.problem, self.where, self.remedy)


def _rebuild(kind: type[HCLError], problem: str, where: str | None, remedy: str | None) -> HCLError:
    return kind(problem, where=where, remedy=remedy)


class ConfigError(HCLError):
    """Report an invalid experiment, override or option."""

    exit_code = 2


class DataError(HCLError):
    """Report videos, frames or lists that are missing, broken or contradictory."""


class SplitError(DataError):
    """Report a split whose class files or video lists are missing, inconsistent or overlapping."""


class VideoError(DataError):
    """Report a video that cannot be decoded."""


class EpisodeError(DataError):
    """Report an episode or pair batch for which a partition has too few classes or videos."""


class BackboneError(HCLError):
    """Report a backbone or text model whose weights or package are not available."""


class CheckpointError(HCLError):
    """Report a checkpoint that is missing, damaged or made for another model."""


class TrainingError(HCLError):
    """Report that training cannot continue, for example because of a loss that is not finite."""


class NonFiniteLossError(TrainingError):
    """Report a loss that is not finite, before an update with it makes the weights not finite.

    Args:
        terms: names of the loss terms that are not finite.
        clips: indices of the whole batch's clips in the training partition, in the order of the workers.
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
    """Report that Ray cannot be started or reached, or that it lacks a requested resource."""


class StorageError(HCLError):
    """Report a folder or bucket of results that cannot be written or read."""

"""Define the rules that stop trials early, `asha` and `median` (`--stop`), as functions of values at an epoch.

A rung is an epoch after which a trial is compared with others. The rules do not know when a value was reported: the
caller chooses the trials to compare with (`orchestration.sweeps.sampling.rungs`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

_FACTOR = 3  # of ASHA: a third goes on at each rung, and each rung has three times the epochs of the one before
_FEWEST = 4  # other trials that a median needs


def first_rung(epochs: int, warmup_epochs: int) -> int:
    """Return the first epoch after which trials may be stopped: a third is done, and one epoch after the warm-up."""
    return max(-(-epochs // 3), warmup_epochs + 1)


def first_rung_of_old(epochs: int) -> int:
    """Return the first rung of studies that were started before it was recorded."""
    return max(1, epochs // 3)


def rungs_of(rule: str, first: int, epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a rule compares trials, all before the last one; empty if it stops none."""
    if rule == "median":
        return tuple(range(first, epochs))
    rungs, epoch = [], first
    while rule == "asha" and epoch < epochs:
        rungs.append(epoch)
        epoch *= _FACTOR
    return tuple(rungs)


def falls_behind(rule: str, value: float, others: Sequence[float], *, is_max: bool) -> bool:
    """Return whether a trial should stop, by its value at a rung and those of other trials at the same rung.

    - `asha` (Li et al., arXiv:1810.05934): it is not among the best third of all, itself included; the best goes on
      however few there are.
    - `median` (Golovin et al., 2017): it is worse than the median of the others, if there are four.
    """
    sign = 1.0 if is_max else -1.0
    mine, theirs = sign * value, [sign * other for other in others]
    if rule == "median":
        return len(theirs) >= _FEWEST and mine < statistics.median(theirs)
    best_first = sorted([mine, *theirs], reverse=True)
    return mine < best_first[max(1, len(best_first) // _FACTOR) - 1]

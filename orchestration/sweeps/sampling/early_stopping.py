"""Stop trials that fall behind: the rules `asha`, `median` and `none` (`--stop`) as Optuna's pruners."""

from __future__ import annotations

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner


def make_pruner(rule: str, epochs: int) -> BasePruner:
    """Return the pruner that stops a trial of `epochs` epochs that falls behind; it never stops a single epoch."""
    if rule == "none" or epochs < 2:
        return NopPruner()
    grace = max(1, epochs // 3)
    if rule == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=grace)
    return SuccessiveHalvingPruner(min_resource=grace, reduction_factor=3)

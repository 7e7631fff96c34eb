"""Build optimisers and compute learning rates.

The learning rate is a pure function of the epoch: a resumed run computes its epoch's rate, and there is no scheduler
state to save and restore.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from hcl.errors import TrainingError

Schedule = Literal["step", "multi_step", "cosine", "constant"]


def parameter_groups(
    model: nn.Module, *, lr: float, backbone_lr_factor: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups for an optimiser: `heads` at lr, `backbone` at lr * backbone_lr_factor.

    The parameters under `model.backbone` form the backbone group, also when DDP wraps `model`: the release selects
    parameters by name, and the wrapper changes the names (METHOD, deviation 15). Frozen parameters and empty groups
    are left out; all parameters of a model without a backbone are in `heads`.

    Raises:
        TrainingError: every parameter is frozen.
    """
    bare = getattr(model, "module", model)
    backbone = {id(parameter) for parameter in getattr(bare, "backbone", nn.Module()).parameters()}
    trainable = [parameter for parameter in bare.parameters() if parameter.requires_grad]
    if not trainable:
        raise TrainingError(
            f"{type(bare).__name__} has no parameter to train: all are frozen",
            where="model.train_backbone",
            remedy="set model.train_backbone=true, or evaluate this model instead of training it",
        )
    groups = [
        {"name": "heads", "lr": lr, "params": [p for p in trainable if id(p) not in backbone]},
        {"name": "backbone", "lr": lr * backbone_lr_factor, "params": [p for p in trainable if id(p) in backbone]},
    ]
    return [{**group, "initial_lr": group["lr"], "weight_decay": weight_decay} for group in groups if group["params"]]


def make_optimizer(
    groups: Iterable[dict[str, Any]], *, name: Literal["adamw", "adam", "sgd"], momentum: float = 0.9
) -> torch.optim.Optimizer:
    """Build an optimiser of `parameter_groups`; momentum applies to sgd alone."""
    if name == "adamw":
        return torch.optim.AdamW(groups)
    if name == "adam":
        return torch.optim.Adam(groups)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum)
    raise ValueError(f"optimizer {name!r} is none of adamw, adam, sgd")


def learning_rate_factor(
    schedule: Schedule,
    epoch: int,
    *,
    step_size: int,
    milestones: Sequence[int],
    gamma: float,
    warmup_epochs: int,
    epochs: int,
    factors: Sequence[float] = (),
) -> float:
    """Return the factor of the initial learning rates in an epoch; epochs count from 0.

    - step: times gamma after every step_size epochs (the release's `default` and `lr_drop`).
    - multi_step: times gamma from each milestone on or, with factors, the factor of the last milestone.
    - cosine: half a cosine from 1 after the warm-up towards 0 at `epochs`, which no epoch reaches.
    - constant: 1.

    A warm-up of w epochs rises linearly from 1/(w + 1) in epoch 0 to the schedule's own value in epoch w. The rate
    drops in the same epochs with and without it.
    """
    warmup = min(1.0, (epoch + 1) / (warmup_epochs + 1))
    if schedule == "step":
        return warmup * gamma ** (epoch // step_size)
    if schedule == "multi_step":
        if factors:
            passed = [factor for milestone, factor in zip(milestones, factors, strict=True) if epoch >= milestone]
            return warmup * (passed[-1] if passed else 1.0)
        return warmup * gamma ** sum(epoch >= milestone for milestone in milestones)
    if schedule == "cosine":
        progress = max(0, epoch - warmup_epochs) / max(1, epochs - warmup_epochs)
        return warmup * (1 + math.cos(math.pi * min(1.0, progress))) / 2
    if schedule == "constant":
        return warmup
    raise ValueError(f"schedule {schedule!r} is none of step, multi_step, cosine, constant")


def depends_on_total(schedule: Schedule) -> bool:
    """Return whether the factor of an epoch depends on the number of all epochs, so that they cannot become more."""
    return schedule == "cosine"


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to its initial learning rate times `factor`; repeated calls do not multiply."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

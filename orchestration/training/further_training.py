"""Train a run for more epochs than it was started with, where the result equals that of all epochs at once.

It does if the learning rate of an epoch does not depend on the total. Batches, augmentation and validation depend on
the seed and the epoch alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import results
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.errors import ConfigError
from hcl.training.optimisation import depends_on_total
from orchestration.training.run import Run

EPOCHS = "train.epochs"


def is_extension(old: Experiment, new: Experiment) -> bool:
    """Return whether the settings of a run differ from earlier ones in a larger number of epochs only."""
    n_epochs = new.train.epochs
    return n_epochs > old.train.epochs and override(old, {EPOCHS: n_epochs}).digest() == new.digest()


def check_extension(run: Run, old: Experiment) -> None:
    """Raise ConfigError if the epochs that were trained would have had other learning rates with the new total."""
    schedule = run.experiment.optim.schedule
    if depends_on_total(schedule):
        raise ConfigError(
            f"cannot be trained further: optim.schedule={schedule} lowers the learning rate towards the last epoch, so "
            f"its epochs were trained for {old.train.epochs} in all, not for {run.experiment.train.epochs}",
            where=str(run.folder),
            remedy="train a new run with all epochs (--set name=...), or with optim.schedule=step, multi_step or "
            "constant, which can be trained further",
        )


def with_extension(
    provenance: results.Provenance, old: Experiment, new: Experiment, *, after: int, command: str
) -> results.Provenance:
    """Return the provenance of a run that is trained further: with the present settings' digest, and the earlier one.

    Args:
        after: number of epochs that were trained before.
    """
    entry: dict[str, Any] = {"from": old.train.epochs, "to": new.train.epochs, "digest": old.digest()}
    extensions = [*(provenance.extended or ())]
    if not extensions or any(extensions[-1].get(name) != value for name, value in entry.items()):  # else: was killed
        extensions.append({**entry, "after": after, "command": command, "started": results.now()})
    digests = {**provenance.digests, "experiment": new.digest()}
    return replace(provenance, digests=digests, extended=extensions, finished=None)

"""Tell how far a run was trained when it is evaluated: its accuracy may still change during training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import results
from hcl.config import Experiment
from hcl.models.checkpoint import load_checkpoint
from orchestration.storage.locks import holder
from orchestration.training.run_files import BEST, IMPORTED, WRITER

if TYPE_CHECKING:
    from orchestration.evaluation.questions import Question


class Unfinished(NamedTuple):
    """Hold the progress of a run that has not been trained for all epochs, and the epoch of the evaluated weights."""

    epoch: int
    done: int


def unfinished(folder: Path, own: Experiment, checkpoint: Path | None = None) -> Unfinished | None:
    """Return how far a run was trained; None if training is complete, or if that is unknown.

    Args:
        own: the experiment of the run.
        checkpoint: the evaluated checkpoint; None: the best.

    Raises:
        CheckpointError: if it is damaged.
    """
    checkpoint = checkpoint or folder / BEST
    if (folder / IMPORTED).exists() or not checkpoint.exists():
        return None
    n_done = 0
    with suppress(results.RecordError):
        n_done = max((row["epoch"] for row in results.read_epochs(folder)), default=0)
    if not 0 < n_done < own.train.epochs:
        return None
    return Unfinished(load_checkpoint(checkpoint, holding=["epoch"])["epoch"], n_done)


def unfinished_note(folder: Path, own: Experiment, state: Unfinished | None) -> str | None:
    """Return the note for an evaluation of a run whose training is incomplete."""
    if state is None:
        return None
    is_training = holder(folder / WRITER) is not None
    so_far = "is still being trained" if is_training else "has not been fully trained"
    return (
        f"{folder.name} {so_far}: {state.done} of {own.train.epochs} epochs are done, and the weights of epoch "
        f"{state.epoch} are used; repeat this after training has ended"
    )


def unfinished_notes(questions: Sequence[Question]) -> list[str]:
    """Return the notes about the runs of questions, one for each run and checkpoint."""
    notes: dict[str, None] = {}
    for question in questions:
        epoch, done = question.record["checkpoint_epoch"], question.record["epochs_done"]
        state = None if done is None else Unfinished(epoch, done)
        if note := unfinished_note(question.folder, question.cell.experiment, state):
            notes[note] = None
    return list(notes)

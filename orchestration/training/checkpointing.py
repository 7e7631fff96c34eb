"""Write a training worker's checkpoints and logs into the run's folder, and resume from them.

Rank 0 writes. Every write is atomic, and files are written in an order such that a run can resume from the files of any
moment: a run that was killed and repeated ends like one that was not.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter

from hcl.assembly.experiment_files import to_yaml
from hcl.assembly.models import Model
from hcl.datasets.splits import Partition
from hcl.errors import CheckpointError, NonFiniteLossError, StorageError, TrainingError
from hcl.files.atomic import write_atomically
from hcl.files.disk_errors import storing
from hcl.files.json_files import write_json
from hcl.models.checkpoint import load_model, remove_partial_checkpoints, save_checkpoint
from hcl.training.epoch import EpochSums
from orchestration.storage.locks import held
from orchestration.storage.record_files import write_epochs
from orchestration.training.log import Diary
from orchestration.training.resumption import PARTS, chosen_by, keep_previous, name_best, rows_of, settle
from orchestration.training.run import Run
from orchestration.training.run_files import LAST, NEXT_BEST, NON_FINITE, PROGRESS, WRITER

_PROGRESS_S = 1.0


_LOG = logging.getLogger(__name__)


@dataclass
class Trained:
    """Hold everything that training changes.

    Learning rates and random numbers need no state: they follow from epoch, step and seed.
    """

    model: Model
    optimizer: Optimizer
    scaler: GradScaler

    def restore(self, state: dict[str, Any], source: str) -> None:
        load_model(self.model, state["model"], source=source, base=state.get("base", ""))
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"holds the state of a different optimiser: {error}",
                where=source,
                remedy="start over with --restart, or use the settings that it was trained with",
            ) from error


@dataclass
class Position:
    """Hold the progress of a run.

    Attributes:
        epoch: number of finished epochs.
        sums: sums over the `steps` finished steps of the current epoch.
        row: metrics of the last finished epoch; empty before the first.
        best: metrics of the best epoch so far.
        rows: metrics of all finished epochs.
    """

    epoch: int = 0
    sums: EpochSums = field(default_factory=EpochSums)
    row: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def finish(self, row: dict[str, Any]) -> None:
        """Add a finished epoch; of equally accurate epochs the earlier one is the best."""
        self.epoch, self.sums, self.row = self.epoch + 1, EpochSums(), row
        self.rows = [*self.rows, row]
        self.best = max(self.best, row, key=chosen_by) if self.best else row


class Keeper:
    """Write a run's checkpoints, metrics and progress; in a worker that is not rank 0, write nothing."""

    def __init__(self, run: Run, trained: Trained, partition: Partition, *, is_writer: bool, n_workers: int):
        self.run, self.trained, self.partition = run, trained, partition
        self.is_writer, self.n_workers = is_writer, n_workers
        self._diary = Diary(run.folder)
        self._progress_written = 0.0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write until the block ends, because a worker of a killed command may still be ending.

        Raises StorageError if another process holds it.
        """
        if not self.is_writer:
            yield
            return
        checkpoints = self.run.folder / "checkpoints"
        with storing(checkpoints):
            checkpoints.mkdir(parents=True, exist_ok=True)
        with held(self.run.folder / WRITER, what="training", wait_s=60.0):
            try:
                yield
            except BaseException as error:
                self._diary.stops(error)
                raise

    def restore(self, device: torch.device) -> Position:
        """Resume from the last readable checkpoint, if there is one. Raises CheckpointError as `resumption`.

        Every worker chooses the file itself, and all choose the same; rank 0 then puts the files in order.
        """
        resumption = self.run.resumption(holding=PARTS, device=device)
        if not resumption.file:
            if self.is_writer:
                (self.run.folder / NEXT_BEST).unlink(missing_ok=True)  # from an epoch that is trained again
            return Position()
        state = resumption.state
        self.trained.restore(state, str(self.run.folder / resumption.file))
        if self.is_writer:
            state["best"] = settle(self.run, resumption, self._warn)
        sums, rows = EpochSums(**state["sums"]), rows_of(self.run, state)
        return Position(state["epoch"], sums, state["metrics"], state["best"], rows)

    def begin(self, position: Position, device: torch.device) -> None:
        """Log where training starts or resumes, and remove incomplete files of a killed process."""
        if not self.is_writer:
            return
        remove_partial_checkpoints(self.run.folder / "checkpoints")
        if position.epoch < self.run.last_epoch:
            self._diary.begins(position.epoch, position.sums.steps, device=device, n_workers=self.n_workers)

    def after_step(self, position: Position, values: dict[str, float]) -> None:
        """Write the progress about once a second, and a checkpoint if one is due."""
        if not self.is_writer:
            return
        train, sums = self.run.experiment.train, position.sums
        if train.checkpoint_every and sums.steps % train.checkpoint_every == 0 and sums.steps < train.batches_per_epoch:
            self._save_last(position)
        if time.monotonic() - self._progress_written < _PROGRESS_S:
            return
        self._progress_written = time.monotonic()
        content = {"epoch": position.epoch + 1, "epochs": train.epochs, "step": sums.steps}
        content |= {"steps": train.batches_per_epoch}
        text = json.dumps({**content, **sums.means(), "total": values["total"]})
        with suppress(StorageError):  # it is only for people to look at; a checkpoint says that the disk is full
            write_atomically(self.run.folder / PROGRESS, text.encode(), sync=False)

    def after_epoch(self, position: Position) -> None:
        """Write the metrics of an epoch that has just ended, and its checkpoints."""
        if not self.is_writer:
            return
        row = position.row
        is_best = position.best is row
        if is_best:
            save_checkpoint(self.run.folder / NEXT_BEST, model=self.trained.model, state=self._state(position))
        write_epochs(self.run.folder, position.rows)
        curves = self.run.folder / "tensorboard"
        with storing(curves), SummaryWriter(curves, purge_step=row["epoch"]) as events:
            for name, value in row.items():
                events.add_scalar(name, value, row["epoch"])
        self._save_last(position)
        if is_best:
            name_best(self.run, row)
        self._diary.epoch(row)

    def non_finite(self, error: NonFiniteLossError, position: Position) -> TrainingError:
        """Write the names of the clips with the non-finite loss, and return the error to raise."""
        epoch, step = position.epoch + 1, position.sums.steps + 1
        path = self.run.folder / NON_FINITE
        if self.is_writer:
            clips = [self.partition.videos[clip].key for clip in error.clips]
            content = {"epoch": epoch, "step": step, "terms": error.terms, "clips": clips}
            write_json(path, content)
        return TrainingError(
            f"the loss is not finite in epoch {epoch}, step {step}: {', '.join(error.terms)}; its {len(error.clips)} "
            f"clips are named in {path.name}",
            where=str(self.run.folder),
            remedy=error.remedy,
        )

    def _save_last(self, position: Position) -> None:
        trained = self.trained
        optimisation = {"optimizer": trained.optimizer.state_dict(), "scaler": trained.scaler.state_dict()}
        state = {**self._state(position), "sums": position.sums.state, "rows": position.rows, **optimisation}
        keep_previous(self.run.folder)
        save_checkpoint(self.run.folder / LAST, model=trained.model, state=state)

    def _warn(self, text: str) -> None:
        _LOG.warning("%s", text)
        self._diary.notes(text)

    def _state(self, position: Position) -> dict[str, Any]:
        return {
            "epoch": position.epoch,
            "step": position.sums.steps,
            "metrics": position.row,
            "best": position.best,
            "experiment": to_yaml(self.run.experiment),
            "experiment_digest": self.run.experiment.digest(),
            "classes": list(self.partition.classes),
        }

"""Keep score tables under a digest: a partition's clips are encoded once, and its pairs scored once.

The work is split into blocks of clips and tiles of pairs. Each is written atomically, so that a crash costs only one of
them. The Ray actors of `orchestration.evaluation.scoring` do the work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hcl.assembly import backbones, inputs, models
from hcl.clips.blocks import BlockStore
from hcl.config import Experiment
from hcl.datasets.splits import Partition
from hcl.errors import CheckpointError, StorageError
from hcl.evaluation.methods import Method, Pairwise
from hcl.files.archives import archive_problem
from hcl.files.arrays import load_arrays, save_arrays
from hcl.frames.stored_dataset import StoredDataset
from hcl.models.checkpoint import check_checkpoint
from orchestration.evaluation.methods import is_users_own, method_of
from orchestration.training.grids import GridJob
from results.records.weights import read_digest

REVISION = 3  # raise it when code changes the scores of the same settings, so that old tables are not used
SIDE = 64  # clips along a side of a tile; an actor holds the features of two sides
N_SIDES = 4  # smallest number of sides, so that several actors share a small table


@dataclass(frozen=True, eq=False)
class Cell:
    """Describe one method on one partition, the subject of a score table.

    Attributes:
        method: one of `orchestration.evaluation.methods.methods_of(experiment)`.
        checkpoint: the checkpoint of a trained method; None for the others.
    """

    method: str
    experiment: Experiment
    stored: StoredDataset
    partition: Partition
    checkpoint: Path | None = None

    @cached_property
    def how(self) -> Method:
        return method_of(self.method, self.experiment)

    @property
    def pairwise(self) -> Pairwise:
        """Return `how` for a cell whose questions are answered from pairs."""
        return cast(Pairwise, self.how)

    @property
    def has_random_weights(self) -> bool:
        return self.method == "random"

    @cached_property
    def checkpoint_digest(self) -> str:
        if self.checkpoint is None:
            return ""
        if not self.checkpoint.exists():
            raise CheckpointError("no such file", where=str(self.checkpoint), remedy="train the run first: hcl train")
        check_checkpoint(self.checkpoint)
        return read_digest(self.checkpoint)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return the digests of the contents: frames, and the files of class-name embeddings and weights in the
        settings."""
        digests = {
            "frames": self.stored.frames_identity(self.partition),
            "embeddings": inputs.embeddings_identity(self.experiment, self.stored),
            "weights": backbones.weights_digest(self.experiment),
        }
        return {name: digest for name, digest in digests.items() if digest}

    @cached_property
    def encoding(self) -> dict[str, Any]:
        """Return everything that the features depend on."""
        return {
            **encoding_of(self.experiment, self.how, self.checkpoint_digest, weights=self.digests.get("weights", "")),
            "random": self.has_random_weights,
            **(self._own_method() if is_users_own(self.method, self.experiment) else {}),
            "videos": self.partition.digest(),
            "frames": self.digests["frames"],
            "embeddings": self.digests.get("embeddings", ""),
        }

    def _own_method(self) -> dict[str, Any]:
        evaluation = self.experiment.identity_of("evaluation")
        return {name: evaluation[name] for name in ("method", "method_settings") if name in evaluation}

    @cached_property
    def meaning(self) -> dict[str, Any]:
        """Return everything that the table depends on."""
        return {**self.encoding, "pairs": dict(self.how.of_pairs)}

    @cached_property
    def key(self) -> str:
        return digest_of(self.meaning)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and other.key == self.key

    @property
    def views(self) -> int:
        return self.experiment.evaluation.views

    @property
    def n_clips(self) -> int:
        return len(self.partition.videos)

    def grid_job(self) -> GridJob | None:
        """Return the cached grids to read instead of frames, if stages of the backbone are frozen."""
        if not backbones.caches_grids(self.experiment):
            return None
        return GridJob(
            self.experiment,
            self.stored,
            self.partition,
            training=False,
            random_backbone=self.has_random_weights,
            test_views=self.views,
        )

    def embeddings(self) -> Float[Tensor, "clip embedding"] | None:
        """Return the embedding of each clip's class name if the method reads them. Raises DataError."""
        return inputs.clip_embeddings(self.experiment, self.stored, self.partition) if self.how.reads_names else None

    def features(self, runs: Path) -> BlockStore:
        """Return the store of the features that the method keeps of each clip."""
        return BlockStore(Path(runs) / "cache" / "features" / digest_of(self.encoding), self.n_clips)

    def feature_bytes(self) -> int:
        """Return the bytes on disk of all clips and views, from shapes only, without computing anything."""
        clips = self.experiment.clips
        names = torch.empty(1, self.experiment.model.embedding_dim, device="meta")
        reads_names = self.how.reads_names and self.experiment.matching.semantic
        with torch.no_grad(), torch.device("meta"):
            model = models.make_model(self.experiment, 2, random_weights=True).eval()
            frames = torch.empty(1, clips.n_frames, 3, clips.size, clips.size)
            kept = self.how.keep(model, frames, names if reads_names else None, precision="float32")
        return self.n_clips * self.views * sum(values.nbytes for values in kept.values())

    def table(self, runs: Path) -> Table:
        return Table(Path(runs) / "cache" / "scores" / self.key, self.n_clips, self.meaning)


def encoding_of(experiment: Experiment, how: Method, checkpoint_digest: str, *, weights: str) -> dict[str, Any]:
    """Return everything but the clips that features depend on.

    Args:
        weights: digest of the file that `model.weights` names; empty without one.
    """
    matching = experiment.matching
    return {
        "revision": REVISION,
        "kept": how.kept,
        "random": False,
        "checkpoint": checkpoint_digest,
        "seed": experiment.seed,
        "clips": experiment.identity_of("clips"),
        "model": experiment.identity_of("model"),
        **_regime(experiment),
        "weights": weights or experiment.model.weights,
        "matching": matching.model_dump(mode="json", exclude={"chunk_size", "metric", *_OF_PAIRS}),
        "precision": [experiment.train.precision, experiment.evaluation.precision],
        "views": experiment.evaluation.views,
    }


def _regime(experiment: Experiment) -> dict[str, Any]:
    train = experiment.identity_of("train")
    return {name: train[name] for name in ("regime", "regime_settings") if name in train}


_OF_PAIRS = {"top_tuples", "top_patches", "zoom_ranks_train", "zoom_ranks_test", "renormalise"}
"""Settings of matching on which no feature depends; those for testing are among `Pairwise.of_pairs`."""


class Tile(NamedTuple):
    """Describe the query clips of some rows against the support clips of some columns; ends are exclusive."""

    row: int
    row_end: int
    column: int
    column_end: int

    @property
    def n_pairs(self) -> int:
        return (self.row_end - self.row) * (self.column_end - self.column)


@dataclass(frozen=True)
class Table:
    """Hold the files of one score table: tiles while it is made, and one archive when it is complete."""

    folder: Path
    n_clips: int
    meaning: Mapping[str, Any]

    @property
    def whole(self) -> Path:
        return self.folder.with_suffix(".npz")

    def read(self) -> dict[str, np.ndarray]:
        """Return `hcl.evaluation.methods.Pairwise.pairs` of all clips with all, averaged over views.

        Raises StorageError if the file is missing, damaged (each array has a checksum) or of another table.
        """
        arrays = load_arrays(self.whole, remedy=_AGAIN)
        if json.loads(str(arrays.pop("meaning", "null"))) != self.meaning:
            raise StorageError(
                "is of another checkpoint, split or setting than its name says", where=str(self.whole), remedy=_AGAIN
            )
        shapes = {values.shape for values in arrays.values()}
        if shapes != {(self.n_clips, self.n_clips)}:
            raise StorageError(
                f"holds arrays of {shapes}, not {self.n_clips} x {self.n_clips}", where=str(self.whole), remedy=_AGAIN
            )
        return arrays

    def tiles(self) -> list[Tile]:
        """Return nearly equal squares, each of which is scored by one call of an actor."""
        n_sides = max(-(-self.n_clips // SIDE), min(N_SIDES, self.n_clips))
        edges = np.linspace(0, self.n_clips, n_sides + 1).round().astype(int).tolist()
        sides = list(pairwise(edges))
        return [Tile(*rows, *columns) for rows in sides for columns in sides]

    def missing(self) -> list[Tile]:
        """Return the tiles that have not been scored yet; none if the table is complete."""
        return [] if self.whole.exists() else [tile for tile in self.tiles() if not self.tile(tile).exists()]

    def tile(self, tile: Tile) -> Path:
        return self.folder / f"pairs-{tile.row}-{tile.column}-of-{tile.n_pairs}.npz"

    def remove_damaged(self) -> None:
        """Remove damaged files of the table, so that they are made again."""
        for path in (self.whole, *sorted(self.folder.glob("pairs-*.npz"))):
            if problem := archive_problem(path):
                path.unlink()
                _LOG.warning("%s is damaged: %s; its pairs are scored again", path, problem)

    def assemble(self) -> None:
        """Combine all tiles into one archive, then remove the tiles."""
        if self.whole.exists():
            return
        whole: dict[str, np.ndarray] = {}
        for tile in self.tiles():
            for name, values in load_arrays(self.tile(tile), remedy=_AGAIN).items():
                array = whole.setdefault(name, np.empty((self.n_clips, self.n_clips), values.dtype))
                array[tile.row : tile.row_end, tile.column : tile.column_end] = values
        save_arrays(self.whole, {**whole, "meaning": np.array(json.dumps(self.meaning))})
        shutil.rmtree(self.folder, ignore_errors=True)


_AGAIN = "delete it and repeat the command"
_LOG = logging.getLogger(__name__)


def digest_of(meaning: Mapping[str, Any]) -> str:
    """Return sixteen hexadecimal digits that name plain values."""
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

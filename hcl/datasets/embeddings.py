"""Class-name embeddings on disk: one vector a class of a data set, which `hcl data embed` writes."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from hcl.errors import DataError, StorageError
from hcl.files.arrays import load_arrays
from hcl.files.atomic import write_atomically
from hcl.files.names import refuse_unsafe_name


@dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """Vectors by class.

    Attributes:
        classes: as the split calls them.
        names: the text that was embedded for each.
        vectors: in the order of `classes`.
        model: name, pooling and digest of what made the vectors.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    vectors: Float32[np.ndarray, "class dim"]
    model: str


def embeddings_file(data_root: Path, dataset: str, pattern: str) -> Path:
    """Return the file of a data set's class-name embeddings.

    Args:
        pattern: `data.embeddings`: a path under the data root, or an absolute one, with `{dataset}` for the name.

    Raises:
        SplitError: the name cannot be that of a file.
    """
    refuse_unsafe_name(dataset, what="dataset name", where="dataset")
    return Path(data_root) / pattern.replace("{dataset}", dataset)


def write_embeddings(path: Path, embeddings: ClassEmbeddings) -> Path:
    """Write them, whole or not at all: arrays `classes`, `names`, `vectors` and `model`. Raises StorageError."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        classes=np.array(embeddings.classes, dtype=np.str_),
        names=np.array(embeddings.names, dtype=np.str_),
        vectors=embeddings.vectors.astype(np.float32),
        model=np.array(embeddings.model, dtype=np.str_),
    )
    return write_atomically(path, buffer.getvalue())


def read_embeddings(
    path: Path, classes: Sequence[str], *, dataset: str, dim: int, options: str = ""
) -> Float[Tensor, "class_index embedding"]:
    """Return the vectors of some classes in their order, float32.

    Args:
        path: an archive of `classes` (names) and `vectors` (class, dim); nothing in it is unpickled.
        dataset: for messages.
        dim: the width that the model was made for.
        options: of `hcl data embed`, with which it writes this file; for messages.

    Raises:
        DataError: a missing or damaged file, a class that it does not hold, or vectors of another width.
    """
    remedy = f"run `{' '.join(['hcl data embed', shlex.quote(dataset), *filter(None, [options])])}`"
    if not path.exists():
        raise DataError("no such file of class-name embeddings", where=str(path), remedy=remedy)
    try:
        arrays = load_arrays(path, remedy=remedy)
        names, vectors = [str(name) for name in arrays["classes"].ravel()], arrays["vectors"]
        if not np.issubdtype(vectors.dtype, np.floating):
            raise ValueError(f"vectors are {vectors.dtype}")
        vectors = vectors.astype(np.float32)
    except (StorageError, ValueError, KeyError, TypeError) as error:
        reason = error.problem if isinstance(error, StorageError) else error
        problem = f"cannot be read as class-name embeddings ({reason})"
        raise DataError(problem, where=str(path), remedy=remedy) from error
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise DataError(
            f"holds {len(names)} classes and vectors of shape {vectors.shape}", where=str(path), remedy=remedy
        )
    place = {name: row for row, name in enumerate(names)}
    if missing := [name for name in classes if name not in place]:
        raise DataError(
            f"has no embedding of class {missing[0]!r} ({len(missing)} of {len(classes)} classes of {dataset} missing)",
            where=str(path),
            remedy=remedy,
        )
    if vectors.shape[1] != dim:
        raise DataError(
            f"holds embeddings of width {vectors.shape[1]}, the model expects {dim}",
            where=str(path),
            remedy=f"set model.embedding_dim={vectors.shape[1]}, or make them with another model: {remedy}",
        )
    if not np.isfinite(vectors).all():
        raise DataError("holds numbers that are not finite", where=str(path), remedy=remedy)
    return torch.from_numpy(vectors[[place[name] for name in classes]])

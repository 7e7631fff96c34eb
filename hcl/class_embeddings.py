"""Writing class-name embeddings: `embeddings/<dataset>.npz`, one float32 vector a class, and which model made it.

`hcl.embeddings` reads them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from hcl.atomic import write_atomically
from hcl.names import refuse_unsafe_name


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


def embeddings_file(data_root: Path, dataset: str) -> Path:
    refuse_unsafe_name(dataset, what="dataset name", where="dataset")
    return Path(data_root) / "embeddings" / f"{dataset}.npz"


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

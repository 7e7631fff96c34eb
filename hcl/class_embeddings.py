"""Class-name embeddings on disk: `embeddings/<dataset>.npz`, one float32 vector a class, and which model made it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from hcl.atomic import write_atomically
from hcl.errors import DataError
from hcl.names import refuse_unsafe_name, some


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

    def of(self, classes: Sequence[str]) -> Float32[np.ndarray, "class dim"]:
        """The vectors of these classes, in their order. Raises DataError for a class without one."""
        row = {class_name: index for index, class_name in enumerate(self.classes)}
        if unknown := [class_name for class_name in classes if class_name not in row]:
            raise DataError(
                f"{len(unknown)} of {len(classes)} classes have no embedding: {some(unknown)}",
                where="class embeddings",
                remedy="make them for this data set: hcl data embed",
            )
        return self.vectors[[row[class_name] for class_name in classes]]


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


def read_embeddings(path: Path) -> ClassEmbeddings:
    """What `write_embeddings` wrote; nothing in the file is executed.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            classes, names, vectors, model = (arrays[name] for name in ("classes", "names", "vectors", "model"))
    except FileNotFoundError:
        raise DataError("no such file", where=str(path), remedy=f"make it: hcl data embed {Path(path).stem}") from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"is no file of class embeddings: {error}", where=str(path), remedy="make it anew: hcl data embed"
        ) from error
    shapes = [array.shape for array in (classes, names, vectors, model)]
    is_text = all(array.dtype.kind == "U" for array in (classes, names, model))
    if not is_text or vectors.dtype != np.float32 or vectors.ndim != 2 or model.ndim:
        problem = (
            f"arrays of shapes {shapes}, expected classes and names (class), float32 vectors (class, dim), a model"
        )
    elif not classes.shape == names.shape == vectors.shape[:1]:
        problem = f"{classes.size} classes, {names.size} names and {len(vectors)} vectors"
    elif len(set(classes.tolist())) != classes.size:
        problem = "a class stands there twice"
    elif not np.isfinite(vectors).all():
        problem = "values that are not finite"
    else:
        return ClassEmbeddings(tuple(classes.tolist()), tuple(names.tolist()), vectors, str(model))
    raise DataError(f"holds {problem}", where=str(path), remedy="make it anew: hcl data embed --overwrite")

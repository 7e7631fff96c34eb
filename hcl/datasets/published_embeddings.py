"""Read the released code's class-name embeddings, `<dataset>_embs.pkl`, without running code of the pickle.

A pickle names functions and calls them. Here the few names that NumPy's own arrays need are resolved to stand-ins that
only record their arguments; every other name is refused. The array is then built from the checked arguments.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from hcl.datasets.class_names import lines_of_names
from hcl.datasets.embeddings import ClassEmbeddings
from hcl.errors import DataError
from hcl.files.names import shown, some

MAX_BYTES = 2**26
"""Maximum size of a pickle: two hundred times the largest published one."""


def read_pickle(path: Path) -> Float32[np.ndarray, "row dim"]:
    """Read the array in a pickle.

    Raises:
        DataError: the file cannot be read, names anything but NumPy's arrays, or holds no matrix of finite floats.
    """
    try:
        if (n_bytes := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"has {n_bytes:,} bytes, expected at most {MAX_BYTES:,}", where=str(path))
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror or error}", where=str(path), remedy="check the path"
        ) from error
    try:
        loaded = _Unpickler(io.BytesIO(content)).load()
        if not isinstance(loaded, _Array):
            raise ValueError("it does not hold a NumPy array")
        array = loaded.build()
        if array.ndim != 2 or not array.size or not np.isfinite(array).all():
            raise ValueError(f"an array of shape {array.shape}, expected finite numbers of shape (class, dim)")
    except _Refusal as refusal:
        raise DataError(
            f"names {refusal}, which no array needs; it was not run",
            where=str(path),
            remedy="do not use this file; get the embeddings from the released code, or make them: hcl data embed",
        ) from None
    except Exception as error:  # arbitrary bytes can raise anything in an unpickler
        raise DataError(
            f"is no pickled array of embeddings: {error}", where=str(path), remedy="make them: hcl data embed"
        ) from error
    return array


def import_published(pickle_file: Path, names_file: Path, classes: Sequence[str], model: str) -> ClassEmbeddings:
    """Import the published embeddings of some classes.

    Args:
        names_file: `<dataset>_dirname2cls.txt`; its lines are the rows of the pickle.
        model: name of the model that computed them.

    Raises:
        DataError: as `read_pickle`, or the numbers of rows and lines differ, or a class has no line.
        SplitError: as `lines_of_names`.
    """
    vectors, lines = read_pickle(pickle_file), lines_of_names(names_file, classes)
    if len(vectors) != len(lines):
        raise DataError(
            f"holds {len(vectors)} rows, {names_file.name} names {len(lines)} classes",
            where=str(pickle_file),
            remedy="give the file of names that came with it (--names)",
        )
    row = {class_name: (index, name) for index, (class_name, name) in enumerate(lines) if class_name is not None}
    if unnamed := [class_name for class_name in classes if class_name not in row]:
        raise DataError(
            f"{len(unnamed)} of {len(classes)} classes have no line: {some(unnamed)}",
            where=str(names_file),
            remedy="give the file of names of this data set (--names)",
        )
    picked = [row[class_name] for class_name in classes]
    names = tuple(name for _, name in picked)
    return ClassEmbeddings(tuple(classes), names, vectors[[index for index, _ in picked]], model)


class _Refusal(pickle.UnpicklingError):
    """Report the name that a pickle asks for and must not use."""


class _Dtype:
    """Record the arguments of `numpy.dtype(code, ...)` and its state."""

    def __init__(self, code: Any, *_: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def checked(self) -> np.dtype:
        if self.code not in ("f2", "f4", "f8") or self.order not in ("<", ">", "=", "|"):
            raise ValueError("its values are not plain floating-point numbers")
        return np.dtype(f"{self.order}{self.code}")


class _Array:
    """Record the state of an array: (version, shape, dtype, is in Fortran order, bytes)."""

    def __init__(self, *_: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def build(self) -> Float32[np.ndarray, "..."]:
        _, shape, dtype, is_fortran, content = self.state
        is_shape = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        if not is_shape or not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise ValueError("its array is not one that NumPy writes")
        kind = dtype.checked()
        if math.prod(shape) * kind.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} in {len(content)} bytes")
        array = np.frombuffer(content, kind).reshape(shape, order="F" if is_fortran else "C")
        return array.astype(np.float32, order="C")


class _Unpickler(pickle.Unpickler):
    """Resolve names to stand-ins only, created for each file, so that no file can change state for the next."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *_: _Array()
        if (module, name) == ("numpy", "dtype"):
            return lambda *arguments: _Dtype(*arguments)
        if (module, name) == ("numpy", "ndarray"):
            return lambda *_: None  # an argument of _reconstruct, never called
        if (module, name) == ("_codecs", "encode"):  # protocol 2 encodes bytes this way
            return lambda text, *_: text.encode("latin-1") if isinstance(text, str) else None
        raise _Refusal(shown(f"{module}.{name}"))

"""Keep the answer to every query of every episode, in files from which all statistics can be recomputed.

- `evaluation/episodes-<digest>.npz`: the questions, once for all methods that answered them
- `evaluation/<cell>.npz`: one method's answers and the digest of their questions, beside its record `<cell>.json`

Answers take a byte for each query before compression. They are written before their record. If a kill between the two
leaves new answers beside an older record, they are recognised by their digest and accuracy.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.errors import RecordError
from results.records.files import read_bytes, write_atomically
from results.statistics.effects import Floats, Ints


@dataclass(frozen=True)
class Questions:
    """Hold the clips of the episodes of a cell, as indices into its partition.

    Attributes:
        digest: digest of the episodes, as in the record.
        class_names: class names of the partition.
        classes: (episode, way), indices of `class_names`.
        support, query: (episode, way, shot) and (episode, way, query).
    """

    digest: str
    class_names: tuple[str, ...]
    classes: Ints
    support: Ints
    query: Ints


@dataclass(frozen=True)
class Outcomes:
    """Hold one method's answers.

    Attributes:
        answers: (episode, way, query), the index of the way that was predicted for each query.
    """

    questions: Questions
    answers: NDArray[np.uint8]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Return (episode, way, query), whether each answer is right."""
        return self.answers == np.arange(self.answers.shape[1])[None, :, None]

    @property
    def accuracies(self) -> Floats:
        """Return (episode,), the accuracy of each episode."""
        return self.right.mean(axis=(1, 2))

    def confusion(self) -> NDArray[np.int64]:
        """Return (class, class): the number of queries of the row's class that were predicted as the column's class.

        A class can only be confused with those in the same episode: about (way - 1)/(classes - 1) of the opportunities
        that a problem with all classes would give.
        """
        n, classes = len(self.questions.class_names), self.questions.classes
        taken_for = np.take_along_axis(classes[:, None], self.answers.astype(np.int64), axis=2)
        pairs = classes[..., None] * n + taken_for
        return np.bincount(pairs.ravel(), minlength=n * n).reshape(n, n)

    def by_class(self) -> Floats:
        """Return (class,): the share of right queries of each class; NaN for a class without queries."""
        counts = self.confusion()
        n_queries = counts.sum(axis=1)
        return np.divide(counts.diagonal(), n_queries, out=np.full(len(counts), np.nan), where=n_queries > 0)


def write_outcomes(record_file: Path | str, outcomes: Outcomes) -> Path:
    """Write the answers beside their record, and the questions if they are not there yet."""
    path, questions = Path(record_file).with_suffix(".npz"), outcomes.questions
    questions_file = _questions_file(path.parent, questions.digest)
    if not questions_file.exists():
        arrays = {name: _narrow(getattr(questions, name)) for name in ("classes", "support", "query")}
        _write(questions_file, {**arrays, "class_names": np.array(questions.class_names, dtype=np.str_)})
    return _write(path, {"answers": outcomes.answers, "digest": np.array(questions.digest, dtype=np.str_)})


def read_outcomes(
    record_file: Path | str, digest: str, accuracy: float, questions: Questions | None = None
) -> Outcomes | None:
    """Return the answers beside a record; None if it has none, as records of older versions.

    Args:
        digest, accuracy: `episodes_digest` and `accuracy` of the record.
        questions: the questions of this digest, if they were read before.

    Raises:
        RecordError: if a file is damaged, or the answers do not fit the questions or the record.
    """
    path = Path(record_file).with_suffix(".npz")
    if not path.exists():
        return None
    arrays = _read(path, "answers", optional=("digest",))
    answers, answered = arrays["answers"], str(arrays.get("digest", digest))  # answers of older versions name no digest
    if answered != digest:
        raise RecordError(
            f"answers the episodes {answered!r}, but its record names {digest!r}", where=str(path), remedy=_REMEDY
        )
    questions = questions or read_questions(path.parent, digest)
    fits = (
        answers.ndim == 3
        and answers.shape == questions.query.shape
        and answers.size > 0
        and 0 <= answers.min() <= answers.max() < questions.classes.shape[1]
    )
    if not fits:
        raise RecordError(
            f"does not fit the questions in {_questions_file(path.parent, digest).name}",
            where=str(path),
            remedy=_REMEDY,
        )
    outcomes = Outcomes(questions, answers)
    share_right = float(outcomes.accuracies.mean())
    if abs(share_right - accuracy) > _TOLERANCE:
        raise RecordError(
            f"holds the answers of another evaluation: {share_right:.6f} are right, but its record says {accuracy:.6f}",
            where=str(path),
            remedy=_REMEDY,
        )
    return outcomes


def read_questions(folder: Path, digest: str) -> Questions:
    """Return the questions of a digest, which are kept once in a run's `evaluation` folder.

    Raises:
        RecordError: if the file is missing or damaged, or its arrays do not fit each other.
    """
    path = _questions_file(folder, digest)
    arrays = _read(path, "classes", "support", "query", "class_names")
    classes, support, query = (arrays[name].astype(np.int64) for name in ("classes", "support", "query"))
    names = tuple(str(name) for name in arrays["class_names"].ravel())
    fits = (
        classes.ndim == 2
        and support.ndim == query.ndim == 3
        and support.shape[:2] == query.shape[:2] == classes.shape
        and classes.size > 0
        and 0 <= classes.min() <= classes.max() < len(names)
    )
    if not fits:
        raise RecordError("holds arrays that do not fit each other", where=str(path), remedy=_REMEDY)
    return Questions(digest, names, classes, support, query)


def _questions_file(folder: Path, digest: str) -> Path:
    return folder / f"episodes-{digest}.npz"


def _narrow(indices: Ints) -> NDArray[Any]:
    return indices.astype(np.uint16 if indices.max(initial=0) < 2**16 else np.uint32)


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> Path:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return write_atomically(path, buffer.getvalue())


def _read(path: Path, *names: str, optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    content = io.BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(content) as archive:
            present = [name for name in optional if f"{name}.npy" in archive.namelist()]
            arrays = {name: _array(archive, f"{name}.npy") for name in (*names, *present)}
            return {name: _of_kind(name, array) for name, array in arrays.items()}
    except Exception as error:  # zipfile, zlib, struct and NumPy each raise their own
        raise RecordError(f"holds no outcomes: {error}", where=str(path), remedy=_REMEDY) from error


def _array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """Return an array, read to its end: its checksum is only compared there, and NumPy may stop before."""
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)  # type: ignore[arg-type]
        if stream.read(1):
            raise ValueError(f"{member} is longer than its array")
    return array


def _of_kind(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array after a check of its kind: names and digests are text, all others indices. Raises ValueError."""
    if not np.issubdtype(array.dtype, np.str_ if name in _TEXTS else np.integer):
        raise ValueError(f"{name} is {array.dtype}")
    return array


_TEXTS = ("class_names", "digest")
_TOLERANCE = 1e-9  # for two means of the same shares
_REMEDY = "evaluate again: hcl evaluate RUN"

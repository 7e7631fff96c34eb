"""What every query of every episode was taken for: the files from which all statistics can be made again.

- `evaluation/episodes-<digest>.npz`: the questions, once for all methods that answered them
- `evaluation/<cell>.npz`: one method's answers and the digest of their questions, beside its record `<cell>.json`

Answers take a byte a query before compression. They are written before their record: what a kill between the two leaves
under an older record is told from its answers by the digest and the accuracy.
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
from results.statistics.resampling import Floats, Ints


@dataclass(frozen=True)
class Questions:
    """The clips of the episodes of a cell, as indices into its partition.

    Attributes:
        digest: of the episodes, as the record has it.
        class_names: of the partition.
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
    """One method's answers.

    Attributes:
        answers: (episode, way, query), the way that each query was taken for.
    """

    questions: Questions
    answers: NDArray[np.uint8]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(episode, way, query)."""
        return self.answers == np.arange(self.answers.shape[1])[None, :, None]

    @property
    def accuracies(self) -> Floats:
        """(episode,)."""
        return self.right.mean(axis=(1, 2))

    def confusion(self) -> NDArray[np.int64]:
        """(class, class): how many queries of the row's class were taken for the column's.

        A class can be mistaken only for those that share an episode with it: about (way - 1)/(classes - 1) of the
        chances that a problem of all classes would give.
        """
        n, classes = len(self.questions.class_names), self.questions.classes
        taken_for = np.take_along_axis(classes[:, None], self.answers.astype(np.int64), axis=2)
        pairs = classes[..., None] * n + taken_for
        return np.bincount(pairs.ravel(), minlength=n * n).reshape(n, n)

    def by_class(self) -> Floats:
        """(class,): share of a class's queries that were right; NaN for a class that was never asked."""
        counts = self.confusion()
        asked = counts.sum(axis=1)
        return np.divide(counts.diagonal(), asked, out=np.full(len(counts), np.nan), where=asked > 0)


def write_outcomes(record_file: Path | str, outcomes: Outcomes) -> Path:
    """Put the answers beside their record, and the questions where they do not lie there yet."""
    path, questions = Path(record_file).with_suffix(".npz"), outcomes.questions
    asked = _questions_file(path.parent, questions.digest)
    if not asked.exists():
        arrays = {name: _narrow(getattr(questions, name)) for name in ("classes", "support", "query")}
        _write(asked, {**arrays, "class_names": np.array(questions.class_names, dtype=np.str_)})
    return _write(path, {"answers": outcomes.answers, "digest": np.array(questions.digest, dtype=np.str_)})


def read_outcomes(
    record_file: Path | str, digest: str, accuracy: float, questions: Questions | None = None
) -> Outcomes | None:
    """The answers beside a record; None where it has none, as records of older versions.

    Args:
        digest, accuracy: `episodes_digest` and `accuracy` of the record.
        questions: those of this digest, where they were read before.

    Raises:
        RecordError: a file that is damaged, answers that do not fit the questions, or those of another evaluation.
    """
    path = Path(record_file).with_suffix(".npz")
    if not path.exists():
        return None
    arrays = _read(path, "answers", optional=("digest",))
    answers, answered = arrays["answers"], str(arrays.get("digest", digest))  # those of older versions name none
    if answered != digest:
        raise RecordError(
            f"answers the episodes {answered!r}, its record is of {digest!r}", where=str(path), remedy=_REMEDY
        )
    asked = questions or read_questions(path.parent, digest)
    fits = (
        answers.ndim == 3
        and answers.shape == asked.query.shape
        and answers.size > 0
        and 0 <= answers.min() <= answers.max() < asked.classes.shape[1]
    )
    if not fits:
        raise RecordError(
            f"does not fit the questions in {_questions_file(path.parent, digest).name}",
            where=str(path),
            remedy=_REMEDY,
        )
    outcomes = Outcomes(asked, answers)
    found = float(outcomes.accuracies.mean())
    if abs(found - accuracy) > _TOLERANCE:
        raise RecordError(
            f"holds the answers of another evaluation: {found:.6f} are right, its record says {accuracy:.6f}",
            where=str(path),
            remedy=_REMEDY,
        )
    return outcomes


def read_questions(folder: Path, digest: str) -> Questions:
    """The questions of a digest, which lie once in a run's `evaluation` folder.

    Raises:
        RecordError: a file that is missing or damaged, or whose arrays do not fit each other.
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
            there = [one for one in optional if f"{one}.npy" in archive.namelist()]
            arrays = {name: _array(archive, f"{name}.npy") for name in (*names, *there)}
            return {name: _of_kind(name, array) for name, array in arrays.items()}
    except Exception as error:  # zipfile, zlib, struct and NumPy have each their own for damage
        raise RecordError(f"holds no outcomes: {error}", where=str(path), remedy=_REMEDY) from error


def _array(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """A member, read to its end: its checksum is compared only there, and NumPy may stop before."""
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)  # type: ignore[arg-type]
        if stream.read(1):
            raise ValueError(f"{member} is longer than its array")
    return array


def _of_kind(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Names and digests are text, all else is indices. Raises ValueError."""
    if not np.issubdtype(array.dtype, np.str_ if name in _TEXTS else np.integer):
        raise ValueError(f"{name} is {array.dtype}")
    return array


_TEXTS = ("class_names", "digest")
_TOLERANCE = 1e-9  # of two means of the same shares
_REMEDY = "evaluate again: hcl evaluate RUN"

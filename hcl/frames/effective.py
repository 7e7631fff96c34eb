"""Read and write the effective split: the videos that training and evaluation really use.

Without a check these are the listed videos without copies (`hcl.datasets.copies`) and without those that extraction has
recorded as broken; any other video without frames is an error. `hcl data check` writes the effective split to
`splits/<dataset>/effective.json`, which leaves out missing videos by name as well; from then on exactly its videos are
used. An experiment can set `data.keep_copies` to use copies nevertheless.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from hcl.datasets.copies import Original
from hcl.datasets.splits import Partition, Video
from hcl.errors import DataError, StorageError
from hcl.files.json_files import read_json, write_checked_json
from hcl.files.names import some

KIND, SCHEMA = "effective split", 1


@dataclass(frozen=True)
class Accepted:
    """Hold the decisions of a check on one partition."""

    listed_digest: str  # of the partition as listed
    digest: str  # of the partition without left-out videos; every evaluation record carries it
    n_videos: int
    left_out: dict[str, str] = field(default_factory=dict)  # `class/video` -> reason
    copies: dict[str, str] | None = None  # `class/video` -> original; None in files of earlier versions


def without(listed: Partition, left_out: Mapping[Video, str]) -> Partition:
    """Return the partition without some videos. Raises DataError if a class would lose all of its videos."""
    partition = replace(listed, videos=tuple(video for video in listed.videos if video not in left_out))
    if empty := set(listed.classes) - {video.class_name for video in partition.videos}:
        raise DataError(
            f"{len(empty)} of {len(listed.classes)} classes of {listed.dataset} {listed.name} have lost all of their "
            f"videos: {some(sorted(empty))}",
            where=f"splits/{listed.dataset}/{listed.name}_class.txt",
            remedy="repair the videos and extract again with --retry-failed, or take the classes out of the split; if "
            "copies were left out, `hcl data check` names them, and data.keep_copies=true uses them",
        )
    return partition


Copies = Mapping[Video, Original]


def write_effective(path: Path, checked: Sequence[tuple[Partition, Mapping[Video, str], Copies]]) -> Path:
    """Write the effective split of a dataset: each partition as listed, with the videos left out of it and why, those
    that are copies apart.

    Raises:
        DataError: a class would lose all of its videos.
        StorageError: the file cannot be written.
    """
    dataset = checked[0][0].dataset
    accepted = {}
    for listed, reasons, copies in checked:
        partition = without(listed, {**reasons, **dict.fromkeys(copies, "")})
        accepted[listed.name] = Accepted(
            listed.digest(),
            partition.digest(),
            len(partition.videos),
            {video.key: reason for video, reason in reasons.items()},
            {video.key: str(original) for video, original in copies.items() if video not in reasons},
        )
    partitions = {name: asdict(decision) for name, decision in accepted.items()}
    content = {"kind": KIND, "schema": SCHEMA, "dataset": dataset, "partitions": partitions}
    return write_checked_json(path, content)


def read_effective(path: Path, dataset: str) -> dict[str, Accepted]:
    """Return what the last check has accepted, by partition; empty without one. Raises DataError for a damaged file."""
    try:
        if not path.exists():
            return {}
        content = read_json(path, remedy="")
        if content["kind"] != KIND or content["schema"] != SCHEMA or content["dataset"] != dataset:
            raise ValueError("it describes something else")
        return {str(name): _accepted(one) for name, one in content["partitions"].items()}
    except (StorageError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = error.problem if isinstance(error, StorageError) else error
        raise DataError(
            f"is not an effective split: {reason}",
            where=str(path),
            remedy=f"delete it, or write it anew with `hcl data check {shlex.quote(dataset)}`",
        ) from error


def _accepted(content: dict) -> Accepted:
    accepted = Accepted(**content)
    copies = {} if accepted.copies is None else accepted.copies
    texts = [accepted.listed_digest, accepted.digest, *accepted.left_out, *accepted.left_out.values()]
    texts += [*copies, *copies.values()]
    if not all(isinstance(text, str) for text in texts) or not isinstance(accepted.n_videos, int):
        raise ValueError("a partition holds values of the wrong kind")
    return accepted

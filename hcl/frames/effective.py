"""The effective split: the videos that training and evaluation really use.

Without a check these are the listed videos less those that extraction has recorded as broken and less copies
(`hcl.datasets.copies`); any other video without frames is an error. `hcl data check` writes the effective split as a
file, `splits/<dataset>/effective.json`, which leaves out missing videos by name as well; from then on exactly its
videos are used. Copies are used all the same where an experiment asks for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from hcl.datasets.cards import frames_folder
from hcl.datasets.copies import PRECEDENCE, Original, find_copies
from hcl.datasets.manifest import read_manifest
from hcl.datasets.splits import Partition, Video, read_partition
from hcl.errors import DataError, StorageError
from hcl.files.json_files import read_json, write_checked_json
from hcl.files.names import some
from hcl.frames.store import FrameStore

KIND, SCHEMA = "effective split", 1


@dataclass(frozen=True)
class Accepted:
    """What a check has decided about one partition."""

    listed_digest: str  # of the partition as its lists have it
    digest: str  # of the partition without what is left out: the one that every evaluation record carries
    n_videos: int
    left_out: dict[str, str] = field(default_factory=dict)  # `class/video` -> why
    copies: dict[str, str] | None = None  # left out as well, `class/video` -> of what; None: not looked for, as once


def effective_file(data_root: Path, dataset: str) -> Path:
    return Path(data_root) / "splits" / dataset / "effective.json"


def without(listed: Partition, left_out: Mapping[Video, str]) -> Partition:
    """The partition less some videos. Raises DataError where a class would lose all of its videos."""
    partition = replace(listed, videos=tuple(video for video in listed.videos if video not in left_out))
    if empty := set(listed.classes) - {video.class_name for video in partition.videos}:
        raise DataError(
            f"{len(empty)} of {len(listed.classes)} classes of {listed.dataset} {listed.name} have lost all of their "
            f"videos: {some(sorted(empty))}",
            where=f"splits/{listed.dataset}/{listed.name}_class.txt",
            remedy="mend the videos and extract again with --retry-failed, or take the classes out of the split; where "
            "copies were left out, `hcl data check` names them, and data.keep_copies=true uses them",
        )
    return partition


Copies = Mapping[Video, Original]


def write_effective(data_root: Path, checked: Sequence[tuple[Partition, Mapping[Video, str], Copies]]) -> Path:
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
    partitions = {name: asdict(one) for name, one in accepted.items()}
    content = {"kind": KIND, "schema": SCHEMA, "dataset": dataset, "partitions": partitions}
    return write_checked_json(effective_file(data_root, dataset), content)


def read_effective(data_root: Path, dataset: str) -> dict[str, Accepted]:
    """What the last check has accepted, by partition; empty without one. Raises DataError for a damaged file."""
    path = effective_file(data_root, dataset)
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


def left_out(data_root: Path, listed: Partition, *, keep_copies: bool = False) -> dict[Video, str]:
    """The videos of a partition that nothing uses, with the reason, in the partition's order.

    Raises:
        DataError: the lists have changed since the check, or the file that it wrote is damaged.
    """
    accepted = _accepted_of(data_root, listed)
    if accepted is None:
        reasons = broken(data_root, listed)
    else:
        reasons = {video: accepted.left_out[video.key] for video in listed.videos if video.key in accepted.left_out}
    if not keep_copies:
        reasons = {**copies_of(data_root, listed), **reasons}
    return {video: reasons[video] for video in listed.videos if video in reasons}


def copies_of(data_root: Path, listed: Partition) -> dict[Video, str]:
    """Return the videos of a partition that are copies, and of what, as the check has found them or as they are now.

    Raises:
        DataError: as `left_out`.
    """
    accepted = _accepted_of(data_root, listed)
    if accepted is not None and accepted.copies is not None:
        return {video: accepted.copies[video.key] for video in listed.videos if video.key in accepted.copies}
    store = FrameStore(frames_folder(data_root, listed.dataset))
    contents = {one.name: store.digests(one.videos) for one in (listed, *_before(data_root, listed))}
    return {video: str(original) for video, original in find_copies(contents)[listed.name].items()}


def _before(data_root: Path, listed: Partition) -> list[Partition]:
    """The partitions that keep a video which stands in this one as well."""
    rank = PRECEDENCE.index(listed.name) if listed.name in PRECEDENCE else 0
    folder = effective_file(data_root, listed.dataset).parent
    names = [name for name in PRECEDENCE[:rank] if (folder / f"{name}.list").exists()]
    return [read_partition(data_root, listed.dataset, name) for name in names]


def _accepted_of(data_root: Path, listed: Partition) -> Accepted | None:
    """Return what the last check has accepted of a partition. Raises as `left_out`."""
    accepted = read_effective(data_root, listed.dataset).get(listed.name)
    if accepted is None:
        return None
    if accepted.listed_digest != listed.digest():
        raise DataError(
            f"the lists of {listed.dataset} {listed.name} have changed since they were checked",
            where=str(effective_file(data_root, listed.dataset)),
            remedy=f"repeat `hcl data check {shlex.quote(listed.dataset)}`",
        )
    return accepted


def broken(data_root: Path, listed: Partition) -> dict[Video, str]:
    """The videos of a partition that extraction has recorded as broken or timed out, with the reason."""
    records = read_manifest(frames_folder(data_root, listed.dataset))
    failed = {key: record for key, record in records.items() if record.status in ("broken", "timeout")}
    return {video: failed[video.key].error or "" for video in listed.videos if video.key in failed}


def effective_partition(data_root: Path, listed: Partition, *, keep_copies: bool = False) -> Partition:
    """The partition without `left_out`; every video of it has frames.

    Args:
        keep_copies: use videos that are copies of others, in this partition or another.

    Raises:
        DataError: other videos have no frames, a class has lost all of its videos, or as `left_out`.
    """
    partition = without(listed, left_out(data_root, listed, keep_copies=keep_copies))
    if missing := FrameStore(frames_folder(data_root, listed.dataset)).missing(partition):
        is_checked = effective_file(data_root, listed.dataset).exists()
        raise DataError(
            f"{len(missing)} of {len(listed.videos)} videos of {listed.dataset} {listed.name} have no frames: "
            f"{some([video.key for video in missing], 3)}",
            where=str(frames_folder(data_root, listed.dataset)),
            remedy=f"run `hcl extract {shlex.quote(listed.dataset)}`; "
            + ("the check has accepted them, so repeat" if is_checked else "to go on without them, run")
            + f" `hcl data check {shlex.quote(listed.dataset)}`",
        )
    return partition


def _accepted(content: dict) -> Accepted:
    accepted = Accepted(**content)
    copies = {} if accepted.copies is None else accepted.copies
    texts = [accepted.listed_digest, accepted.digest, *accepted.left_out, *accepted.left_out.values()]
    texts += [*copies, *copies.values()]
    if not all(isinstance(text, str) for text in texts) or not isinstance(accepted.n_videos, int):
        raise ValueError("a partition holds values of the wrong kind")
    return accepted

"""Write and read lists of episodes, so that different methods or programs are evaluated on the same episodes.

A file is an npz archive without pickle: `meaning` (JSON with one entry for each list) and, for list i, `classes_i`,
`support_i` and `query_i`, which are indices into the classes and videos of the partition that the entry names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hcl.clips.episodes import Episodes
from hcl.config.evaluation import MAX_WAY
from hcl.datasets.splits import Partition
from hcl.errors import EpisodeError
from hcl.files.arrays import load_arrays, save_arrays

FORMAT = "hcl-episodes-1"


@dataclass(frozen=True)
class EpisodeList:
    """Hold episodes of one partition at one shot.

    Attributes:
        videos: digest of the partition's classes and videos, to which the indices refer.
        seed: the seed of the episodes.
    """

    dataset: str
    partition: str
    videos: str
    seed: int
    episodes: Episodes

    @classmethod
    def of(cls, partition: Partition, episodes: Episodes, *, seed: int) -> EpisodeList:
        return cls(partition.dataset, partition.name, partition.digest(), seed, episodes)

    def digest(self) -> str:
        """Return a digest of the episodes and their videos; methods with equal digests answered the same episodes."""
        return hashlib.sha256(f"{self.videos} {self.episodes.digest()}".encode()).hexdigest()[:12]


def write_episodes(path: Path, lists: Sequence[EpisodeList]) -> None:
    """Write all lists into one file atomically. Raises StorageError."""
    meaning = {
        "format": FORMAT,
        "lists": [
            {
                "dataset": entry.dataset,
                "partition": entry.partition,
                "videos": entry.videos,
                "seed": entry.seed,
                "shot": entry.episodes.shot,
                "digest": entry.episodes.digest(),
            }
            for entry in lists
        ],
    }
    arrays = {"meaning": np.array(json.dumps(meaning))}
    for index, entry in enumerate(lists):
        for name in _PARTS:
            arrays[f"{name}_{index}"] = getattr(entry.episodes, name).astype(np.int32)
    save_arrays(path, arrays, compress=True)


def read_episodes(path: Path) -> list[EpisodeList]:
    """Read a file of `write_episodes`.

    Raises:
        StorageError: the file is missing or damaged.
        EpisodeError: the file holds something else, or was changed.
    """
    arrays = load_arrays(path, remedy=_REMEDY)
    try:
        meaning = json.loads(str(arrays["meaning"]))
        if meaning["format"] != FORMAT:
            raise ValueError(f"format {meaning['format']!r}, expected {FORMAT!r}")
        return [_list(entry, arrays, index) for index, entry in enumerate(meaning["lists"])]
    except (ValueError, KeyError, TypeError) as error:
        raise EpisodeError(f"holds no episodes of this program: {error}", where=str(path), remedy=_REMEDY) from error


def lists_for(partition: Partition, lists: Sequence[EpisodeList]) -> list[EpisodeList]:
    """Return the lists of a partition, ordered by shot.

    Raises EpisodeError if there is none, or if the partition's videos here differ from those of the lists.
    """
    where = f"episodes of {partition.dataset} {partition.name}"
    matching = [entry for entry in lists if (entry.dataset, entry.partition) == (partition.dataset, partition.name)]
    if not matching:
        others = ", ".join(sorted({f"{entry.dataset} {entry.partition}" for entry in lists}))
        raise EpisodeError("are not in the file", where=where, remedy=f"it holds those of {others or 'nothing'}")
    for entry in matching:
        if entry.videos != partition.digest():
            raise EpisodeError(
                f"are about other videos: their digest is {entry.videos}, the partition's {partition.digest()}",
                where=where,
                remedy="use the split (and the extracted videos) that the episodes were written with",
            )
        _check(entry.episodes, partition, where)
    return sorted(matching, key=lambda entry: entry.episodes.shot)


_PARTS = ("classes", "support", "query")
_REMEDY = "write one with hcl evaluate --write-episodes FILE"


def _list(entry: dict[str, Any], arrays: Mapping[str, np.ndarray], index: int) -> EpisodeList:
    classes, support, query = (np.asarray(arrays[f"{name}_{index}"]) for name in _PARTS)
    for name, values, n_axes in zip(_PARTS, (classes, support, query), (2, 3, 3), strict=True):
        if not np.issubdtype(values.dtype, np.integer) or values.ndim != n_axes or values.shape[:2] != classes.shape:
            raise ValueError(f"{name}_{index} is {values.dtype} of shape {values.shape}")
        if not values.size or values.min() < 0:
            raise ValueError(f"{name}_{index} is empty or holds a negative index")
    episodes = Episodes(*(part.astype(np.int64) for part in (classes, support, query)))
    if episodes.digest() != entry["digest"]:
        raise ValueError(f"list {index} was changed after it was written")
    return EpisodeList(
        str(entry["dataset"]), str(entry["partition"]), str(entry["videos"]), int(entry["seed"]), episodes
    )


def _check(episodes: Episodes, partition: Partition, where: str) -> None:
    """Raise EpisodeError if a clip is not of the partition or of its row's class, or answers do not fit into a byte."""
    if episodes.way > MAX_WAY:
        raise EpisodeError(
            f"have {episodes.way} classes each, at most {MAX_WAY} can be answered", where=where, remedy=_REMEDY
        )
    for name in ("support", "query"):
        clips = getattr(episodes, name)
        if clips.max() >= len(partition.videos) or (partition.labels[clips] != episodes.classes[..., None]).any():
            raise EpisodeError(
                f"{name} holds clips of another class than its row says, or beyond the partition's "
                f"{len(partition.videos)} videos",
                where=where,
                remedy=_REMEDY,
            )

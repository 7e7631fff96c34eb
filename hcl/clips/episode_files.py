"""Lists of episodes as files, so that two methods, or two programs, answer the same questions.

A file is an npz archive without pickle: `meaning` (JSON: one entry a list) and, for list i, `classes_i`, `support_i`
and `query_i`, indices into the classes and videos of the partition that the entry names.
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
    """Episodes of one partition at one shot.

    Attributes:
        videos: digest of the partition's classes and videos, which the indices are about.
        seed: that the episodes were drawn with.
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
        """Names the questions: two methods with the same digest answered the same episodes of the same videos."""
        return hashlib.sha256(f"{self.videos} {self.episodes.digest()}".encode()).hexdigest()[:12]


def write_episodes(path: Path, lists: Sequence[EpisodeList]) -> None:
    """One file of all lists, whole or not at all. Raises StorageError."""
    meaning = {
        "format": FORMAT,
        "lists": [
            {
                "dataset": one.dataset,
                "partition": one.partition,
                "videos": one.videos,
                "seed": one.seed,
                "shot": one.episodes.shot,
                "digest": one.episodes.digest(),
            }
            for one in lists
        ],
    }
    arrays = {"meaning": np.array(json.dumps(meaning))}
    for index, one in enumerate(lists):
        for name in _PARTS:
            arrays[f"{name}_{index}"] = getattr(one.episodes, name).astype(np.int32)
    save_arrays(path, arrays, compress=True)


def read_episodes(path: Path) -> list[EpisodeList]:
    """What `write_episodes` wrote.

    Raises:
        StorageError: the file is missing or damaged.
        EpisodeError: it holds something else, or was changed.
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
    """The lists about a partition, by shot.

    Raises EpisodeError where there is none, or where they are about other videos than the partition has here.
    """
    where = f"episodes of {partition.dataset} {partition.name}"
    found = [one for one in lists if (one.dataset, one.partition) == (partition.dataset, partition.name)]
    if not found:
        there = ", ".join(sorted({f"{one.dataset} {one.partition}" for one in lists}))
        raise EpisodeError("are not in the file", where=where, remedy=f"it holds those of {there or 'nothing'}")
    for one in found:
        if one.videos != partition.digest():
            raise EpisodeError(
                f"are about other videos: their digest is {one.videos}, the partition's {partition.digest()}",
                where=where,
                remedy="use the split (and the extracted videos) that the episodes were written with",
            )
        _check(one.episodes, partition, where)
    return sorted(found, key=lambda one: one.episodes.shot)


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
    """Every clip must be one of the partition's, and of the class of its row; answers must fit into a byte."""
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

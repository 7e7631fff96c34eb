"""Draw class-disjoint splits of a user's own videos from a seed; several of them for repeated evaluation."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hcl.datasets.cards import PARTITIONS, DatasetCard, shipped_datasets
from hcl.datasets.copies import find_copies, same_files
from hcl.datasets.splits import Partition, Video, write_split
from hcl.datasets.video_files import read_tree
from hcl.errors import ConfigError, DataError
from hcl.files.atomic import write_atomically
from hcl.files.names import refuse_unsafe_name, shown, some
from hcl.frames.store import FrameStore


@dataclass(frozen=True)
class VideoListing:
    """Hold the videos from which a split can be drawn.

    Attributes:
        classes: the videos of each class, both sorted.
        places: path templates of their files below the folder, as in a card; empty for frames.
        notes: notes on videos that were left out or read in a special way.
    """

    classes: dict[str, tuple[str, ...]]
    places: tuple[str, ...]
    notes: tuple[str, ...]


def list_videos(folder: Path, *, keep_copies: bool = False) -> VideoListing:
    """List the videos of a folder of class folders: video files or, without any, folders of frames.

    Args:
        keep_copies: list all videos of the same content instead of only the first by class and name.

    Raises:
        DataError: the folder holds no class folder with a video, its class folders are ambiguous, or a name is not
            allowed in a list.
    """
    folder = Path(folder)
    tree = read_tree(folder)
    notes = list(tree.notes)
    store = None if tree.files else FrameStore(folder)
    keys = list(tree.files) if store is None else sorted({*tree.frames, *store.packed_keys()})
    for key in keys:
        class_name, _, name = key.partition("/")
        refuse_unsafe_name(class_name, what="class name", where=str(folder))
        refuse_unsafe_name(name, what="video name", where=str(folder / class_name))
    videos = [Video(*key.split("/", 1)) for key in keys]
    if store is not None:
        videos = _with_frames(store, videos, notes)
    if not videos:
        raise DataError(
            f"holds no class folder with videos{''.join(f'; {note}' for note in notes)}",
            where=str(folder),
            remedy="name the folder that holds one folder a class, with the class's videos or frames in it",
        )
    if not keep_copies:
        files = {video: tree.files[video.key] for video in videos if store is None}
        videos = without_copies(same_files(files) if store is None else store.digests(videos), videos, notes)
    classes: dict[str, list[str]] = {}
    for video in videos:
        classes.setdefault(video.class_name, []).append(video.name)
    return VideoListing({name: tuple(names) for name, names in classes.items()}, tree.places, tuple(notes))


def _with_frames(store: FrameStore, videos: list[Video], notes: list[str]) -> list[Video]:
    """Return the videos that have frames, and note those of which no image is numbered."""
    lacking = set(store.missing(Partition("", "", (), tuple(videos))))
    if lacking:
        notes.append(f"{len(lacking):,} folders hold no frames: left out, such as {sorted(lacking)[0].key!r}")
    return [video for video in videos if video not in lacking]


def without_copies(contents: Mapping[Video, str], videos: list[Video], notes: list[str]) -> list[Video]:
    """Return the first of each video by class and name, and note the others, and classes that have none left.

    Args:
        contents: what names the content of each video.
    """
    copies = find_copies({"": contents})[""]
    if copies:
        pairs = [f"{video.key} = {original.video.key}" for video, original in list(copies.items())[:3]]
        more = f" and {len(copies) - 3:,} more" if len(copies) > 3 else ""
        notes.append(f"{len(copies):,} videos are copies of others: left out, such as {', '.join(pairs)}{more}")
    left = [video for video in videos if video not in copies]
    lost = sorted({video.class_name for video in videos} - {video.class_name for video in left})
    if lost:
        notes.append(f"{len(lost):,} classes hold nothing but copies and are left out: {some(lost)}")
    return left


def class_counts(sizes: Mapping[str, float], n_classes: int) -> dict[str, int]:
    """Return the number of classes of each partition.

    Args:
        sizes: for every partition, a count (a whole number from 1) or a share of the classes (below 1).

    Raises:
        ConfigError: counts and shares are mixed, exceed the classes, or leave a partition without a class.
    """
    given = ", ".join(f"{name} {size:g}" for name, size in sizes.items())
    if all(size >= 1 and float(size).is_integer() for size in sizes.values()):
        counts = {name: int(size) for name, size in sizes.items()}
    elif all(0 < size < 1 for size in sizes.values()) and sum(sizes.values()) <= 1 + 1e-9:
        exact = {name: size * n_classes for name, size in sizes.items()}
        counts = {name: math.floor(size + 1e-9) for name, size in exact.items()}
        left = round(sum(exact.values())) - sum(counts.values())  # go to the most rounded down
        for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: max(left, 0)]:
            counts[name] += 1
    else:
        raise ConfigError(
            f"got {given}, expected whole numbers of classes, or shares that sum to at most 1",
            where="--train, --val, --test",
            remedy="give each partition a count (64) or each a share (0.64)",
        )
    if sum(counts.values()) > n_classes or not all(counts.values()):
        made = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ConfigError(
            f"got {given}: {made} of {n_classes} classes",
            where="--train, --val, --test",
            remedy="give every partition at least one class, and no more classes than there are",
        )
    return counts


def draw_split(
    dataset: str, videos: Mapping[str, tuple[str, ...]], counts: Mapping[str, int], *, seed: int, fold: int = 0
) -> dict[str, Partition]:
    """Draw a class-disjoint split as a function of seed, fold and the names of the classes."""
    names = sorted(videos)
    order = np.random.default_rng([seed, fold]).permutation(len(names))
    partitions, start = {}, 0
    for partition, count in counts.items():
        classes = tuple(sorted(names[index] for index in order[start : start + count]))
        listed = tuple(Video(class_name, name) for class_name in classes for name in videos[class_name])
        partitions[partition] = Partition(dataset, partition, classes, listed)
        start += count
    return partitions


def make_splits(
    data_root: Path,
    name: str,
    folder: Path,
    sizes: Mapping[str, float],
    *,
    seed: int = 0,
    folds: int = 1,
    overwrite: bool = False,
    keep_copies: bool = False,
    tell: Callable[[str], None] = lambda note: None,
) -> dict[str, dict[str, Partition]]:
    """Draw splits of a folder of class folders, write their lists and cards, and return them by data set.

    One split is called `name`; several are called `name_0`, `name_1` and so on. They share one folder of frames,
    `images/<name>`, so that each video is extracted once; a folder of frames in the data root is used in place.

    Args:
        sizes: see `class_counts`.
        keep_copies: as in `list_videos`.
        tell: called with each note on videos that were left out or read in a special way.

    Raises:
        ConfigError: a name is taken, or as `class_counts`; then nothing has been written.
        DataError, StorageError: as `list_videos` and `write_split`, or the folder of frames is outside the data root.
    """
    data_root, folder = Path(data_root), Path(folder)
    refuse_unsafe_name(name, what="dataset name", where="NAME")
    names = [name] if folds == 1 else [f"{name}_{fold}" for fold in range(folds)]
    for dataset in names:
        refuse_unsafe_name(dataset, what="dataset name", where="NAME")
        if dataset in shipped_datasets():
            raise ConfigError(f"{dataset!r} is a published data set", where="NAME", remedy="choose another name")
        taken = [path for path in (data_root / "splits" / dataset, card_file(data_root, dataset)) if path.exists()]
        if taken and not overwrite:
            raise ConfigError("exists", where=str(taken[0]), remedy="choose another name, or replace it: --overwrite")
    listing = list_videos(folder, keep_copies=keep_copies)
    place, videos = card_place(data_root, folder, name, listing), listing.classes
    for note in listing.notes:
        tell(note)
    counts = class_counts({partition: sizes[partition] for partition in PARTITIONS}, len(videos))
    made = {}
    for fold, dataset in enumerate(names):
        made[dataset] = draw_split(dataset, videos, counts, seed=seed, fold=fold)
        write_split(data_root, dataset, made[dataset])
        content = {
            "name": dataset,
            "title": f"split {fold + 1} of {folds} drawn with seed {seed} from {len(videos)} classes",
            "partitions": {
                partition: {"classes": len(part.classes), "videos": len(part.videos)}
                for partition, part in made[dataset].items()
            },
        }
        card = DatasetCard.model_validate(content | place)
        text = yaml.safe_dump(card.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        write_atomically(card_file(data_root, dataset), text.encode())
    return made


def card_file(data_root: Path, dataset: str) -> Path:
    return data_root / "datasets" / f"{dataset}.yaml"


def card_place(data_root: Path, folder: Path, name: str, listing: VideoListing) -> dict[str, Any]:
    """Return the card's `videos` and `frames_of`, relative for a folder in the data root, which may be moved."""
    absolute, root = folder.absolute(), data_root.absolute()
    if absolute.parent == root / "images":
        return {"frames_of": absolute.name}
    if not listing.places:
        link = root / "images" / absolute.name
        raise DataError(
            f"holds frames, which are read in {root / 'images'} alone",
            where=str(folder),
            remedy=f"move or link the folder there (mkdir -p {shlex.quote(str(link.parent))}; ln -s "
            f"{shlex.quote(str(absolute))} {shlex.quote(str(link))}), and give --from {shlex.quote(str(link))}",
        )
    text = str(absolute.relative_to(root)) if absolute.is_relative_to(root) else str(absolute)
    if "{" in text:
        raise ConfigError(f"{shown(text)} holds a brace", where="--from", remedy="rename the folder")
    return {"frames_of": name, "videos": tuple(f"{text}/{place}" for place in listing.places)}

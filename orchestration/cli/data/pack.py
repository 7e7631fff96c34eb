"""Store frames in shards or in folders: `hcl data pack` and `hcl data unpack`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.cli.options import DATA, Data
from orchestration.cli.shell import completion
from orchestration.console import notes, out

if TYPE_CHECKING:
    from hcl.frames.stored_dataset import StoredDataset

DataSet = Annotated[str, typer.Argument(help="A data set with extracted frames.", autocompletion=completion.datasets)]


def pack(
    dataset: DataSet,
    data: Data = DATA,
    videos_per_shard: Annotated[int, typer.Option(min=1, help="Videos that share a file.")] = 300,
) -> None:
    """Move the frames of a data set from folders into shards, each a file for some hundred videos.

    This helps on file systems that limit the number of files. All commands read both forms. New and changed videos are
    extracted into folders, and join the shards when the command is repeated. Shards are plain tar files with an index
    at the end.

    \b
    hcl data pack mine
    """
    from hcl.frames.packing import pack_dataset
    from orchestration.runtime.progress import progress

    stored = _stored(data, dataset)
    with progress(_n_videos(stored), f"pack {dataset}", "videos") as advance:
        summary = pack_dataset(stored.images_root, videos_per_shard=videos_per_shard, on_video=advance)
    if summary.n_left:
        text = f"{summary.n_left} folders hold files that are no frames, and are kept"
        notes.print(f"[yellow]note[/] {text}", soft_wrap=True)
    out.print(
        f"{dataset}: {summary.n_moved} videos packed; {summary.n_shards} shards, {summary.n_bytes / 1e6:.1f} MB",
        soft_wrap=True,
    )
    if summary.n_left:
        out.print(f"{summary.n_left} folders are kept, because they hold other files besides frames", soft_wrap=True)


def unpack(dataset: DataSet, data: Data = DATA) -> None:
    """Move the frames of a data set out of shards, into a folder of JPEGs for each video as published.

    \b
    hcl data unpack mine
    """
    from hcl.frames.packing import unpack_dataset
    from orchestration.runtime.progress import progress

    stored = _stored(data, dataset)
    with progress(_n_videos(stored), f"unpack {dataset}", "videos") as advance:
        summary = unpack_dataset(stored.images_root, on_video=advance)
    out.print(f"{dataset}: {summary.n_moved} videos unpacked", soft_wrap=True)


def _stored(data: Path, dataset: str) -> StoredDataset:
    """Open a data set. Raises DataError where it has no folder of frames."""
    from hcl.datasets.cards import similar_dataset
    from hcl.errors import DataError
    from hcl.frames.stored_dataset import StoredDataset

    stored = StoredDataset(data, dataset)
    if not stored.images_root.is_dir():
        raise DataError(
            f"there are no frames{similar_dataset(data, dataset)}",
            where=str(stored.images_root),
            remedy=f"run `hcl extract {shlex.quote(dataset)}` first",
        )
    return stored


def _n_videos(stored: StoredDataset) -> int:
    return sum(record.status == "ok" for record in stored.records.values())

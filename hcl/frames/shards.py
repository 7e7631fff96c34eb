"""Read and write shards, each of which packs the frames of some hundred videos, for file systems with file quotas.

A shard, `shard-<number>.tar` beside the class folders, is an uncompressed tar of `class/video/n.jpg` that any tool
can list and unpack. Its last member, `index.parquet`, holds offset, size and checksum of each frame; the 64 bytes after
the end of the tar hold offset, size and digest of the index.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hcl.datasets.splits import Video
from hcl.errors import DataError
from hcl.files.names import refuse_unsafe_name
from hcl.videos.jpegs import frames_digest

_TRAILER = struct.Struct("<16sQQ32s")  # magic, offset and length of the index, its SHA-256
_MAGIC = b"hcl frames 1\n\0\0\0"
_SCHEMA = pa.schema(
    [
        ("class_name", pa.string()),
        ("video", pa.string()),
        ("digest", pa.string()),
        ("offsets", pa.list_(pa.int64())),
        ("sizes", pa.list_(pa.int32())),
        ("checksums", pa.list_(pa.uint32())),  # CRC-32
    ]
)


@dataclass(frozen=True)
class PackedVideo:
    """Locate a video's frames in a shard; `row` is its row in the shard's index."""

    shard: Shard
    row: int
    video: Video
    digest: str

    @property
    def n_frames(self) -> int:
        return len(self.shard.index.column("sizes")[self.row])

    def place(self, index: int) -> str:
        """Return the name of a frame for messages."""
        return f"{self.shard.path}: {self.video.key}/{index}.jpg"

    def read(self, indices: Sequence[int] | None = None) -> list[bytes]:
        """Return encoded frames (all with `indices` None), each checked; safe in any number of processes and threads.

        Raises:
            DataError: the shard cannot be read, or a frame's bytes are not those that were packed.
        """
        offsets, sizes, checksums = (
            np.asarray(self.shard.index.column(name)[self.row].values) for name in ("offsets", "sizes", "checksums")
        )
        frames = []
        with _opened(self.shard.path) as file:
            for index in range(len(sizes)) if indices is None else indices:
                # pread, because processes that inherited the file share its position.
                encoded = os.pread(file.fileno(), int(sizes[index]), int(offsets[index]))
                if len(encoded) != sizes[index] or zlib.crc32(encoded) != checksums[index]:
                    raise _damaged(self.shard.path, f"{self.video.key}/{index}.jpg is not what was packed")
                frames.append(encoded)
        return frames


@dataclass(frozen=True)
class Shard:
    path: Path
    index: pa.Table  # one row for each video, in the order of the file
    digest: str  # of the index, and through its checksums of all frames

    @classmethod
    def opened(cls, path: Path) -> Shard:
        """Read and check a shard's index. Raises DataError if it is truncated, changed, or holds an unsafe name."""
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            trailer = os.pread(file.fileno(), _TRAILER.size, max(0, size - _TRAILER.size))
            if len(trailer) != _TRAILER.size or not trailer.startswith(_MAGIC):
                raise _damaged(path, "is not a shard of frames, or its end is missing")
            _, offset, length, digest = _TRAILER.unpack(trailer)
            content = os.pread(file.fileno(), length, offset) if length < size and offset < size else b""
        if hashlib.sha256(content).digest() != digest:
            raise _damaged(path, "its index is not what was written")
        try:
            index = pq.read_table(io.BytesIO(content), schema=_SCHEMA).combine_chunks()
            _check_index(index, size)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(path, f"its index cannot be read: {error}") from error
        for name in {*index.column("class_name").to_pylist(), *index.column("video").to_pylist()}:
            refuse_unsafe_name(name, what="name in a shard", where=str(path))
        return cls(path, index, digest.hex())

    def videos(self) -> Iterator[PackedVideo]:
        columns = (self.index.column(name).to_pylist() for name in ("class_name", "video", "digest"))
        for row, (class_name, name, digest) in enumerate(zip(*columns, strict=True)):
            yield PackedVideo(self, row, Video(class_name, name), digest)

    def verify(self) -> None:
        """Read all frames. Raises DataError for a video whose frames are not those that were packed."""
        for packed in self.videos():
            if frames_digest(packed.read()) != packed.digest:
                raise _damaged(self.path, f"the frames of {packed.video.key!r} are not those that were packed")


def shard_paths(images_root: Path) -> list[Path]:
    return sorted(images_root.glob("shard-*.tar"))


def packed_videos(images_root: Path) -> dict[str, PackedVideo]:
    """Return the packed videos of all shards of a data set by `class/video`; empty without shards."""
    return {packed.video.key: packed for path in shard_paths(images_root) for packed in Shard.opened(path).videos()}


def write_shard(path: Path, videos: Iterable[tuple[Video, Sequence[bytes]]]) -> None:
    """Write a shard with one video in memory at a time; its bytes depend only on videos and frames. Raises OSError."""
    rows = []
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for video, frames in videos:
                offsets = [_add(tar, f"{video.key}/{index}.jpg", frame) for index, frame in enumerate(frames)]
                rows.append(
                    {
                        "class_name": video.class_name,
                        "video": video.name,
                        "digest": frames_digest(frames),
                        "offsets": offsets,
                        "sizes": [len(frame) for frame in frames],
                        "checksums": [zlib.crc32(frame) for frame in frames],
                    }
                )
            index = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), index)
            content = index.getvalue()
            offset = _add(tar, "index.parquet", content)
        file.write(_TRAILER.pack(_MAGIC, offset, len(content), hashlib.sha256(content).digest()))
        file.flush()
        os.fsync(file.fileno())


def _check_index(index: pa.Table, size: int) -> None:
    """Raise ValueError for an index that is invalid for `size` bytes; its digest shows only that it is unchanged."""
    index.validate(full=True)  # finds invalid text, which would otherwise fail at first use
    if any(column.null_count for column in index.columns):
        raise ValueError("values are missing")
    frames = [index.column(name).combine_chunks() for name in ("offsets", "sizes", "checksums")]
    if any(not column.value_lengths().equals(frames[0].value_lengths()) for column in frames):
        raise ValueError("frames have an offset and no size, or a size and no offset")
    offsets, sizes, _ = (column.flatten() for column in frames)
    if offsets.null_count or sizes.null_count or frames[2].flatten().null_count:
        raise ValueError("values are missing")
    starts, lengths = offsets.to_numpy(), sizes.to_numpy()
    if ((starts < 0) | (lengths < 0) | (starts > size - lengths)).any():
        raise ValueError("frames lie outside of the file")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Append a member without owner and date, and return the offset of its content."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
    return tar.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _opened(path: Path) -> io.FileIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror or error}") from error


def _damaged(path: Path, problem: str) -> DataError:
    remedy = "copy the shard again from an intact source, or delete it and extract the dataset again"
    return DataError(problem, where=str(path), remedy=remedy)

"""Read the frames of a data set from folders of JPEGs or from shards.

A data set's frames are in `images/<dataset>/<class>/<video>/<n>.jpg` with n from 0, or in `shard-<number>.tar` beside
the classes; `manifest.parquet` holds one `VideoRecord` for each video.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from hcl.datasets.manifest import VideoRecord, read_manifest
from hcl.datasets.spellings import Spellings, folded
from hcl.datasets.splits import Partition, Video
from hcl.errors import DataError
from hcl.frames.digests import content_digests
from hcl.frames.folders import FrameFolder, folder_names
from hcl.frames.shard_cache import ShardCache
from hcl.frames.shards import PackedVideo, packed_videos
from hcl.videos.jpegs import frame_checksum

_MODES = {  # the names say grey, but their bits hold only the scale, and REDUCED_COLOR would exclude RGB
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


BY_CONTENT = "content-"
"""Prefix of the identity of frames that another tool extracted."""


class FrameStore:
    """Read the frames of a data set from folders or shards, in any order and from any number of processes.

    The manifest holds the number of frames of a video. A folder without a record (from another tool, numbered from 0 or
    1, padded with zeros or not) is listed once.

    Args:
        cache: the cache of shards on a local disk.
    """

    def __init__(
        self, images_root: Path, cache: ShardCache | None = None, *, records: Mapping[str, VideoRecord] | None = None
    ):
        self.images_root, self._cache = Path(images_root), cache
        self._records = read_manifest(self.images_root) if records is None else records
        self._packed = packed_videos(self.images_root)
        self._listings: dict[str, FrameFolder] = {}
        self._spellings, self._packed_by_fold = Spellings(), dict[str, list[str]]()

    def through(self, cache: ShardCache) -> FrameStore:
        """Return a store of the same frames that reads shards through their copies on this machine."""
        store = copy.copy(self)
        store._cache = cache
        return store

    def packed_keys(self) -> frozenset[str]:
        """Return `class/video` of all whose frames lie in shards."""
        return frozenset(key for key, packed in self._packed.items() if is_current(packed, self._records.get(key)))

    def n_frames(self, video: Video) -> int:
        """Return the number of frames of a video. Raises DataError if it has none."""
        record = self._records.get(video.key)
        if n := self._source(video).n_frames:
            return n
        raise DataError(
            f"has no frames: {record.status}, {record.error}" if record else "has no frames",
            where=str(self._folder(video)),
            remedy="extract the dataset, or take the video out of the split's list",
        )

    def read(self, video: Video, indices: Sequence[int], *, min_side: int = 0) -> np.ndarray:
        """Return frames of a video as uint8 RGB (frame, height, width, 3), in the order of `indices`, repeats allowed.

        Args:
            min_side: decode at a half, a quarter or an eighth of the size if both sides keep this many pixels. This is
                faster but changes pixels. Videos without a recorded size, and all with 0, are decoded at full size.
        Raises:
            DataError: an index is beyond the video, or a frame is missing, damaged or of another size.
        """
        n = self.n_frames(video)
        wrong = [index for index in indices if not 0 <= index < n]
        if wrong or not len(indices):
            raise DataError(f"frames {wrong} requested of {n} frames", where=str(self._folder(video)))
        source = self._source(video)
        mode = _MODES[self._reduction(video, min_side)]
        wanted = [int(index) for index in indices]
        if self._cache is not None and isinstance(source, PackedVideo):
            encoded = self._cache.read(source, wanted)
        else:
            encoded = source.read(wanted)
        frames = [self._decoded(content, source, index, mode) for content, index in zip(encoded, indices, strict=True)]
        self._check(encoded, video, source, wanted)
        if len({frame.shape for frame in frames}) > 1:
            raise DataError(
                f"frames differ in size: {sorted({frame.shape[:2] for frame in frames})}",
                where=str(self._folder(video)),
                remedy="extract the video again",
            )
        return np.stack(frames)

    def folder_of(self, video: Video) -> Path | None:
        """Return the folder with a video's frames; None if they are packed or do not exist."""
        source = self._source(video)
        return source.path if isinstance(source, FrameFolder) and source.n_frames else None

    def _check(
        self, encoded: Sequence[bytes], video: Video, source: FrameFolder | PackedVideo, indices: Sequence[int]
    ) -> None:
        """Raise DataError for a folder's frame that was changed after extraction; shards have their own checksums."""
        record = self._records.get(video.key)
        if record is None or not record.checksums or isinstance(source, PackedVideo):
            return
        for content, index in zip(encoded, indices, strict=True):
            if record.checksums[8 * index : 8 * index + 8] != frame_checksum(content):
                raise DataError(
                    "is not what was extracted: its checksum differs",
                    where=source.place(index),
                    remedy=f"delete {self._folder(video)} and extract the dataset again",
                )

    def missing(self, partition: Partition) -> tuple[Video, ...]:
        """Return the videos of a partition that have no frames here, in its order."""
        present = {
            f"{class_name}/{name}"
            for class_name in sorted({video.class_name for video in partition.videos})
            for name in (
                folder_names(self.images_root / class_name) if (self.images_root / class_name).is_dir() else ()
            )
        }
        present |= self._packed.keys()
        return tuple(
            v
            for v in partition.videos
            if (v.key not in present and not self._is_respelled(v)) or not self._source(v).n_frames
        )

    def digest(self, partition: Partition) -> str:
        """Return the digest of the frames of a partition's videos, in its order: sixteen hexadecimal digits.

        It depends on the digests of the videos' frames, and therefore changes neither with packing, nor with the place,
        nor with another extraction of the same result. If frames of another tool were read for it, which earlier
        versions identified by three sizes, the prefix `BY_CONTENT` is added.

        Raises:
            DataError: a frame is missing.
        """
        digests, foreign = self._digests(partition.videos)
        identities = [digests.get(video, "missing") for video in partition.videos]
        name = hashlib.sha256(json.dumps(identities).encode()).hexdigest()[:16]
        return f"{BY_CONTENT}{name}" if foreign else name

    def digests(self, videos: Iterable[Video], *, on_video: Callable[[], None] = lambda: None) -> dict[Video, str]:
        """Return the digest of the frames of each video that has frames; equal digests mean copies.

        Args:
            on_video: called for each video of another tool whose frames were read (`hcl.frames.digests`).

        Raises:
            DataError: a frame is missing.
        """
        return self._digests(videos, on_video)[0]

    def _digests(
        self, videos: Iterable[Video], on_video: Callable[[], None] = lambda: None
    ) -> tuple[dict[Video, str], dict[str, FrameFolder]]:
        digests, foreign = {}, {}
        for video in videos:
            record = self._records.get(video.key)
            if record is not None and record.status == "ok" and record.digest:
                digests[video] = record.digest
            elif isinstance(source := self._source(video), PackedVideo):
                digests[video] = source.digest
            elif source.n_frames:
                foreign[video.key] = source
        by_content = content_digests(self.images_root, foreign, on_video=on_video)
        return digests | {Video(*key.split("/", 1)): digest for key, digest in by_content.items()}, foreign

    def _source(self, video: Video) -> FrameFolder | PackedVideo:
        """Return the folder or the packed copy that holds a video's current frames."""
        record, packed = self._records.get(video.key), self._packed_of(video)
        if record is not None and record.status == "ok":
            is_packed = packed is not None and is_current(packed, record)
            return packed if packed and is_packed else FrameFolder(self._folder(video), record.n_frames)
        folder = self._listed(video)
        return packed if packed and is_current(packed, record) and not folder.n_frames else folder

    def _reduction(self, video: Video, min_side: int) -> int:
        record = self._records.get(video.key)
        if not min_side or record is None or record.status != "ok":
            return 1
        return max(factor for factor in _MODES if factor == 1 or min(record.width, record.height) >= factor * min_side)

    def _folder(self, video: Video) -> Path:
        """Return the folder of a video's frames, existing or not, also under another tool's spelling of the name."""
        path = self.images_root / video.class_name / video.name
        record = self._records.get(video.key)
        if record is not None and record.status == "ok":
            return path
        return self._spellings.find(self.images_root, (video.class_name, video.name)) or path

    def _packed_of(self, video: Video) -> PackedVideo | None:
        if video.key in self._packed or not self._packed:
            return self._packed.get(video.key)
        if not self._packed_by_fold:
            for key in self._packed:
                self._packed_by_fold.setdefault(folded(key), []).append(key)
        alike = self._packed_by_fold.get(folded(video.key), [])
        return self._packed[alike[0]] if len(alike) == 1 else None

    def _is_respelled(self, video: Video) -> bool:
        """Return true if a video is present only under another spelling of its name."""
        folder = self._folder(video)
        is_there = folder.is_dir() and folder != self.images_root / video.class_name / video.name
        return is_there or self._packed_of(video) is not None

    def _listed(self, video: Video) -> FrameFolder:
        if video.key not in self._listings:
            self._listings[video.key] = FrameFolder.listed(self._folder(video))
        return self._listings[video.key]

    def _decoded(self, encoded: bytes, source: FrameFolder | PackedVideo, index: int, mode: int) -> np.ndarray:
        frame = cv2.imdecode(np.frombuffer(encoded, np.uint8), mode) if encoded else None
        if frame is None:
            raise DataError(
                "is not an image", where=source.place(index), remedy="delete the video's frames and extract them again"
            )
        return frame


def is_current(packed: PackedVideo, record: VideoRecord | None) -> bool:
    """Return true if a packed copy agrees with the manifest.

    It does not if the video was extracted again (its new frames are in a folder) or has turned out broken."""
    if record is None or record.status == "missing":  # frames of another tool
        return True
    return record.status == "ok" and packed.n_frames == record.n_frames and record.digest in ("", packed.digest)

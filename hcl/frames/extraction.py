"""Extract a video file into a folder of frames atomically: the folder is complete or absent at any moment."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hcl.datasets.manifest import VideoRecord
from hcl.errors import StorageError
from hcl.files.atomic import discard_folder, partial_of, publish_folder
from hcl.files.disk_errors import remedy_for
from hcl.frames.decoding import FrameOptions, decode_into, probe
from hcl.videos.opencv_reader import OpenCVFrames

DEFAULT_OPTIONS = FrameOptions()


@dataclass(frozen=True)
class ExtractionJob:
    """A video file to extract.

    Attributes:
        relative: the source's folder and name: the manifest stays true where the data root is moved.
        destination: its folder of frames, `<class>/<video>`.
        earlier: the record of frames that stay as they are if OpenCV reads the video correctly.
    """

    source: Path
    relative: str
    destination: Path
    earlier: VideoRecord | None = None


def extract_video(
    source: Path,
    destination: Path,
    options: FrameOptions = DEFAULT_OPTIONS,
    *,
    partial: Path | None = None,
    earlier: VideoRecord | None = None,
) -> VideoRecord:
    """Decode one video into a folder of JPEGs, one frame in memory at a time.

    Args:
        source: the video file.
        destination: `<class>/<video>`; earlier content is replaced, or removed if no frame can be decoded.
        partial: the folder to write before the final rename, on the same file system; None means one beside the
            destination. Removing it stops the extraction, and the destination stays unchanged.
        earlier: the record of an extraction by a version that did not verify OpenCV's frames; right frames are kept.
    Raises:
        StorageError: the frames cannot be written; this is not a property of the video.
    """
    record = VideoRecord(
        destination.parent.name, destination.name, "missing", source=str(source), options_digest=options.digest
    )
    try:
        stat = source.stat()
    except OSError as error:
        return replace(record, error=f"cannot be opened: {error.strerror or error}")
    record = replace(record, source_bytes=stat.st_size, source_mtime_ns=stat.st_mtime_ns)
    if earlier is not None and _is_right(earlier, source, destination):
        return replace(earlier, decoder=OpenCVFrames.decoder)
    partial = partial_of(destination) if partial is None else partial
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that died on this video
        partial.mkdir()
        record = decode_into(partial, source, record, options)
        if record.status == "ok":
            publish_folder(partial, destination)
        else:
            discard_folder(destination)
    except OSError as error:
        raise StorageError(
            f"frames cannot be written: {error.strerror or error}",
            where=str(destination),
            remedy=f"{remedy_for(error)}, then repeat the command",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _is_right(earlier: VideoRecord, source: Path, folder: Path) -> bool:
    """Return true if the frames of an unverified extraction by OpenCV are right.

    OpenCV must decode the first frame correctly, and no two frames in a row may be equal: OpenCV repeats a frame if it
    cannot convert the next one."""
    if earlier.status != "ok" or probe(source).decoder != OpenCVFrames.decoder:
        return False
    # Without a folder the frames are in a shard, and checking the first frame must suffice.
    return not folder.is_dir() or not _repeats_frame([folder / f"{index}.jpg" for index in range(earlier.n_frames)])


def _repeats_frame(paths: list[Path]) -> bool:
    """Return true if two files in a row are equal, or if a file is missing."""
    try:
        sizes = [path.stat().st_size for path in paths]
        pairs = [(paths[n], paths[n - 1]) for n in range(1, len(paths)) if sizes[n] == sizes[n - 1]]
        return any(frame.read_bytes() == previous.read_bytes() for frame, previous in pairs)
    except FileNotFoundError:
        return True


def recorded_options(records: Iterable[VideoRecord]) -> FrameOptions | None:
    """Return the options with which most videos of a manifest were extracted; None if none are recorded or they differ.

    The manifest holds a digest of the options, and the sizes and counts of frames that resulted from them: among the
    options that can have led to these the digest finds the right ones.
    """
    made = [record for record in records if record.status == "ok" and record.options_digest]
    if not made:
        return None
    digest, _ = Counter(record.options_digest for record in made).most_common(1)[0]
    made = [record for record in made if record.options_digest == digest]
    sides = {DEFAULT_OPTIONS.short_side, 0, *(min(record.width, record.height) for record in made)}
    counts = {None, max(record.n_frames for record in made)}
    options = (FrameOptions(side, quality, n) for side in sides for n in counts for quality in range(1, 101))
    return next((one for one in options if one.digest == digest), None)


def discard_partials(images_root: Path) -> int:
    """Remove partial files of killed commands, and return their number. No command may be writing these images."""
    partials = [*images_root.glob(".*.partial"), *images_root.glob("*/.*.partial")]
    for path in partials:
        if path.is_dir():
            discard_folder(path)
        else:
            path.unlink(missing_ok=True)
    return len(partials)

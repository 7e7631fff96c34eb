"""Extract a video file into a folder of frames that is whole or absent at any moment."""

from __future__ import annotations

import shutil
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
        destination: `<class>/<video>`; what stood there is replaced, or removed if no frame can be decoded.
        partial: where the folder is made before it is renamed, on the same file system; None: beside the destination.
            Whoever removes it stops the extraction: nothing reaches the destination then.
        earlier: the record of an extraction that took whatever OpenCV returned; its frames stay if they are right.
    Raises:
        StorageError: the frames cannot be written; nothing is said about the video then.
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
        shutil.rmtree(partial, ignore_errors=True)  # of a process that died on this video
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
    """Tell whether OpenCV, which extracted a video without a check, can be trusted with its first frame and has not
    stored a frame twice in a row, as it does with one that it fails to convert."""
    if earlier.status != "ok" or probe(source).decoder != OpenCVFrames.decoder:
        return False
    # Without a folder they lie in a shard, and the first frame has to do.
    return not folder.is_dir() or not _repeats_frame([folder / f"{index}.jpg" for index in range(earlier.n_frames)])


def _repeats_frame(paths: list[Path]) -> bool:
    """Tell whether two files in a row are the same, or one is not there."""
    try:
        sizes = [path.stat().st_size for path in paths]
        pairs = [(paths[n], paths[n - 1]) for n in range(1, len(paths)) if sizes[n] == sizes[n - 1]]
        return any(one.read_bytes() == other.read_bytes() for one, other in pairs)
    except FileNotFoundError:
        return True


def discard_partials(images_root: Path) -> int:
    """Remove what killed commands left behind; returns how much. None may be at work on these images."""
    partials = [*images_root.glob(".*.partial"), *images_root.glob("*/.*.partial")]
    for path in partials:
        if path.is_dir():
            discard_folder(path)
        else:
            path.unlink(missing_ok=True)
    return len(partials)

"""A video file to a folder of frames that is whole or absent at any moment."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from hcl.atomic import discard_folder, partial_of, publish_folder
from hcl.decoding import FrameOptions, decode_into
from hcl.errors import StorageError
from hcl.manifest import VideoRecord

DEFAULT_OPTIONS = FrameOptions()


def extract_video(
    source: Path, destination: Path, options: FrameOptions = DEFAULT_OPTIONS, *, partial: Path | None = None
) -> VideoRecord:
    """Decode one video into a folder of JPEGs, one frame in memory at a time.

    Args:
        source: the video file.
        destination: `<class>/<video>`; what stood there is replaced, or removed if no frame can be decoded.
        partial: where the folder is made before it is renamed, on the same file system; None: beside the destination.
            Whoever removes it stops the extraction: nothing reaches the destination then.
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
            remedy="check permissions and free space, then repeat the command",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def discard_partials(images_root: Path) -> int:
    """Remove what killed commands left behind; returns how much. None may be at work on these images."""
    partials = [*images_root.glob(".*.partial"), *images_root.glob("*/.*.partial")]
    for path in partials:
        if path.is_dir():
            discard_folder(path)
        else:
            path.unlink(missing_ok=True)
    return len(partials)

"""Digests of frames that another tool has extracted: by content, each frame read once, then known by size and time.

They are kept in one file beside the frames, `images/<dataset>/.digests.npz`, or, where that folder cannot be written,
in the user's cache. A kept digest is trusted while its folder holds frames of the same names, sizes and times of change
in nanoseconds; anything else is read again, so that a copy with other times keeps its digest. A change is not noticed
where size and time of every frame stay as they were: bytes that a disk has damaged, or a tool that sets the old time
on a new file of the same size. Removing the file has all frames read again.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hcl.errors import StorageError
from hcl.files.arrays import load_arrays, save_arrays
from hcl.frames.folders import FrameFolder
from hcl.videos.jpegs import frames_digest

KEPT = ".digests.npz"
_MANY = 1000  # videos: reading more takes long enough to be told
_N_READERS = 8  # threads: reading waits for the disk, and hashing lets other threads run


class _Known(NamedTuple):
    stamp: str  # `FrameFolder.stamp`
    digest: str  # `decoding.frames_digest`


def content_digests(
    images_root: Path, folders: Mapping[str, FrameFolder], *, on_video: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Return the digest of each folder's frames by key, `class/video`; what is new or has changed is read and kept.

    Args:
        on_video: called for each folder that was read.

    Raises:
        DataError: a frame cannot be read.
    """
    if not folders:
        return {}
    known, fresh = _read(images_root), {}
    with ThreadPoolExecutor(_N_READERS) as readers:
        stamps = dict(zip(folders, readers.map(FrameFolder.stamp, folders.values()), strict=True))
        stale = [key for key, stamp in stamps.items() if key not in known or known[key].stamp != stamp]
        if len(stale) > _MANY:
            what = f"the frames of {len(stale):,} videos of another tool are read, once, to know them by content"
            warnings.warn(f"{images_root}: {what}", stacklevel=2)

        def read(key: str) -> tuple[str, str, bool]:
            digest = frames_digest(folders[key].read(range(folders[key].n_frames)))
            return key, digest, folders[key].stamp() == stamps[key]  # not of one that changes while it is read

        found = {key: known[key].digest for key in folders.keys() - set(stale)}
        for key, digest, is_to_keep in readers.map(read, stale):
            found[key] = digest
            if is_to_keep:
                fresh[key] = _Known(stamps[key], digest)
            on_video()
    if fresh:
        _write(images_root, {**_read(images_root), **fresh})  # another process may have added some meanwhile
    return found


def _places(images_root: Path) -> list[Path]:
    """Return where digests are kept, the first choice first."""
    places = [images_root / KEPT]
    with suppress(RuntimeError):  # a user without a home
        name = hashlib.sha256(str(images_root.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
        places.append(Path.home() / ".cache" / "hcl" / f"digests-{name}.npz")
    return places


def _read(images_root: Path) -> dict[str, _Known]:
    """Return what is kept; a damaged file, whose arrays carry checksums, counts as none."""
    for place in _places(images_root):
        with suppress(StorageError, KeyError, ValueError, UnicodeDecodeError):
            arrays = load_arrays(place, remedy="")
            keys = arrays["keys"].tobytes().decode(errors="surrogateescape").split("\n")
            rows = zip(keys, arrays["stamps"], arrays["digests"], strict=True)
            return {key: _Known(stamp.tobytes().hex(), digest.tobytes().hex()) for key, stamp, digest in rows}
    return {}


def _write(images_root: Path, known: Mapping[str, _Known]) -> None:
    arrays = {
        "keys": np.frombuffer("\n".join(known).encode(errors="surrogateescape"), np.uint8),
        "stamps": np.array([list(bytes.fromhex(one.stamp)) for one in known.values()], np.uint8),
        "digests": np.array([list(bytes.fromhex(one.digest)) for one in known.values()], np.uint8),
    }
    for place in _places(images_root):
        try:
            save_arrays(place, arrays)
            return
        except StorageError:
            continue
    warnings.warn(
        f"the digests of the frames in {images_root} can be kept nowhere: every command reads all of these frames",
        stacklevel=2,
    )

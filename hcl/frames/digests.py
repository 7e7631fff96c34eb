"""Compute and cache content digests of frames that another tool has extracted.

They are cached in one file beside the frames, `images/<dataset>/.digests.npz`, or, if that folder is not writable, in
the user's cache. A cached digest is valid while its folder holds frames of the same names, sizes and modification times
in nanoseconds; otherwise the frames are read again, so that a copy with other times keeps its digest. A change that
keeps size and time of every frame is not noticed: bytes that a disk has damaged, or a tool that sets the old time on a
new file of the same size. After removing the file all frames are read again.
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
_MANY = 1000  # videos; reading more than these takes long enough for a warning
_N_READERS = 8  # threads: reading waits for the disk, and hashing releases the GIL


class _CachedDigest(NamedTuple):
    stamp: str  # `FrameFolder.stamp`
    digest: str  # `hcl.videos.jpegs.frames_digest`


def content_digests(
    images_root: Path, folders: Mapping[str, FrameFolder], *, on_video: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Return the digest of each folder's frames by key, `class/video`; read and cache those that are new or changed.

    Args:
        on_video: called after each folder is read.

    Raises:
        DataError: a frame cannot be read.
    """
    if not folders:
        return {}
    cached, fresh = _read(images_root), {}
    with ThreadPoolExecutor(_N_READERS) as readers:
        stamps = dict(zip(folders, readers.map(FrameFolder.stamp, folders.values()), strict=True))
        stale = [key for key, stamp in stamps.items() if key not in cached or cached[key].stamp != stamp]
        if len(stale) > _MANY:
            note = f"the frames of {len(stale):,} videos of another tool are read, once, to know them by content"
            warnings.warn(f"{images_root}: {note}", stacklevel=2)

        def read(key: str) -> tuple[str, str, bool]:
            digest = frames_digest(folders[key].read(range(folders[key].n_frames)))
            return key, digest, folders[key].stamp() == stamps[key]  # false if it changed meanwhile

        digests = {key: cached[key].digest for key in folders.keys() - set(stale)}
        for key, digest, is_to_keep in readers.map(read, stale):
            digests[key] = digest
            if is_to_keep:
                fresh[key] = _CachedDigest(stamps[key], digest)
            on_video()
    if fresh:
        _write(images_root, {**_read(images_root), **fresh})  # read again, because another process may have added some
    return digests


def _places(images_root: Path) -> list[Path]:
    """Return the possible cache files, the preferred one first."""
    places = [images_root / KEPT]
    with suppress(RuntimeError):  # a user without a home
        name = hashlib.sha256(str(images_root.absolute()).encode(errors="surrogateescape")).hexdigest()[:16]
        places.append(Path.home() / ".cache" / "hcl" / f"digests-{name}.npz")
    return places


def _read(images_root: Path) -> dict[str, _CachedDigest]:
    """Return the cached digests; a damaged file, recognised by its checksums, counts as empty."""
    for place in _places(images_root):
        with suppress(StorageError, KeyError, ValueError, UnicodeDecodeError):
            arrays = load_arrays(place, remedy="")
            keys = arrays["keys"].tobytes().decode(errors="surrogateescape").split("\n")
            rows = zip(keys, arrays["stamps"], arrays["digests"], strict=True)
            return {key: _CachedDigest(stamp.tobytes().hex(), digest.tobytes().hex()) for key, stamp, digest in rows}
    return {}


def _write(images_root: Path, cached: Mapping[str, _CachedDigest]) -> None:
    arrays = {
        "keys": np.frombuffer("\n".join(cached).encode(errors="surrogateescape"), np.uint8),
        "stamps": np.array([list(bytes.fromhex(entry.stamp)) for entry in cached.values()], np.uint8),
        "digests": np.array([list(bytes.fromhex(entry.digest)) for entry in cached.values()], np.uint8),
    }
    for place in _places(images_root):
        try:
            save_arrays(place, arrays)
            return
        except StorageError:
            continue
    warnings.warn(
        f"the digests of the frames in {images_root} cannot be cached: every command reads all of these frames",
        stacklevel=2,
    )

"""Verify zip archives, as NumPy and PyTorch write them, by the CRC-32 of every member."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BEGINS = b"PK\x03\x04"
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")  # end record of an archive without a comment
_IS_FOLDER = 0x10
_MANY = 0xFFFF  # then the number of members is in another record


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and verify that its directory lists all members: a damaged length in it can hide some.

    Raises:
        zipfile.BadZipFile: members are hidden, or the file is no archive. Other errors of zipfile and OSError pass.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        file.seek(-_END.size, os.SEEK_END)
        mark, _, _, _, n_members, *_ = _END.unpack(file.read(_END.size))
        if mark == b"PK\x05\x06" and n_members not in (_MANY, len(archive.infolist())):
            raise zipfile.BadZipFile(f"its directory lists {len(archive.infolist())} of {n_members} members")
        if folders := [member.filename for member in archive.infolist() if member.external_attr & _IS_FOLDER]:
            raise zipfile.BadZipFile(f"its directory calls {folders[0]!r} a folder")  # PyTorch would read it as empty
        yield archive


def check_archive(path: Path) -> None:
    """Read a whole zip archive and verify its checksums, which PyTorch ignores. Other files are not read.

    An archive that was written without checksums (`torch.serialization.set_crc32_options(False)`) passes.

    Raises:
        zipfile.BadZipFile: the archive is damaged or truncated. Other errors of zipfile, zlib and OSError pass.
    """
    with path.open("rb") as file:
        if file.read(len(_BEGINS)) != _BEGINS:
            return
    with opened_archive(path) as archive:
        members = archive.infolist()
        if not any(member.CRC for member in members):
            return
        for member in members:
            with archive.open(member) as stream:
                while stream.read(_CHUNK):
                    pass


def archive_problem(path: Path) -> str:
    """Describe the damage of an archive; return "" if it is intact or does not exist."""
    if not path.exists():
        return ""
    try:
        check_archive(path)
    except Exception as error:  # zipfile, zlib and struct raise different types for damage
        return str(error) or type(error).__name__
    return ""

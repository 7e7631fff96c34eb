"""Zip archives, as NumPy and PyTorch write them, of which every member has a CRC-32: what a reader has to look at."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BEGINS = b"PK\x03\x04"
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")  # of an archive without a comment
_IS_FOLDER = 0x10
_MANY = 0xFFFF  # the number of members stands elsewhere then


@contextmanager
def opened_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose directory lists all of its members: a changed length in it can hide those that follow.

    Raises:
        zipfile.BadZipFile: it does not, or the file is no archive. Others of zipfile and OSError likewise.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        file.seek(-_END.size, os.SEEK_END)
        mark, _, _, _, n_members, *_ = _END.unpack(file.read(_END.size))
        if mark == b"PK\x05\x06" and n_members not in (_MANY, len(archive.infolist())):
            raise zipfile.BadZipFile(f"its directory lists {len(archive.infolist())} of {n_members} members")
        if folders := [member.filename for member in archive.infolist() if member.external_attr & _IS_FOLDER]:
            raise zipfile.BadZipFile(f"its directory calls {folders[0]!r} a folder")  # PyTorch would read nothing of it
        yield archive


def check_archive(path: Path) -> None:
    """Read a zip archive through and compare its checksums; PyTorch itself reads past them. Other files are left alone.

    An archive that was written without checksums (`torch.serialization.set_crc32_options(False)`) passes.

    Raises:
        zipfile.BadZipFile: a byte of it has changed, or it is cut off. Others of zipfile, zlib and OSError likewise.
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
    """Say what is wrong with an archive's bytes; empty where nothing is, or where there is no file."""
    if not path.exists():
        return ""
    try:
        check_archive(path)
    except Exception as error:  # zipfile, zlib and struct have each their own for damage
        return str(error) or type(error).__name__
    return ""

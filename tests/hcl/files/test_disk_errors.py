"""What a disk refuses is told with a remedy for that very cause."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hcl.errors import StorageError
from hcl.files.disk_errors import remedy_for, storing


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EACCES, "make it writable for you"),
        (errno.EROFS, "mount it for writing"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOTDIR, "move what stands in the way"),
        (errno.ENOENT, "make the folder again"),
        (errno.ENOSYS, "check that file system"),
    ],
)
def test_nobody_is_told_to_free_space_where_there_is_room(tmp_path: Path, number: int, remedy: str) -> None:
    with pytest.raises(StorageError, match=os.strerror(number)) as raised, storing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert remedy in str(raised.value.remedy) and "resumes where it stopped" in str(raised.value.remedy)
    assert ("free space" in remedy_for(number)) == (number == errno.ENOSPC)


def test_a_write_that_numpy_found_cut_short_is_of_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="2160 requested") as raised, storing(tmp_path):
        raise OSError("2160 requested and 2016 written")
    assert "free space" in str(raised.value.remedy)


def test_torchs_own_words_for_a_full_disk_are_not_its_cause(tmp_path: Path) -> None:
    def save() -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 - as torch.save does

    with pytest.raises(StorageError, match="No space left on device"), storing(tmp_path):
        save()
    with pytest.raises(RuntimeError, match="a bug"), storing(tmp_path):
        raise RuntimeError("a bug")

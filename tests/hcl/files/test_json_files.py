"""JSON files with a checksum: what is written is read, in the format that `results` gives its records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcl.errors import StorageError
from hcl.files.json_files import read_json, write_checked_json, write_json
from results.records import files

CONTENT = {"kind": "x", "values": [0.1, 1, None, True], "names": {"b": "Grüße", "a": "ant"}}


def test_the_checksum_is_that_of_records(tmp_path: Path) -> None:
    """Files change hands: `hcl sweep` of earlier versions wrote confirmation.json as `results` writes records."""
    ours = write_checked_json(tmp_path / "ours.json", CONTENT)
    theirs = files.write_checked(tmp_path / "theirs.json", CONTENT)
    assert ours.read_bytes() == theirs.read_bytes()
    assert read_json(theirs, remedy="r") == CONTENT
    assert files.read_checked(ours) == {**CONTENT, "crc32": json.loads(ours.read_bytes())["crc32"]}


def test_a_change_is_refused_and_a_file_without_checksum_is_not(tmp_path: Path) -> None:
    path = write_checked_json(tmp_path / "one.json", CONTENT)
    path.write_text(path.read_text().replace("ant", "bee"))
    with pytest.raises(StorageError, match="its checksum is that of other content") as caught:
        read_json(path, remedy="make it again")
    assert caught.value.where == str(path) and str(caught.value.remedy).startswith("make it again")
    assert read_json(write_json(path, CONTENT), remedy="r") == CONTENT


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read: No such file"), (b"{", "is not JSON"), (b"\xff", "is not JSON")]
)
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "one.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=problem) as caught:
        read_json(path, remedy="r")
    assert caught.value.where == str(path)

"""Test descriptions of clusters from files and options, valid and invalid."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.description import Description, Nodes, counted, read_description
from cluster.errors import DescriptionError
from tests.cluster.described import CPU, GPU


def test_nodes_of_one_kind_do_all_work() -> None:
    for name, only in (("gpu", Description(gpu=GPU)), ("cpu", Description(cpu=CPU))):
        assert only.roles(name) == {"decode": 1, "encode": 1, "train": 1}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("gpu: {count: 1, gpus: 0}", "gpu nodes need gpus"),
        ("cpu: {gpus: 1}", "only gpu nodes have gpus"),
        ("gpus: 4", "gpus: Extra inputs"),
        ("name: Upper\ncpu: {}", "name: .*got 'Upper'"),
        ("image: 'a b'\ncpu: {}", "image"),
        ("cpu: {}\nstorage: {path: relative}", "storage.path"),
        ("cpu: {}\nstorage: {path: /a; rm -rf /}", "storage.path"),
        ("cpu: {}\nstorage: {path: /}", "storage.path: expected a folder below /.*got '/'"),
        ("cpu: {}\nstorage: {path: //.}", "storage.path: expected a folder below /"),
        ("cpu: {}\nstorage: {path: /shared/..}", "storage.path: expected a folder below /"),
        ("cpu: {}\nami: us-west-2", "ami: .*got 'us-west-2'"),
        ("{}", "neither gpu nor cpu nodes"),
        ("- a", "expected a mapping"),
        ("cpu: {", "cannot be read"),
        ("cpu: !!python/object/apply:os.system [touch pwned]", "cannot be read"),
    ],
)
def test_descriptions_that_mean_nothing(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "place.yaml"
    path.write_text(content)
    with pytest.raises(DescriptionError, match=text) as raised:
        read_description(path, {})
    assert str(path) in str(raised.value) and raised.value.remedy


def test_options_come_over_a_file_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "place.yaml"
    path.write_text("gpu: {count: 1, gpus: 4, cpus: 48}\nname: lab\n")
    found = read_description(path, {"gpu": {"count": 3, "gpus": 8}, "image": "hcl:2"})
    assert found.gpu == Nodes(count=3, gpus=8, cpus=48) and (found.name, found.image) == ("lab", "hcl:2")


@given(st.integers(1, 99_999), st.integers(1, 9_999))
def test_counts_are_read_as_written(nodes: int, number: int) -> None:
    assert counted(f"{nodes}x{number}", "--gpus") == (nodes, number)


@pytest.mark.parametrize("text", ["4", "4x0", "0x4", "x8", "4x8x2", "-1x2", "4 x 8", ""])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(DescriptionError, match="NODESxNUMBER"):
        counted(text, "--gpus")

"""Features in blocks on disk: written whole, read by clip and view, the same numbers."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hcl.clips.blocks import Block, BlockStore
from hcl.errors import StorageError
from hcl.models.features import ClipFeatures, pack, unpack
from tests.hcl.models.test_hcl import ROWS, parts_of, seeded_heads, tokens_like

N_CLIPS, VIEWS = 11, 2


@pytest.fixture
def views() -> list[ClipFeatures]:
    heads = seeded_heads().float()
    with torch.no_grad():
        return [heads(tokens_like(N_CLIPS).float() * (view + 1) + view, ROWS) for view in range(VIEWS)]


@pytest.fixture
def store(views: list[ClipFeatures], tmp_path: Path) -> BlockStore:
    store = BlockStore(tmp_path / "features", N_CLIPS, size=4)  # which does not divide the clips
    assert store.missing() == [(0, 4), (4, 8), (8, 11)]
    for start, stop in store.missing():
        each = [pack(view[start:stop]) for view in views]
        store.write(start, {name: torch.stack([one[name] for one in each]).numpy() for name in each[0]})
    assert store.missing() == []
    return store


def assert_same(one: ClipFeatures, other: ClipFeatures) -> None:
    for ours, theirs in zip(parts_of(one), parts_of(other), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (0, 4), (5, 7), (3, 9), (10, 11)])
def test_clips_in_a_row_are_read_back(start: int, stop: int, store: BlockStore, views: list[ClipFeatures]) -> None:
    for view in range(VIEWS):
        assert_same(unpack(store.read(start, stop, view)), views[view][start:stop])


def test_any_clips_are_read_back_in_their_order(store: BlockStore, views: list[ClipFeatures]) -> None:
    clips = np.array([9, 0, 4, 4, 10])
    assert_same(unpack(store.take(clips, 1)), views[1][torch.from_numpy(clips)])


@pytest.mark.parametrize("settings", [{}, {"reproject_per_size": True}], ids=str)
def test_what_serves_several_tuple_sizes_is_kept_once(settings: dict) -> None:
    with torch.no_grad():
        features = seeded_heads(**settings)(tokens_like(3), ROWS)
    named = pack(features)
    assert ("patches-1" in named) == bool(settings)
    assert_same(unpack(named), features)
    assert pack(features, half=True)["patches-0"].dtype == torch.float16


def test_a_block_is_whole_or_missing_and_damage_is_named(store: BlockStore) -> None:
    block = store.folder / "clips-4"
    (block / "clip.npy").write_bytes(b"torn")
    with pytest.raises(StorageError, match="clips-4: cannot be read"):
        store.read(0, 5)
    (block / "whole").unlink()
    assert store.missing() == [(4, 8)]
    shutil.rmtree(block)
    assert store.missing() == [(4, 8)]
    with pytest.raises(StorageError, match="clips-4.*missing"):
        store.take(np.array([4]))


def test_a_block_without_its_last_file_is_written_again(store: BlockStore, views: list[ClipFeatures]) -> None:
    block = store.folder / "clips-8"
    whole = {path.name: path.read_bytes() for path in block.iterdir()}
    (block / "whole").unlink()
    (block / "clip.npy").unlink()
    each = [pack(view[8:11]) for view in views]
    store.write(8, {name: torch.stack([one[name] for one in each]).numpy() for name in each[0]})
    assert {path.name: path.read_bytes() for path in block.iterdir()} == whole


def test_an_array_of_other_clips_is_named(store: BlockStore) -> None:
    np.save(store.folder / "clips-4" / "clip.npy", np.zeros((VIEWS, 3, 2)))
    with pytest.raises(StorageError, match=r"clips-4: cannot be read: clip is \(2, 3, 2\), not view 1 of 4 clips"):
        store.take([5], 1)


def test_a_second_writer_changes_nothing(store: BlockStore, views: list[ClipFeatures]) -> None:
    store.write(0, {"clip": np.zeros((VIEWS, 4, 3))})
    assert_same(unpack(store.read(0, 4)), views[0][:4])
    assert not list(store.folder.glob(".*"))


def test_a_disk_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="clip.npy: cannot be written"):
        BlockStore(tmp_path / "file" / "features", 3).write(0, {"clip": np.zeros((1, 3, 2))})


def test_a_block_that_is_not_what_was_written_is_made_again(store: BlockStore, views: list[ClipFeatures]) -> None:
    path = store.folder / "clips-4" / "patches-0.npy"
    content = bytearray(path.read_bytes())
    content[-9] ^= 32
    path.write_bytes(content)
    with pytest.raises(StorageError, match="clips-4: cannot be read: patches-0.npy is not what was written"):
        BlockStore(store.folder, N_CLIPS, size=4).read(0, 11, 1)

    def mend(start: int, stop: int) -> None:
        each = [pack(view[start:stop]) for view in views]
        store.write(start, {name: torch.stack([one[name] for one in each]).numpy() for name in each[0]})

    for read in (lambda one: one.read(0, 11, 1), lambda one: one.take(range(11), 1)):
        path.write_bytes(content)
        assert_same(unpack(read(BlockStore(store.folder, N_CLIPS, size=4, mend=mend))), views[1])


def test_a_process_compares_a_block_once(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch, views: list[ClipFeatures]
) -> None:
    """A tile reads two sides, and each side is read by many tiles."""
    checked: list[tuple[int, int]] = []
    check = Block.check

    def count(self: Block, view: int, clips: Sequence[int]) -> None:
        checked.append((view, len(clips)))
        check(self, view, clips)

    monkeypatch.setattr(Block, "check", count)
    for _ in range(3):
        assert_same(unpack(store.read(0, 11, 1)), views[1])
    assert [one for one in checked if one[1]] == [(1, 4), (1, 4), (1, 3)]

"""A data set as it lies on disk: its card, lists, manifest, effective split and frames, each read once."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hcl.datasets.cards import DatasetCard, card_of, known_datasets
from hcl.datasets.copies import PRECEDENCE, find_copies
from hcl.datasets.list_formats import Known
from hcl.datasets.splits import PARTITIONS, Listed, Partition, Split, Video, read_lists, split_of
from hcl.errors import DataError
from hcl.files.names import some
from hcl.frames.effective import Accepted, read_effective, without

if TYPE_CHECKING:  # loaded when it is used: a list of data sets needs neither pyarrow nor OpenCV
    from hcl.datasets.manifest import VideoRecord
    from hcl.frames.store import FrameStore

T = TypeVar("T")


@dataclass(frozen=True)
class DataRoot:
    """A folder of data sets, as one command sees it: each data set in it is opened once.

    Where it is sent to another process, that process opens the data sets again: no rows travel.
    """

    path: Path
    _opened: dict[str, StoredDataset] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return DataRoot, (self.path,)

    def dataset(self, name: str) -> StoredDataset:
        """Return a data set, the same object at every call; nothing is read yet."""
        return self._opened.setdefault(name, StoredDataset(self.path, name))

    def names(self) -> list[str]:
        """Return the names of the data sets that are shipped, have a card of their own or have lists, sorted."""
        return known_datasets(self.path)


@dataclass(frozen=True)
class StoredDataset:
    """A data set below a data root, as it was when its files were first read.

    Nothing is read before it is asked for, and nothing is read twice: a command opens a data set once, and another
    object has to be made to see what has changed since. What failed to be read is read again. Only the folder and the
    name are sent to another process, which reads the files there.
    """

    data_root: Path
    name: str
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredDataset, (self.data_root, self.name)

    @cached_property
    def card(self) -> DatasetCard:
        """Return the data set's card: title, counts, where its videos lie. Raises SplitError or ConfigError."""
        return card_of(self.data_root, self.name)

    @property
    def images_root(self) -> Path:
        """The folder of its frames, which several splits of the same videos share. Raises as `card`."""
        return Path(self.data_root) / "images" / (self.card.frames_of or self.name)

    @property
    def lists(self) -> Path:
        """The folder of its lists."""
        return Path(self.data_root) / "splits" / self.name

    @property
    def effective_file(self) -> Path:
        """The file that `hcl data check` writes."""
        return self.lists / "effective.json"

    @cached_property
    def records(self) -> dict[str, VideoRecord]:
        """The manifest, by `class/video`. Raises StorageError where it is damaged."""
        from hcl.datasets.manifest import read_manifest

        return read_manifest(self.images_root)

    @cached_property
    def frames(self) -> FrameStore:
        """Its frames. Raises StorageError or DataError for a damaged manifest or shard."""
        from hcl.frames.store import FrameStore

        return FrameStore(self.images_root, records=self.records)

    @cached_property
    def split(self) -> Split:
        """The train, val and test partitions as listed.

        Raises:
            SplitError: as `partition`, or a class stands in two partitions.
        """
        return split_of(self.name, {name: self._listed(name) for name in PARTITIONS}, where=str(self.lists))

    def partition(self, name: str) -> Partition:
        """Return one partition as listed. Raises SplitError as `hcl.datasets.splits.read_lists`."""
        return self._listed(name).partition

    def check_lists(self) -> None:
        """Raise SplitError for lists that cannot be read or do not go together, as `split` does."""
        _ = self.split

    def left_out(self, name: str, *, keep_copies: bool = False) -> dict[Video, str]:
        """Return the videos of a partition that nothing uses, with the reason, in the partition's order.

        Raises:
            DataError: the lists have changed since the check, or the file that it wrote is damaged.
        """
        listed, accepted = self.partition(name), self._accepted_of(name)
        if accepted is None:
            failed = {key: record for key, record in self.records.items() if record.status in ("broken", "timeout")}
            reasons = {video: failed[video.key].error or "" for video in listed.videos if video.key in failed}
        else:
            reasons = {video: accepted.left_out[video.key] for video in listed.videos if video.key in accepted.left_out}
        if not keep_copies:
            reasons = {**self.copies(name), **reasons}
        return {video: reasons[video] for video in listed.videos if video in reasons}

    def copies(self, name: str) -> dict[Video, str]:
        """Return the videos of a partition that are copies, and of what, as the check has found them or as they are.

        Raises:
            DataError: as `left_out`.
        """
        return self._once(("copies", name), lambda: self._copies(name))

    def effective(self, name: str, *, keep_copies: bool = False) -> Partition:
        """Return a partition without what is left out; every video of it has frames.

        Args:
            keep_copies: use videos that are copies of others, in this partition or another.

        Raises:
            DataError: other videos have no frames, a class has lost all of its videos, or as `left_out`.
        """
        return self._once(("effective", name, keep_copies), lambda: self._effective(name, keep_copies))

    def frames_identity(self, partition: Partition) -> str:
        """Return what names the frames of a partition's videos; see `FrameStore.digest`. Raises as that."""
        return self._once(("identity", partition.digest()), lambda: self.frames.digest(partition))

    def _listed(self, name: str) -> Listed:
        """Return a partition with the notes on its lists."""
        return self._once(("listed", name), lambda: read_lists(self.data_root, self.name, name, self._known))

    @cached_property
    def _known(self) -> Known:
        return Known(Path(self.data_root), self.card, self.images_root, lambda: self.records)

    @cached_property
    def _accepted(self) -> dict[str, Accepted]:
        return read_effective(self.effective_file, self.name)

    def _accepted_of(self, name: str) -> Accepted | None:
        """Return what the last check has accepted of a partition. Raises as `left_out`."""
        accepted = self._accepted.get(name)
        if accepted is not None and accepted.listed_digest != self.partition(name).digest():
            raise DataError(
                f"the lists of {self.name} {name} have changed since they were checked",
                where=str(self.effective_file),
                remedy=f"repeat `hcl data check {shlex.quote(self.name)}`",
            )
        return accepted

    def _copies(self, name: str) -> dict[Video, str]:
        listed, accepted = self.partition(name), self._accepted_of(name)
        if accepted is not None and accepted.copies is not None:
            return {video: accepted.copies[video.key] for video in listed.videos if video.key in accepted.copies}
        rank = PRECEDENCE.index(name) if name in PRECEDENCE else 0
        before = [one for one in PRECEDENCE[:rank] if (self.lists / f"{one}.list").exists()]
        contents = {one: self.frames.digests(self.partition(one).videos) for one in (name, *before)}
        return {video: str(original) for video, original in find_copies(contents)[name].items()}

    def _effective(self, name: str, keep_copies: bool) -> Partition:
        listed = self.partition(name)
        partition = without(listed, self.left_out(name, keep_copies=keep_copies))
        if missing := self.frames.missing(partition):
            raise DataError(
                f"{len(missing)} of {len(listed.videos)} videos of {self.name} {name} have no frames: "
                f"{some([video.key for video in missing], 3)}",
                where=str(self.images_root),
                remedy=f"run `hcl extract {shlex.quote(self.name)}`; "
                + ("the check has accepted them, so repeat" if self._accepted else "to go on without them, run")
                + f" `hcl data check {shlex.quote(self.name)}`",
            )
        return partition

    def _once(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under this key, made now if it was not made before."""
        if what not in self._made:
            self._made[what] = make()
        return self._made[what]

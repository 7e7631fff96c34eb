"""Test making the Meta-World benchmark: resumed, by several actors, with failures, and with the real simulator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from hcl.datasets.class_names import read_names
from hcl.errors import ConfigError, DataError, StorageError
from hcl.frames.stored_dataset import StoredDataset
from hcl.synthetic.metaworld.encoding import draw_container
from hcl.synthetic.metaworld.facts import VideoFacts
from hcl.synthetic.metaworld.files import read_facts
from hcl.synthetic.metaworld.requirements import check_requirements
from hcl.synthetic.metaworld.rollout import generator
from orchestration.cli import main
from orchestration.generation import metaworld
from orchestration.generation.metaworld import MetaworldSummary, make_metaworld
from orchestration.generation.video_maker import Batch, VideoMaker
from orchestration.storage.locks import lock_of
from tests.orchestration.inline import without_ray

pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")  # of Meta-World's policies

TWO = ("door_open", "push")


class StandIn:
    """Draw frames in place of a simulator. Videos after `breaks_at` raise, and the number `hopeless` has no video."""

    n_open = 0

    def __init__(self, action: str, *, breaks_at: int = 1000, hopeless: int = -1):
        self.action, self.breaks_at, self.hopeless = action, breaks_at, hopeless
        StandIn.n_open += 1

    def video(self, seed: int, number: int) -> tuple[VideoFacts, np.ndarray | None]:
        if number >= self.breaks_at:
            raise DataError("the stand-in breaks", where=f"{self.action} {number}")
        if number == self.hopeless:
            return VideoFacts(self.action, number, rejected=["no success"] * 12), None
        rng = generator(seed, self.action, number, 0)
        frames = np.repeat(rng.integers(0, 256, (6, 6, 8, 3), dtype=np.uint8), 4, 1).repeat(4, 2)
        return VideoFacts(self.action, number, draw_container(rng), len(frames)), frames

    def close(self) -> None:
        StandIn.n_open -= 1


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MetaworldSummary]:
    """Make the benchmark of two classes with stand-ins, in this process."""
    without_ray(monkeypatch, metaworld)
    options: dict[str, Any] = {"actions": TWO, "videos_per_class": 3, "seed": 5, "make_studio": StandIn}
    return lambda **changes: make_metaworld(changes.pop("root", tmp_path), **options | changes)


def videos_in(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in (root / "videos").rglob("*") if path.is_file()]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_videos_lists_and_names_are_what_other_commands_read(tmp_path: Path, make: Any) -> None:
    made = make()
    assert (made.n_classes, made.n_videos, made.n_written, made.failed) == (2, 6, 6, ())
    assert (tmp_path / "splits" / "metaworld" / "train_class.txt").read_text() == "push\n"
    assert (tmp_path / "splits" / "metaworld" / "test.list").read_text().splitlines() == [
        f"door_open/door_open_000{n}" for n in range(3)
    ]
    stored = StoredDataset(tmp_path, "metaworld")
    assert stored.card.title == "Meta-World"
    assert read_names(stored.card.names_file(tmp_path), ["door_open"]) == {"door_open": "opening a door"}
    known = read_facts(tmp_path / "splits" / "metaworld" / "videos.jsonl")
    assert sorted(f"{name}{facts.suffix}" for name, facts in known.items()) == sorted(videos_in(tmp_path))


def test_a_repeated_call_makes_nothing_and_a_larger_one_what_is_missing(tmp_path: Path, make: Any) -> None:
    make()
    before = videos_in(tmp_path)
    assert make().n_written == 0 and videos_in(tmp_path) == before
    more = make(videos_per_class=8)  # more than a batch
    assert (more.n_written, more.n_videos) == (10, 16)
    assert before.items() <= videos_in(tmp_path).items()
    assert make(videos_per_class=1, actions=["soccer"]).n_classes == 3, "the lists hold all that is there"
    lines = (tmp_path / "splits" / "metaworld" / "train.list").read_text().splitlines()
    assert len(lines) == 9 and "soccer/soccer_0000" in lines


def test_a_removed_video_is_made_again_with_the_same_frames(tmp_path: Path, make: Any) -> None:
    made = make()
    before = videos_in(tmp_path)
    (path,) = (made.videos / "push").glob("push_0001.*")
    path.unlink()
    assert make().n_written == 1
    assert {name: data for name, (data, _) in videos_in(tmp_path).items()} == {n: d for n, (d, _) in before.items()}


def test_an_interrupted_call_resumes(tmp_path: Path, make: Any) -> None:
    with pytest.raises(DataError, match="door_open 7: the stand-in breaks"):
        make(videos_per_class=9, make_studio=partial(StandIn, breaks_at=7))
    splits = tmp_path / "splits" / "metaworld"
    assert len(read_facts(splits / "videos.jsonl")) == 6 and not list(splits.glob("*.list"))
    (tmp_path / "videos" / "metaworld" / "door_open" / ".x.partial").write_bytes(b"half")
    assert make(videos_per_class=9).n_written == 12
    assert len(videos_in(tmp_path)) == 18, "the unfinished file has gone"


def test_a_video_that_no_attempt_gives_is_reported_and_not_listed(tmp_path: Path, make: Any) -> None:
    for n_written in (4, 0):  # it is not tried again, since the draws would be the same
        made = make(make_studio=partial(StandIn, hopeless=1))
        assert (made.n_written, made.n_videos) == (n_written, 4)
        assert [facts.name for facts in made.failed] == ["door_open_0001", "push_0001"]
    assert (tmp_path / "splits" / "metaworld" / "test.list").read_text().split() == [
        "door_open/door_open_0000",
        "door_open/door_open_0002",
    ]


def test_another_seed_and_foreign_videos_are_refused(tmp_path: Path, make: Any) -> None:
    make()
    before = videos_in(tmp_path)
    with pytest.raises(DataError, match=r'made with \{"revision": 1, "seed": 5\}; requested: .*"seed": 6'):
        make(seed=6)
    assert videos_in(tmp_path) == before
    assert make(seed=6, overwrite=True).n_written == 6
    assert {d for d, _ in videos_in(tmp_path).values()}.isdisjoint(d for d, _ in before.values())
    foreign = tmp_path / "other" / "videos" / "metaworld" / "mine.mp4"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"precious")
    with pytest.raises(DataError, match="made with another program"):
        make(root=tmp_path / "other")
    assert foreign.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"actions": ["door_opn"]}, "actions"),
        ({"actions": []}, "actions"),
        ({"actions": ["push", "push"]}, "actions"),
        ({"videos_per_class": 0}, "videos_per_class"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(
    tmp_path: Path, make: Any, changes: dict[str, Any], where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert caught.value.where == where and not list(tmp_path.iterdir())


def test_one_call_at_a_time_works_on_the_videos(tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(metaworld, "discard_partials", lambda videos: seen.append(lock_of(videos).read_text()))
    make()
    assert len(seen) == 1 and not lock_of(tmp_path / "videos" / "metaworld").exists()


def test_a_data_root_that_cannot_be_written_is_named(tmp_path: Path, make: Any) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file is in the way")
    with pytest.raises(StorageError, match="taken"):
        make(root=taken)


def test_missing_requirements_end_the_command_before_ray_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise ConfigError("not installed", where="hcl data metaworld", remedy="install it")

    monkeypatch.setattr(metaworld, "check_requirements", missing)
    monkeypatch.setattr(metaworld, "connect", lambda *_: pytest.fail("Ray was started"))
    monkeypatch.setattr("sys.argv", ["hcl", "data", "metaworld", "--data", str(tmp_path), "--class", "push"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and "install it" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_actor_keeps_one_studio_open(tmp_path: Path) -> None:
    StandIn.n_open = 0
    maker = VideoMaker(tmp_path, 5, StandIn)
    for action in ("push", "push", "soccer"):
        assert len(maker.make(Batch(action, (0, 1)))) == 2
        assert StandIn.n_open == 1


@pytest.mark.ray
def test_the_number_of_actors_changes_nothing(tmp_path: Path, local_ray: ModuleType) -> None:
    options: dict[str, Any] = {"actions": TWO, "videos_per_class": 8, "seed": 5, "make_studio": StandIn}
    alone = make_metaworld(tmp_path / "alone", actors=1, **options)
    together = make_metaworld(tmp_path / "together", actors=3, **options)
    assert alone.n_written == together.n_written == 16
    assert contents_of(alone) == contents_of(together)


def contents_of(made: MetaworldSummary) -> dict[str, bytes]:
    files = [path for folder in (made.videos, made.splits) for path in folder.rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files}


def reason_to_skip() -> str:
    try:
        check_requirements()
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip())
def test_meta_world_is_filmed_the_same_by_one_and_two_actors(tmp_path: Path, local_ray: ModuleType) -> None:
    options: dict[str, Any] = {"actions": TWO, "videos_per_class": 2}
    two = make_metaworld(tmp_path / "two", actors=2, **options)
    assert (two.n_written, two.n_classes, two.failed) == (4, 2, ())
    make_metaworld(tmp_path / "one", actors=1, **(options | {"videos_per_class": 1}))
    one = make_metaworld(tmp_path / "one", actors=1, **options)  # the second videos without the first ones before them
    assert one.n_written == 2 and contents_of(one) == contents_of(two)
    for facts in read_facts(two.splits / "videos.jsonl").values():
        reader, frames = cv2.VideoCapture(str(two.videos / facts.action / f"{facts.name}{facts.suffix}")), []
        while (read := reader.read())[0]:
            frames.append(cv2.blur(read[1], (5, 5)).astype(float))
        assert np.shape(frames) == (facts.n_frames, 120, 160, 3)
        assert (np.abs(frames[-1] - frames[0]).max(-1) > 30).mean() > 0.01, "the arm moves"

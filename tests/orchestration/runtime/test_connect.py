"""Test connecting to Ray, and actors that fail in every way while items stream through them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator, Iterator
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray

from hcl.errors import ClusterError, VideoError
from orchestration.runtime import actors
from orchestration.runtime.actors import BARRIER, ItemCrash, ItemTimeout, map_actors
from orchestration.runtime.connect import connect, n_workers_available
from orchestration.runtime.progress import progress

pytestmark = pytest.mark.ray


class Worker:
    """Square numbers, and follow the instructions in text items."""

    def work(self, item: int | str) -> Any:
        if item == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "hang":
            while True:  # holds the interpreter's lock, as a decoder does
                pass
        if item == "raise":
            raise VideoError("cannot be decoded", where="v.mp4", remedy="another file")
        if isinstance(item, str):  # the path of a file that says whether this is the first try
            if not os.path.exists(item):
                Path(item).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return os.path.basename(item)
        return os.getpid() if item < 0 else item * item


class Stillborn:
    def __init__(self) -> None:
        raise RuntimeError("no model to load")


def run(items: Any, n_actors: Any = 2, **options: Any) -> Generator[tuple[Any, Any], None, None]:
    make_actor = ray.remote(Worker).options(num_cpus=1).remote
    return map_actors(make_actor, items, lambda actor, item: actor.work.remote(item), n_actors=n_actors, **options)


def test_what_stands_behind_a_barrier_waits_for_all_before_it(local_ray: ModuleType, tmp_path: Path) -> None:
    """This also holds for an item whose actor died, and on the same actors."""
    began = []

    def call(actor: Any, item: Any) -> Any:
        began.append((item, n_done[0]))
        return actor.work.remote(item)

    n_done = [0]
    items = [BARRIER, 1, str(tmp_path / "dies once"), 3, 4, BARRIER, BARRIER, 5, 6, BARRIER]
    for _ in map_actors(ray.remote(Worker).options(num_cpus=1).remote, items, call, n_actors=2):
        n_done[0] += 1
    assert n_done == [6]
    assert {item: done for item, done in began if item in (5, 6)}[5] == 4
    assert all(done >= 4 for item, done in began if item in (5, 6))


@pytest.mark.parametrize(("n_actors", "window"), [(1, 1), (2, 2), (3, 5)])
def test_every_item_once_whatever_the_number_of_actors(local_ray: ModuleType, n_actors: int, window: int) -> None:
    results = list(run(range(23), n_actors, window=window))
    assert sorted(results) == [(item, item * item) for item in range(23)]


def test_no_items(local_ray: ModuleType) -> None:
    assert list(run([])) == []


def test_equal_items_are_items_of_their_own(local_ray: ModuleType) -> None:
    assert list(run([3, 3, 3])) == [(3, 9)] * 3


def test_work_is_shared_among_the_actors(local_ray: ModuleType) -> None:
    pids: set[int] = set()
    deadline = time.monotonic() + 60
    for _, pid in run(repeat(-1), 2):
        pids.add(pid)
        if len(pids) == 2 or time.monotonic() > deadline:
            break
    assert len(pids) == 2


def test_room_that_comes_later_is_used(local_ray: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens when a node joins: one actor fits first, then two more."""
    monkeypatch.setattr(actors, "_ROOM_S", 0.1)
    pids: list[int] = []
    deadline = time.monotonic() + 240  # a loaded machine starts an actor in a minute

    def room() -> int:
        n_that_fit = 1 if len(pids) < 5 else 3
        return n_that_fit - len(set(pids))

    for _, pid in run(repeat(-1), n_actors=room):
        pids.append(pid)
        time.sleep(0.01)
        if len(set(pids)) == 3 or time.monotonic() > deadline:
            break
    assert len(set(pids[:5])) == 1 and len(set(pids)) == 3


def test_items_are_pulled_only_as_room_comes(local_ray: ModuleType) -> None:
    pulled = []

    def stream() -> Iterator[int]:
        for item in range(1000):
            pulled.append(item)
            yield item

    results = run(stream(), 2, window=2)
    for _ in range(3):
        next(results)
    results.close()
    assert len(pulled) <= 3 + 2 * 2 + 2 * 2 + 2  # yielded, under way, finished but not yet yielded, looked ahead


def test_an_exception_of_a_call_is_a_result_with_its_fields(local_ray: ModuleType) -> None:
    results = dict(run([1, "raise", 2]))
    assert isinstance(results["raise"], VideoError)
    assert (results["raise"].where, results["raise"].remedy) == ("v.mp4", "another file")
    assert (results[1], results[2]) == (1, 4)


def test_killed_actors_cost_nothing(local_ray: ModuleType, tmp_path: Path) -> None:
    items: list[int | str] = list(range(20))
    items[3:3], items[11:11] = [str(tmp_path / "first")], [str(tmp_path / "second")]
    results = dict(run(items, 2))
    assert results.pop(str(tmp_path / "first")) == "first"
    assert results.pop(str(tmp_path / "second")) == "second"
    assert results == {item: item * item for item in range(20)}


def test_an_item_that_kills_every_actor_is_given_up(local_ray: ModuleType) -> None:
    results = dict(run([0, 1, "die", 2, 3, 4, 5], 2))
    crash = results.pop("die")
    assert isinstance(crash, ItemCrash)
    assert "died 2 times" in crash.problem
    assert results == {item: item * item for item in range(6)}


def test_a_time_limit_ends_a_hanging_item_only(local_ray: ModuleType) -> None:
    results = dict(run([0, "hang", 1, 2, 3], 1, timeout_s=1.5))
    assert isinstance(results.pop("hang"), ItemTimeout)
    assert results == {item: item * item for item in range(4)}


def test_actors_that_cannot_be_constructed_end_it_with_their_reason(local_ray: ModuleType) -> None:
    results = map_actors(
        ray.remote(Stillborn).remote, range(3), lambda actor, item: actor.work.remote(item), n_actors=2
    )
    with pytest.raises(ClusterError, match=r"could not be started(?s:.*)no model to load"):
        list(results)


def test_actors_that_die_as_they_start_do_not_end_what_others_do(local_ray: ModuleType) -> None:
    """This happens on a node that dies with all actors that have started there."""
    makers = [ray.remote(Worker).options(num_cpus=1).remote] + 5 * [ray.remote(Stillborn).remote]

    def make() -> Any:
        return (makers.pop(0) if len(makers) > 1 else makers[0])()

    items: list[int] = []
    for item, result in map_actors(make, range(300), lambda actor, item: actor.work.remote(item), n_actors=3):
        assert result == item * item
        items.append(item)
        time.sleep(0.02)
    assert sorted(items) == list(range(300)) and len(makers) == 1


def test_actors_that_find_no_room_end_it_with_what_there_is(local_ray: ModuleType) -> None:
    make_actor = ray.remote(Worker).options(num_cpus=99).remote
    results = map_actors(make_actor, [1], lambda actor, item: actor.work.remote(item), n_actors=1, start_timeout_s=1.0)
    with pytest.raises(ClusterError, match=r"within 1 s; the cluster has .*CPU"):
        list(results)


def test_more_actors_than_room_still_finish(local_ray: ModuleType) -> None:
    assert len(list(run(range(30), 9))) == 30


def test_actors_end_with_the_stream(local_ray: ModuleType) -> None:
    results = run([-1] * 50, 1)
    _, pid = next(results)
    os.kill(pid, 0)
    results.close()
    deadline = time.monotonic() + 20
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def test_actors_of_a_stream_that_an_error_left_open_end_with_the_connection(
    local_ray: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error keeps the stream alive; once Ray has ended, ending actors must not start a new Ray."""
    kept, pids = [], []
    before = run([-1] * 50, 1)
    next(before)

    def fails() -> None:
        with connect():
            results = run([-1] * 50, 1)
            kept.append(results)
            pids.append(next(results)[1])
            raise VideoError("cannot be decoded")

    with pytest.raises(VideoError):
        fails()
    deadline = time.monotonic() + 20
    while _is_running(pids[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pids[0])
    assert _is_running(next(before)[1])  # of a stream that was there before
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "kill", lambda *_, **__: pytest.fail("Ray would be started again"))
    kept[0].close()
    pool = actors._open_pools[-1]
    pool.slots[0].kill()
    monkeypatch.undo()
    before.close()


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_connect_uses_and_leaves_a_running_ray(local_ray: ModuleType) -> None:
    with connect("nowhere:1"):
        assert n_workers_available("decode") >= 1
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense", "nonsense: is not an address"),
        ("host:port", "host:port: is not an address"),
        ("127.0.0.1:1", "127.0.0.1:1: nothing answers there"),
        ("ray://127.0.0.1:1", "nothing answers there"),
        ("127.0.0.1:99999", "nothing answers there"),
        ("no-such-host.invalid:6379", "nothing answers there"),
    ],
)
def test_wrong_addresses_end_at_once(monkeypatch: pytest.MonkeyPatch, address: str, message: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("would wait for minutes"))
    with pytest.raises(ClusterError, match=message) as caught, connect(address):
        pass
    assert caught.value.remedy


@pytest.mark.slow
def test_something_that_is_not_ray_ends_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("would wait for minutes"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match="no Ray answered within 4 s"), connect(address, timeout_s=4):
            pass


def test_a_ray_that_does_not_start_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="local Ray: Ray cannot be started: no space left") as caught, connect():
        pass
    assert "/dev/shm" in str(caught.value.remedy)


@pytest.mark.slow
@pytest.mark.long
def test_a_local_ray_of_its_own_ends_with_the_block(tmp_path: Path) -> None:
    script = """
        import os, ray
        from orchestration.runtime.connect import connect
        with connect(num_cpus=3, resources={"extra": 2}):
            have = ray.cluster_resources()
            print(have["CPU"], have["trial_driver"] > 1, have["extra"], os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"])
        print(ray.is_initialized())
    """
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(0o644)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["3.0", "True", "2.0", "0.2", "False"], done.stderr
    assert token.stat().st_mode & 0o777 == 0o600


def test_progress_off_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3, "extract toy", "videos") as advance:
        advance()
        advance(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("extract toy: 3 of 3 videos, ")
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err

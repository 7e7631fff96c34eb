"""Test Ray's metrics as Prometheus reads them, and names in Ray's state."""

from __future__ import annotations

import time
import urllib.request
from types import ModuleType

import pytest
import ray
from ray.util.state import list_actors

from orchestration.runtime import meters
from orchestration.runtime.actors import map_actors
from orchestration.runtime.connect import actor_of
from orchestration.runtime.progress import progress


class Squarer:
    def work(self, number: int) -> int:
        return number**2


def test_without_ray_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(meters, "_counter", lambda *_: pytest.fail("a counter was made"))
    meters.items("extract toy", "videos", 3)
    meters.trial_ended("study", "complete")
    meters.epoch_ended("run", {"clips_per_second": 3.0})


def test_names_beyond_ascii_stay_apart_in_tags() -> None:
    """Ray raises for such names; test_extract extracts a data set with such a name with Ray."""
    tags = [meters._tags(phase=f"extract {name}")["phase"] for name in ("küche 1", "köche 1", "my kitchen")]
    assert len(set(tags)) == 3 and all(tag.isascii() for tag in tags) and tags[2] == "extract my kitchen"


@pytest.mark.ray
@pytest.mark.long
def test_work_is_counted_and_actors_are_named(local_ray: ModuleType) -> None:
    make = actor_of(Squarer, "decode", "square toy")
    with progress(20, "square toy", "numbers") as advance:
        for _ in map_actors(make, range(20), lambda actor, item: actor.work.remote(item), n_actors=1):
            advance()
    names = [
        actor.name
        for actor in list_actors(address=ray.get_runtime_context().gcs_address, limit=1000)
        if actor.class_name.endswith("Squarer")
    ]
    assert len(names) == 1 and names[0].startswith("square toy ") and names[0].endswith("-1")
    deadline, text = time.monotonic() + 60, ""
    while 'phase="square toy"' not in text and time.monotonic() < deadline:
        time.sleep(1)
        node = ray.nodes()[0]
        with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as page:
            text = page.read().decode()
    (line,) = [line for line in text.splitlines() if line.startswith("ray_hcl_items") and "square toy" in line]
    assert 'unit="numbers"' in line and float(line.split()[-1]) == 20

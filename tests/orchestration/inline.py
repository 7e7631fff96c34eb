"""Run Ray's actors as objects of this process, for tests of results rather than of distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from orchestration.runtime.actors import BARRIER


class Inline:
    """Call a method in this process for `actor.method.remote(...)`, and return its result."""

    def __init__(self, actor: Any):
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


def actor_of(kind: type, role: str, title: str, *, use_gpu: bool = False) -> Callable[..., Any]:
    return lambda *arguments: Inline(kind(*arguments))


def map_actors(
    make: Callable[[], Any], items: Iterable[Any], call: Callable[[Any, Any], Any], **_: Any
) -> Iterator[tuple[Any, Any]]:
    actor = make()
    for item in items:
        if item is not BARRIER:
            yield item, call(actor, item)


@contextmanager
def connect(*_: Any, **__: Any) -> Iterator[None]:
    yield


def without_ray(patched: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Make modules use the stand-ins of this one."""
    stand_ins: dict[str, Any] = {
        "actor_of": actor_of,
        "map_actors": map_actors,
        "connect": connect,
        "n_workers_available": lambda *_, **__: 1,
        "device_of_actor": lambda: "cpu",
        "ray": SimpleNamespace(put=lambda value: value),
    }
    for module in modules:
        for name, value in stand_ins.items():
            patched.setattr(module, name, value, raising=False)

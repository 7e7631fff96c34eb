"""Define the interface of trials, and trials without Optuna: drawn at random, or near another trial's values."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Trial(Protocol):
    """Define the part of `optuna.Trial` that a space uses."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class RandomTrial:
    """Draw values independently and uniformly (log-uniformly with `log`) as a function of the seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        elif step is not None:
            drawn = low + step * self._random.randint(0, round((high - low) / step))
        else:
            drawn = self._random.uniform(low, high)
        return min(max(drawn, low), high)  # rounding may exceed the bounds by one digit

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            drawn = round(math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            return min(max(drawn, low), high)
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)


_MOVE = 0.1
_ANEW = 0.25


class NearTrial(RandomTrial):
    """Perturb another trial's values: draw a quarter of them anew, and move other numbers by a tenth of their range.

    The range of a `log` parameter is that of its logarithm; a choice stays unless it is drawn anew. Values that the
    other trial did not have are drawn.

    Args:
        near: the other trial's encoded values by path.
    """

    def __init__(self, near: Mapping[str, Any], seed: int):
        super().__init__(seed)
        self._near = near

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if self._is_drawn(name):
            return super().suggest_float(name, low, high, step=step, log=log)
        moved = self._moved(self._near[name], low, high, log)
        if step is not None:
            moved = low + step * round((moved - low) / step)
        return min(max(moved, low), high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if self._is_drawn(name):
            return super().suggest_int(name, low, high, step=step, log=log)
        moved = self._moved(self._near[name], low, high, log)
        return min(max(low + step * round((moved - low) / step), low), high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return super().suggest_categorical(name, choices) if self._is_drawn(name) else self._near[name]

    def _is_drawn(self, name: str) -> bool:
        return name not in self._near or self._random.random() < _ANEW

    def _moved(self, value: float, low: float, high: float, log: bool) -> float:
        share = self._random.choice((-_MOVE, _MOVE))
        return value * (high / low) ** share if log else value + share * (high - low)

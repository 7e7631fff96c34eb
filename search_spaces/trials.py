"""What a space asks of a trial, and a trial that draws at random without Optuna."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, Protocol


class Trial(Protocol):
    """The part of `optuna.Trial` that a space uses."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


class RandomTrial:
    """Independent uniform draws (log-uniform where asked for): a function of the seed."""

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
        return min(max(drawn, low), high)  # rounding may leave the bounds by one digit

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            drawn = round(math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5))))
            return min(max(drawn, low), high)
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)

"""Map values to places on an axis, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MOST_CATEGORIES = 12


@dataclass(frozen=True)
class Scale:
    """Describe an axis from `low` to `high`.

    Attributes:
        is_log: whether places follow the logarithm.
        names: names of an axis of categories; its values are their positions from 0.
        ticks_at: values of the ticks; empty: round numbers.
    """

    low: float
    high: float
    is_log: bool = False
    names: tuple[str, ...] = ()
    ticks_at: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        """Return the place of a value, from 0 to 1."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        return ((math.log(value) if self.is_log else value) - low) / (high - low)

    def ticks(self, n: int = 5) -> list[tuple[float, str]]:
        """Return about `n` values with their labels."""
        if self.names:
            return [(float(index), name) for index, name in enumerate(self.names)]
        if self.ticks_at:
            return [(value, spelled(value)) for value in self.ticks_at]
        values = _powers(self.low, self.high) if self.is_log else _round(self.low, self.high, n)
        return [(value, spelled(value)) for value in values]


def linear(values: Iterable[float], *, pad: float = 0.06, floor: float = -math.inf, ceiling: float = math.inf) -> Scale:
    """Return an axis that contains all values with a margin, but does not pass `floor` and `ceiling` for it."""
    low, high = _bounds(values)
    air = (high - low) * pad or abs(high) * 0.1 or 0.5
    return Scale(max(low - air, min(floor, low)), min(high + air, max(ceiling, high)))


def whole(values: Iterable[float]) -> Scale:
    """Return an axis of whole numbers, such as epochs and shots, with ticks only at whole numbers."""
    low, high = _bounds(values)
    air = max(0.4, (high - low) * 0.04)
    step = max(1, round(_step((high - low) / 6)))
    ticks = [value for value in range(math.ceil(low), math.floor(high) + 1) if value % step == 0 or step == 1]
    return Scale(low - air, high + air, ticks_at=tuple(map(float, ticks)) or (low,))


def categories(names: Sequence[str]) -> Scale:
    return Scale(-0.5, max(len(names), 1) - 0.5, names=tuple(names))


def fitting(values: Sequence[Any], *, is_log: bool | None = None) -> tuple[Scale, list[float]]:
    """Return an axis that suits a parameter's values, and the values on it.

    Everything that is no number is a category by its text; beyond `MOST_CATEGORIES` the rest forms one, "others".

    Args:
        is_log: whether numbers were searched by their logarithm; None if unknown: then they are drawn so if they are
            positive and span a factor of fifty.
    """
    if all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) for value in values
    ):
        low, high = _bounds(values)
        if low > 0 and (high / low >= 50 if is_log is None else is_log and high > low):
            return Scale(low / 1.2, high * 1.2, is_log=True), [float(value) for value in values]
        return linear(values), [float(value) for value in values]
    texts = [str(value) for value in values]
    names = sorted(set(texts))
    if len(names) > MOST_CATEGORIES:
        names = [*names[: MOST_CATEGORIES - 1], "others"]
    place = {name: float(index) for index, name in enumerate(names)}
    return categories(names), [place.get(text, len(names) - 1.0) for text in texts]


def spelled(value: float) -> str:
    """Return a tick's number as short text: thousands by commas, powers for tiny or huge numbers."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"


def _bounds(values: Iterable[float]) -> tuple[float, float]:
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _step(rough: float) -> float:
    """Return the smallest of 1, 2, 5, 10 times a power of ten that is no smaller than `rough`."""
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def _round(low: float, high: float, n: int) -> list[float]:
    step = _step((high - low) / n)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return powers of ten, and three times them if there are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(exponents) > 4 else (1, 3)
    powers = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    inside = [value for value in powers if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return inside[:: max(1, math.ceil(len(inside) / 6))]

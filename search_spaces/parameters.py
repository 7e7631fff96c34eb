"""Define the kinds of parameters: a range of floats, a range of ints, a choice, a grid, a fixed value.

Every kind can be suggested by a trial, checks values, and knows its extremes. A value has two forms: the experiment's,
and the encoded form that an Optuna trial stores. They differ only for lists, because Optuna's categories are scalars: a
list is encoded as its JSON text.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

from search_spaces.errors import short
from search_spaces.trials import Trial

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Whole = Annotated[int, Strict(), Field(ge=-(2**53), le=2**53)]
Flag = Annotated[bool, Strict()]
Path = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")]


class Part(BaseModel):
    """Define a part of a space file: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Conditional(Part):
    when: dict[Path, Any] = Field({}, description="values of other parameters under which this one is searched")


class FloatRange(Conditional):
    type: Literal["float"]
    low: Number
    high: Number
    log: Flag = False
    step: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.log, self.step)
        return self

    def suggest(self, trial: Trial, path: str) -> float:
        return trial.suggest_float(path, self.low, self.high, step=self.step, log=self.log)

    def problem_with(self, value: Any) -> str | None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return f"{short(value)} is not a number"
        return _problem_in_range(value, self.low, self.high, self.step)

    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    def all_values(self) -> Iterable[Any] | None:
        """Yield the values of a grid lazily; return None if they cannot be counted."""
        if self.step is None:
            return None
        low, high, step = self.low, self.high, self.step
        return (min(low + index * step, high) for index in range(_n_steps(low, high, step)))

    def encode(self, value: Any) -> float:
        return float(value)

    def decode(self, encoded: Any) -> Any:
        return encoded


class IntRange(Conditional):
    type: Literal["int"]
    low: Whole
    high: Whole
    step: Annotated[Whole, Field(ge=1)] = 1
    log: Flag = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        _check_range(self.low, self.high, self.log, None if self.step == 1 else self.step)
        return self

    def suggest(self, trial: Trial, path: str) -> int:
        return trial.suggest_int(path, self.low, self.high, step=self.step, log=self.log)

    def problem_with(self, value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{short(value)} is not a whole number"
        return _problem_in_range(value, self.low, self.high, self.step)

    def extremes(self) -> list[Any]:
        return [self.low, self.high]

    def all_values(self) -> Iterable[Any] | None:
        return range(self.low, self.high + 1, self.step)

    def encode(self, value: Any) -> int:
        return int(value)

    def decode(self, encoded: Any) -> Any:
        return encoded


class Choice(Conditional):
    """Choose one of several values; a study takes those of a `grid` in turn, independent of its sampler."""

    type: Literal["choice", "grid"]
    values: tuple[Any, ...] = Field(min_length=2)

    @field_validator("values")
    @classmethod
    def _are_plain_and_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in values:
            _check_plain(value)
        labels = [_label(value) for value in values]
        # Optuna compares categories with ==, by which 1 equals True.
        twice = [label for index, label in enumerate(labels) if label in labels[:index]]
        if twice:
            raise ValueError(f"{twice[0]!r} is in values twice")
        return values

    def suggest(self, trial: Trial, path: str) -> Any:
        return trial.suggest_categorical(path, [_label(value) for value in self.values])

    def problem_with(self, value: Any) -> str | None:
        if any(same(value, known) for known in self.values):
            return None
        return f"{short(value)} is none of {', '.join(repr(known) for known in self.values)}"

    def extremes(self) -> list[Any]:
        return [copy.deepcopy(value) for value in self.values]

    def all_values(self) -> Iterable[Any] | None:
        return self.extremes()

    def encode(self, value: Any) -> Any:
        return _label(value)

    def decode(self, encoded: Any) -> Any:
        for value in self.values:
            if same(_label(value), encoded):
                return copy.deepcopy(value)
        raise ValueError(f"{encoded!r} is none of {', '.join(repr(_label(value)) for value in self.values)}")


class Fixed(Conditional):
    type: Literal["fixed"]
    value: Any

    @field_validator("value")
    @classmethod
    def _is_plain(cls, value: Any) -> Any:
        _check_plain(value)
        return value

    def suggest(self, trial: Trial, path: str) -> Any:
        return self.value

    def problem_with(self, value: Any) -> str | None:
        return None if same(value, self.value) else f"{short(value)} is not the fixed value {self.value!r}"

    def extremes(self) -> list[Any]:
        return [copy.deepcopy(self.value)]

    def all_values(self) -> Iterable[Any] | None:
        return self.extremes()

    def encode(self, value: Any) -> Any:
        return value

    def decode(self, encoded: Any) -> Any:
        return copy.deepcopy(self.value)


KINDS: dict[str, type[Conditional]] = {
    "float": FloatRange,
    "int": IntRange,
    "choice": Choice,
    "grid": Choice,
    "fixed": Fixed,
}
Parameter = Annotated[FloatRange | IntRange | Choice | Fixed, Field(discriminator="type")]


def goes_in_turn(parameter: Conditional) -> bool:
    """Return true if a study takes the parameter's values in turn."""
    return isinstance(parameter, Choice) and parameter.type == "grid"


def same(a: Any, b: Any) -> bool:
    """Return true for equal values, where True and 1 count as different."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _label(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, tuple)) else value


def _check_plain(value: Any) -> None:
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if item is not None and not isinstance(item, (bool, int, float, str)):
            raise ValueError(f"{short(item)} is neither a number, a text, true, false, null nor a list of these")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{item!r} is not a finite number")
        if isinstance(item, int) and abs(item) >= 2**63:
            raise ValueError(f"{short(item)} is too large for a whole number")


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low >= high:
        raise ValueError(f"low must be smaller than high, got low={low:g}, high={high:g}")
    if log and low <= 0:
        raise ValueError(f"log needs low > 0, got low={low:g}")
    if log and step is not None:
        raise ValueError("log and step exclude each other")
    if step is not None and _off_grid(high - low, step):
        raise ValueError(f"step={step:g} does not lead from low={low:g} to high={high:g}")


def _problem_in_range(value: float, low: float, high: float, step: float | None) -> str | None:
    if not low <= value <= high:
        return f"{short(value)} is outside {low:g} .. {high:g}"
    if step is not None and _off_grid(value - low, step):
        return f"{value:g} is not reached from {low:g} in steps of {step:g}"
    return None


def _n_steps(low: float, high: float, step: float) -> int:
    return round((high - low) / step) + 1


def _off_grid(distance: float, step: float) -> bool:
    steps = distance / step
    return not math.isfinite(steps) or abs(steps - round(steps)) > 1e-9

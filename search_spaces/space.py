"""Define a search space: the searched settings of an experiment, their values, and the first points to try."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from search_spaces.constraints import holds, paths_in
from search_spaces.errors import SpaceError, did_you_mean, short
from search_spaces.parameters import Fixed, Parameter, Part, Path, goes_in_turn, same
from search_spaces.trials import RandomTrial, Trial


class Objective(Part):
    """Name a metric that trials report, and its direction."""

    metric: Annotated[str, Field(min_length=1)] = "val_accuracy"
    mode: Literal["max", "min"] = "max"


class Space(Part):
    """Hold a search space: dotted paths into the experiment with their kinds of values, in the order of the file.

    A parameter with `when` is active, and therefore searched, if each path named there is active and has that value.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    about: str = Field(min_length=1, description="the searched settings, and the reasons of the bounds")
    objective: Objective = Objective()
    trade_offs: tuple[Objective, ...] = Field((), max_length=2, description="further objectives: a Pareto front")
    parameters: dict[Path, Parameter] = Field(min_length=1)
    constraints: tuple[str, ...] = Field((), description="comparisons of settings that every trial fulfils")
    first_points: tuple[dict[str, Any], ...] = Field((), description="tried first; what a point leaves out is sampled")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        above: list[str] = []
        for path, parameter in self.parameters.items():
            for other, value in parameter.when.items():
                self._check_condition(path, other, value, above)
            above.append(path)
        for index, text in enumerate(self.constraints):
            self._check_constraint(f"constraints.{index}", text)
        for index, point in enumerate(self.first_points):
            self._check_point(f"first_points.{index}", point)
        if not self.searched:
            raise ValueError("every parameter is fixed: there is nothing to search")
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"objective and trade_offs name a metric twice: {', '.join(metrics)}")
        return self

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Return the main objective, followed by the trade-offs."""
        return (self.objective, *self.trade_offs)

    @property
    def searched(self) -> list[str]:
        """Return the paths whose values vary."""
        return [path for path, parameter in self.parameters.items() if not isinstance(parameter, Fixed)]

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Ask a trial for each active parameter; return its params, values of the experiment by dotted path."""
        return self._active_params(lambda path: self.parameters[path].suggest(trial, path))

    def decode(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's params from the form in which a study keeps them; paths of no parameter are passed over.

        Raises:
            SpaceError: a value is missing or invalid, because the trial was made with another space.
        """

        def read(path: str) -> Any:
            if isinstance(self.parameters[path], Fixed):
                return None
            if path not in encoded:
                raise SpaceError(f"the trial has no value for {path}", where=f"space {self.name}", remedy=_OTHER_SPACE)
            return encoded[path]

        return self._active_params(read)

    def with_points(self, points: Sequence[Mapping[str, Any]]) -> Space:
        """Return this space with additional first points. Raises SpaceError for a point outside of it."""
        try:
            return Space.model_validate({**dict(self), "first_points": [*self.first_points, *map(dict, points)]})
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise SpaceError(problem, where=f"space {self.name}, points") from None

    def sample(self, seed: int) -> dict[str, Any]:
        """Draw random experiment values as a function of the seed."""
        return self.suggest(RandomTrial(seed))

    def encode(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Encode experiment values for a study (`enqueue_trial`), without the fixed ones."""
        searched = set(self.searched)
        return {path: self.parameters[path].encode(value) for path, value in point.items() if path in searched}

    def encoded_first_points(self) -> list[dict[str, Any]]:
        """Return the first points encoded for a study."""
        return [self.encode(point) for point in self.first_points]

    def broken_constraint(self, params: Mapping[str, Any], setting: Callable[[str], Any]) -> str | None:
        """Return the first constraint that a trial's params break. One on a parameter that is not active asks nothing.

        Args:
            values: values of the active parameters, as `suggest` returns them.
            setting: returns the experiment's own value of a path that is not in the space.
        Raises:
            ValueError: a constraint cannot be computed from these values.
        """

        def value_of(path: str) -> Any:
            return params[path] if path in params else setting(path)

        for text in self.constraints:
            is_asked = all(path in params or path not in self.parameters for path in paths_in(text))
            if is_asked and not holds(text, value_of):
                return text
        return None

    def could_draw(self, params: Mapping[str, Any]) -> bool:
        """Return true if a trial of this space could have these params, of its active parameters and no others."""
        if any(path not in self.parameters or self.parameters[path].problem_with(params[path]) for path in params):
            return False
        return set(params) == {
            path
            for path, parameter in self.parameters.items()
            if all(other in params and same(params[other], wanted) for other, wanted in parameter.when.items())
        }

    def pin(self, values: Mapping[str, Any]) -> Space:
        """Return this space with some of its parameters fixed to given values, inside or outside its bounds.

        Paths that are not in the space are ignored; parameters whose `when` contradicts a value are removed.

        Raises:
            SpaceError: no parameter is left to search.
        """
        parameters: dict[str, Any] = {}
        for path, parameter in self.parameters.items():
            if all(other in parameters and same(values.get(other, v), v) for other, v in parameter.when.items()):
                pinned = Fixed(type="fixed", value=values[path], when=parameter.when) if path in values else parameter
                parameters[path] = pinned
        if all(isinstance(parameter, Fixed) for parameter in parameters.values()):
            raise SpaceError(
                f"with {', '.join(values)} set, nothing is left to search",
                where=f"space {self.name}",
                remedy="leave one of its parameters free, or train instead of sweeping",
            )
        points: list[dict[str, Any]] = []
        for point in self.first_points:
            rest = {path: value for path, value in point.items() if path in parameters and path not in values}
            if rest and rest not in points:
                points.append(rest)
        constraints = [text for text in self.constraints if any(path in parameters for path in paths_in(text))]
        content = {"parameters": parameters, "first_points": points, "constraints": constraints}
        return Space.model_validate({**dict(self), **content})

    def validate_paths(self, check: Callable[[str], object]) -> None:
        """Call `check`, which raises for a path that the experiment lacks, for all paths of parameters and constraints.

        Raises:
            SpaceError: `check` raised an error with a `problem`; the space and the entry are added. Other exceptions
                are bugs and pass unchanged.
        """
        places = {path: f"parameters.{path}" for path in self.parameters}
        for index, text in enumerate(self.constraints):
            places = dict.fromkeys(paths_in(text), f"constraints.{index}") | places
        for path, place in places.items():
            try:
                check(path)
            except Exception as error:
                if not hasattr(error, "problem"):
                    raise
                where = f"space {self.name}, {place}"
                raise SpaceError(str(error.problem), where=where, remedy=getattr(error, "remedy", None)) from error

    def probes(self) -> Iterator[dict[str, Any]]:
        """Yield overrides that test the space against a schema: each first point, and each parameter at each extreme.

        A probe holds only the fixed values and the conditions of a parameter's `when`, so that an experiment that
        refuses it refuses this parameter's bound.
        """
        always = {path: p for path, p in self.parameters.items() if isinstance(p, Fixed) and not p.when}
        fixed = {path: copy.deepcopy(parameter.value) for path, parameter in always.items()}
        for point in self.first_points:
            yield fixed | copy.deepcopy(point)
        for path, parameter in self.parameters.items():
            for value in parameter.extremes():
                yield fixed | self._conditions(path) | {path: value}

    def _active_params(self, read: Callable[[str], Any]) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for path, parameter in self.parameters.items():
            if all(other in params and same(params[other], value) for other, value in parameter.when.items()):
                try:
                    params[path] = parameter.decode(read(path))
                except ValueError as error:
                    where = f"space {self.name}, parameters.{path}"
                    raise SpaceError(str(error), where=where, remedy=_OTHER_SPACE) from error
        return params

    def _conditions(self, path: str) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        for other, value in self.parameters[path].when.items():
            wanted |= self._conditions(other) | {other: copy.deepcopy(value)}
        return wanted

    def _check_condition(self, path: str, other: str, value: Any, above: list[str]) -> None:
        where = f"parameters.{path}.when.{other}"
        if other not in self.parameters:
            raise ValueError(f"{where}: no such parameter in this space; {did_you_mean(other, self.parameters)}")
        if other not in above:
            raise ValueError(f"{where}: a condition must be above its dependent parameters; move {path} below {other}")
        if problem := self.parameters[other].problem_with(value):
            raise ValueError(f"{where}: {problem}, so that {path} would never be searched")
        if goes_in_turn(self.parameters[path]) and not (
            isinstance(self.parameters[other], Fixed) or goes_in_turn(self.parameters[other])
        ):
            raise ValueError(f"{where}: a grid can depend on a grid or a fixed value only, {other} is sampled")

    def _check_constraint(self, where: str, text: str) -> None:
        try:
            named = paths_in(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if not any(path in self.parameters for path in named):
            raise ValueError(
                f"{where}: {text!r} names no parameter of this space; {did_you_mean(named[0], self.parameters)}"
            )

    def _check_point(self, where: str, point: dict[str, Any]) -> None:
        for path, value in point.items():
            if path not in self.parameters:
                raise ValueError(f"{where}: {path!r} is not in this space; {did_you_mean(path, self.parameters)}")
            if problem := self.parameters[path].problem_with(value):
                raise ValueError(f"{where}.{path}: {problem}")
            for other, wanted in self._conditions(path).items():
                if other in point and not same(point[other], wanted):
                    raise ValueError(
                        f"{where}: {path} is searched when {other}={wanted!r} only, not {short(point[other])}"
                    )


_OTHER_SPACE = "the trial was made with another version of this space: start a new study"

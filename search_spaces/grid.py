"""List combinations of a space's values: the points of a grid, or the values of some parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.errors import SpaceError
from search_spaces.parameters import Conditional, Fixed, goes_in_turn, same

if TYPE_CHECKING:
    from search_spaces.space import Space

MAX_POINTS = 100_000


def grid_points(space: Space, *, whole: bool) -> list[dict[str, Any]]:
    """Return encoded points in the order of the file, the last parameter's values changing fastest.

    Args:
        whole: cross all parameters; otherwise only those of type `grid`, which gives no points if there are none.
    Raises:
        SpaceError: a parameter's values cannot be counted, or there are more than MAX_POINTS points.
    """
    paths = [path for path, parameter in space.parameters.items() if whole or _is_given(parameter)]
    if not any(path in paths for path in space.searched):
        return []
    points: list[dict[str, Any]] = []
    for point in _crossed(space, paths, {}):
        points.append(space.encode(point))
        if len(points) > MAX_POINTS:
            raise SpaceError(
                f"more than {MAX_POINTS} points",
                where=f"space {space.name}",
                remedy="give larger steps, or search by another sampler",
            )
    return points


def combinations(space: Space, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the distinct combinations of values of some parameters, with those that their conditions name.

    Raises:
        SpaceError: the values of one of these parameters cannot be counted.
    """
    wanted = set(paths)
    for path in reversed(space.parameters):  # a condition names earlier parameters
        wanted |= set(space.parameters[path].when) if path in wanted else set()
    return _crossed(space, [path for path in space.parameters if path in wanted], {})


def _crossed(space: Space, paths: list[str], chosen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if not paths:
        yield dict(chosen)
        return
    path, rest = paths[0], paths[1:]
    parameter = space.parameters[path]
    if not all(other in chosen and same(chosen[other], value) for other, value in parameter.when.items()):
        yield from _crossed(space, rest, chosen)
        return
    values = parameter.all_values()
    if values is None:
        raise SpaceError(
            "its values cannot be counted",
            where=f"space {space.name}, parameters.{path}",
            remedy="give it a step for a grid, or make it a choice of values",
        )
    for value in values:
        yield from _crossed(space, rest, {**chosen, path: value})


def _is_given(parameter: Conditional) -> bool:
    """Return true for a parameter whose value is given before sampling."""
    return isinstance(parameter, Fixed) or goes_in_turn(parameter)

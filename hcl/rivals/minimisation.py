"""Minimise many small functions at once by L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_HISTORY = 10
_SUFFICIENT = 1e-4  # the share of the predicted decrease that a step must bring (Armijo)
_HALVINGS = 30
_CURVED = 1e-10  # a step that has less curvature, relative to its length, is not remembered

Values = Float[Tensor, "episode"]
Parameters = Float[Tensor, "episode parameter"]


@torch.no_grad()
def minimise(
    objective: Callable[[Parameters], Values], start: Parameters, *, steps: int, tolerance: float = 1e-8
) -> Parameters:
    """Return the parameters that minimise each episode's objective, found from `start`.

    Each episode has its own directions, step lengths and end, so that other episodes of the batch change nothing but
    the rounding of sums.

    Args:
        objective: maps (episode, parameter) to (episode,); an episode's value depends on its own parameters alone.
        steps: the largest number of steps.
        tolerance: an episode ends if no entry of its gradient is larger.
    """
    point, (value, gradient) = start, _with_gradient(objective, start)
    moves: list[Parameters] = []
    turns: list[Parameters] = []
    for _ in range(steps):
        is_moving = gradient.abs().amax(dim=1) > tolerance
        if not is_moving.any():
            break
        direction = torch.where(is_moving[:, None], -_scaled(gradient, moves, turns), 0.0)
        moved = point + _step_lengths(objective, point, value, gradient, direction)[:, None] * direction
        new_value, new_gradient = _with_gradient(objective, moved)
        moves, turns = [*moves, moved - point][-_HISTORY:], [*turns, new_gradient - gradient][-_HISTORY:]
        point, value, gradient = moved, new_value, new_gradient
    return point


def _with_gradient(objective: Callable[[Parameters], Values], point: Parameters) -> tuple[Values, Parameters]:
    with torch.enable_grad():
        leaf = point.detach().requires_grad_()
        value = objective(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def _scaled(gradient: Parameters, moves: list[Parameters], turns: list[Parameters]) -> Parameters:
    """Return the gradient times the estimated inverse of the Hessian, by the two-loop recursion."""
    if not moves:
        return gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1.0)
    kept = [_inverse_curvature(move, turn) for move, turn in zip(moves, turns, strict=True)]
    shares = []
    for move, turn, inverse in zip(reversed(moves), reversed(turns), reversed(kept), strict=True):
        shares.append(inverse * _dot(move, gradient))
        gradient = gradient - shares[-1] * turn
    # Nocedal and Wright, equation 7.20: the curvature along the last step.
    length = _dot(turns[-1], turns[-1])
    gradient = gradient * torch.where(kept[-1] > 0, 1 / (kept[-1] * length).clamp_min(1e-30), 1.0)
    for move, turn, inverse, share in zip(moves, turns, kept, reversed(shares), strict=True):
        gradient = gradient + (share - inverse * _dot(turn, gradient)) * move
    return gradient


def _inverse_curvature(move: Parameters, turn: Parameters) -> Float[Tensor, "episode 1"]:
    """Return one over the product of a step and the change of the gradient, or 0 if the step says nothing."""
    curvature = _dot(move, turn)
    is_curved = curvature > _CURVED * _dot(move, move).clamp_min(1e-300)
    return torch.where(is_curved, 1 / curvature.clamp_min(1e-300), 0.0)


def _step_lengths(
    objective: Callable[[Parameters], Values],
    point: Parameters,
    value: Values,
    gradient: Parameters,
    direction: Parameters,
) -> Values:
    """Return the first of 1, 1/2, 1/4 ... that lowers each episode's value enough, and 0 where none does."""
    slope = _dot(gradient, direction)[:, 0]
    length, is_found = torch.ones_like(value), torch.zeros_like(value, dtype=torch.bool)
    for _ in range(_HALVINGS):
        reached = objective(point + length[:, None] * direction)
        is_found = is_found | _is_enough(reached, value, slope * length)
        if is_found.all():
            break
        length = torch.where(is_found, length, length / 2)
    return torch.where(is_found, length, 0.0)


def _is_enough(reached: Values, value: Values, predicted: Values) -> Bool[Tensor, "episode"]:
    # The last digits of the values are noise near the minimum, where a step is taken on trust.
    noise = 4 * torch.finfo(value.dtype).eps * value.abs()
    return reached <= value + _SUFFICIENT * predicted + noise


def _dot(a: Parameters, b: Parameters) -> Float[Tensor, "episode 1"]:
    return (a * b).sum(dim=1, keepdim=True)

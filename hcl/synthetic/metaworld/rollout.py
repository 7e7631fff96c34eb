"""Carry out an action once: the scripted policy of Meta-World, disturbed by noise, in a scene drawn at random."""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from hcl.synthetic.metaworld.actions import task_of

ATTEMPTS = (
    # (noise of the policy in units of its actions, share of the hand's start that varies), gentler from one to the next
    (0.14, 1.0), (0.10, 1.0), (0.07, 0.8), (0.05, 0.6), (0.03, 0.5), (0.02, 0.4),
    (0.0, 0.3), (0.0, 0.2), (0.0, 0.1), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0),
)  # fmt: skip
MAX_STEPS = 320
MIN_STEPS = 12  # an action that succeeds earlier shows nothing

_HAND_START = (0.07, 0.06, 0.05)  # metres by which the hand's start varies along x, y, z
_MIN_HEIGHT = 0.12  # metres, of the hand's start above the table
_SEEDS = 2**31 - 1


class Rejected(Exception):
    """Report an attempt that gives no video; the text is the reason."""


@dataclass(frozen=True)
class Trajectory:
    """Hold the states of one successful attempt, one a simulation step.

    Attributes:
        states: the joint positions, and the positions and quaternions of the mocap bodies, of each step.
        tool: position of the tool's centre in metres, (step, 3).
        positions: of each body in metres, (step, body, 3).
        rotations: of each body as a quaternion, (step, body, 4).
        success: the step at which the action had succeeded.
        seed: of the environment.
    """

    states: list[tuple[np.ndarray[Any, Any], ...]]
    tool: np.ndarray[Any, Any]
    positions: np.ndarray[Any, Any]
    rotations: np.ndarray[Any, Any]
    success: int
    seed: int

    def __len__(self) -> int:
        return len(self.states)


def generator(seed: int, action: str, number: int, attempt: int) -> np.random.Generator:
    """Return the source of everything that is random in one attempt at a video."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(action.encode()), number, attempt]))


class Task:
    """Hold the simulated environment of one action. Every attempt starts from the state after its construction."""

    def __init__(self, action: str):
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.policies import ENV_POLICY_MAP

        self.action = action
        self.policy: Any = ENV_POLICY_MAP[task_of(action)]
        env: Any = ALL_V3_ENVIRONMENTS[task_of(action)]()
        self.env = env
        env._partially_observable = False  # the scripted policy needs the goal
        env.__dict__.pop("sawyer_observation_space", None)
        env._freeze_rand_vec = False  # each reset draws another layout ...
        env.seeded_rand_vec = True  # ... from the environment's own seed
        env._set_task_called = True
        self._attributes = {name: copy.deepcopy(value) for name, value in vars(env).items() if _is_plain(value)}
        self._model = _movable_arrays(env.model)

    def attempt(self, rng: np.random.Generator, noise: float, hand_share: float) -> Trajectory:
        """Run the policy until it has succeeded and a random number of steps longer.

        Args:
            noise: deviation of the disturbance of an action, in units of the action, up to which it is drawn.
            hand_share: how much of its range the start of the hand uses, 0 to 1.

        Raises:
            Rejected: the policy did not succeed, or too early, or the simulation became unstable.
        """
        env, noise = self.env, noise * rng.uniform(0.3, 1.0)
        seed = self._reset(rng, hand_share)
        observation, _ = env.reset()
        tail, drift, success = int(rng.integers(6, 30)), np.zeros(3), 0
        steps = [self._state()]
        policy = self.policy()
        while len(steps) <= MAX_STEPS and not (success and len(steps) > success + tail):
            command = np.asarray(policy.get_action(observation), float).copy()
            if noise:
                drift = 0.85 * drift + rng.normal(0, noise * 0.53, 3)
                command[:3] = command[:3] + drift
            observation, _, _, _, info = env.step(np.clip(command, -1, 1))
            if not np.isfinite(env.data.qpos).all() or env._did_see_sim_exception:
                raise Rejected("the simulation became unstable")
            steps.append(self._state())
            if not success and info["success"]:
                success = len(steps) - 1
        if not success:
            raise Rejected("the policy did not succeed")
        if success < MIN_STEPS:
            raise Rejected(f"the policy succeeded after {success} steps already")
        tool, positions, rotations = (np.array([step[k] for step in steps]) for k in (3, 4, 5))
        return Trajectory([step[:3] for step in steps], tool, positions, rotations, success, seed)

    def _reset(self, rng: np.random.Generator, hand_share: float) -> int:
        """Restore the constructed state, seed everything that the environment draws from, and draw the hand's start."""
        env = self.env
        for name in [name for name, value in vars(env).items() if _is_plain(value) and name not in self._attributes]:
            delattr(env, name)
        for name, value in self._attributes.items():
            setattr(env, name, copy.deepcopy(value))
        for name, value in self._model.items():
            getattr(env.model, name)[:] = value
        seed = int(rng.integers(_SEEDS))
        np.random.seed(seed)  # noqa: NPY002  # some tasks draw from numpy's global generator
        env.seed(seed)
        if env.hand_init_pos is not None:
            env.hand_init_pos = env.hand_init_pos.astype(float) + rng.uniform(-1, 1, 3) * _HAND_START * hand_share
            env.hand_init_pos[2] = max(env.hand_init_pos[2], _MIN_HEIGHT)
        return seed

    def _state(self) -> tuple[np.ndarray[Any, Any], ...]:
        data = self.env.data
        arrays = (data.qpos, data.mocap_pos, data.mocap_quat, self.env.tcp_center, data.xpos, data.xquat)
        return tuple(array.copy() for array in arrays)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | np.ndarray)


def _movable_arrays(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return copies of the arrays of a model that a task may change at a reset, such as the place of a body."""
    kinds = ("body_", "site_", "geom_pos", "geom_quat", "geom_size", "jnt_", "dof_", "eq_", "qpos", "actuator_")
    values = {name: getattr(model, name) for name in dir(model) if name.startswith(kinds)}
    return {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}

"""Test the classes of the Meta-World benchmark and their division, and the draws that name a video."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np

from hcl.datasets.cards import PARTITIONS, card_of
from hcl.synthetic.metaworld.actions import ACTIONS, ACTIONS_OF, task_of
from hcl.synthetic.metaworld.rollout import ATTEMPTS, generator


def test_46_classes_in_30_8_and_8() -> None:
    assert tuple(ACTIONS_OF) == PARTITIONS
    assert [len(actions) for actions in ACTIONS_OF.values()] == [30, 8, 8]
    assert len(ACTIONS) == 46, "a class is in two partitions"
    for name, action in ACTIONS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name) and re.fullmatch(r"[a-z]+ing [a-z ]+", action.title)
    assert len({action.title for action in ACTIONS.values()}) == 46


def test_twins_name_each_other_and_share_a_partition() -> None:
    n_twins = 0
    for actions in ACTIONS_OF.values():
        for name, action in actions.items():
            if action.twin:
                assert actions[action.twin].twin == name
                n_twins += 1
    assert n_twins == 24
    assert all(action.twin for partition in ("val", "test") for action in ACTIONS_OF[partition].values())


def test_the_card_expects_what_the_command_makes(tmp_path: Path) -> None:
    card = card_of(tmp_path, "metaworld")
    counts = {name: (part.classes, part.videos) for name, part in card.partitions.items()}
    assert counts == {name: (len(actions), 24 * len(actions)) for name, actions in ACTIONS_OF.items()}


def test_a_task_is_named_as_meta_world_does() -> None:
    assert task_of("button_press_topdown_wall") == "button-press-topdown-wall-v3"


def test_draws_are_a_function_of_all_that_names_an_attempt() -> None:
    names = list(product((1, 2), ("push", "pull"), (0, 1), (0, 1)))
    draws = [generator(*name).random(4) for name in names]
    assert len(np.unique(draws, axis=0)) == len(names)
    assert np.array_equal(generator(1, "push", 0, 0).random(4), draws[0])


def test_attempts_become_gentler() -> None:
    noises, shares = zip(*ATTEMPTS, strict=True)
    assert list(noises) == sorted(noises, reverse=True) and list(shares) == sorted(shares, reverse=True)
    assert ATTEMPTS[-1] == (0.0, 0.0)

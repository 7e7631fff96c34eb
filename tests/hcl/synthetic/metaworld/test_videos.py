"""Test the filming of Meta-World itself; skipped without the extra `metaworld` and a software OpenGL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hcl.errors import ConfigError
from hcl.synthetic.metaworld.requirements import check_requirements, choose_software_rendering
from hcl.synthetic.metaworld.rollout import Rejected, generator

if TYPE_CHECKING:
    from hcl.synthetic.metaworld.videos import Studio

pytestmark = pytest.mark.filterwarnings("ignore:Constant:UserWarning")  # of Meta-World's policies


@pytest.fixture(scope="module")
def soccer() -> Iterator[Studio]:
    """The studio of an action whose policy often fails."""
    choose_software_rendering(os.environ)
    try:
        check_requirements()
    except ConfigError as error:
        pytest.skip(str(error))
    from hcl.synthetic.metaworld.videos import Studio

    studio = Studio("soccer")
    yield studio
    studio.close()


def test_a_video_does_not_depend_on_those_before_it(soccer: Studio) -> None:
    facts, frames = soccer.video(1, 0)
    assert frames is not None and frames.shape == (facts.n_frames, 120, 160, 3) and frames.dtype == np.uint8
    other, others = soccer.video(1, 1)
    assert others is not None and other.digest != facts.digest
    again, repeated = soccer.video(1, 0)
    assert again == facts
    np.testing.assert_array_equal(repeated, frames)
    assert soccer.video(2, 0)[0].digest != facts.digest


def test_rejected_attempts_are_followed_by_others(soccer: Studio) -> None:
    facts, _ = soccer.video(1, 0)
    assert facts.rejected == ["the policy did not succeed"] * facts.attempt
    assert facts.attempt == 2, "as it was on another machine: the simulation is the same"


def test_a_video_without_a_good_attempt_has_no_file(soccer: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*_: object) -> None:
        raise Rejected("too dark")

    monkeypatch.setattr(soccer._task, "attempt", reject)
    facts, frames = soccer.video(1, 0)
    assert frames is None and facts.suffix == "" and facts.rejected == ["too dark"] * 12


def test_frames_show_a_scene_in_motion(soccer: Studio) -> None:
    _, frames = soccer.video(1, 1)
    assert frames is not None
    assert frames.std() > 15, "the picture is not blank"
    changes = np.abs(np.diff(frames.astype(int), axis=0)).max(-1)
    assert (changes > 20).mean() > 0.005
    assert (np.abs(frames[-1].astype(int) - frames[0]).max(-1) > 30).mean() > 0.02


def test_the_marks_of_the_goal_are_not_drawn(soccer: Studio) -> None:
    assert not soccer._stage._options.sitegroup.any()


def test_an_attempt_begins_with_the_constructed_state(soccer: Studio) -> None:
    """Compare a first attempt with one after the model and the environment were changed in between."""
    task = soccer._task
    first = task.attempt(generator(1, "soccer", 1, 0), 0.0, 1.0)
    task.env.model.body_pos[:] += 0.3
    task.env.hand_init_pos = np.array([0.0, 0.4, 0.5])
    task.env.leftover = 1.0
    again = task.attempt(generator(1, "soccer", 1, 0), 0.0, 1.0)
    np.testing.assert_array_equal(again.positions, first.positions)
    assert not hasattr(task.env, "leftover")

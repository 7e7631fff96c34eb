"""The commands that `hcl new` prints lead from a folder of any shape to a page, without a refusal."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import ModuleType

import pytest

import results
from tests.orchestration.conftest import Command
from tests.orchestration.planning.folder_shapes import SHAPES

pytestmark = pytest.mark.ray

SHORTER = {
    "train": (
        *("train.epochs=1", "train.batches_per_epoch=1", "train.val_episodes=10", "train.workers=1"),
        *("model.cached_views=1", "clips.size=64", "clips.n_frames=4"),
    ),
    "evaluate": ("evaluation.episodes=20",),
}
"""Settings that leave the commands as they are and make them short."""

OFTEN = ("four_of_four", "frames_of_classes", "persons_above_classes")
"""Shapes of three kinds: too few classes for validation classes, folders of frames, links."""


def run_all(hcl: Command, folder: Path) -> None:
    """Run `hcl new` and each command that it prints."""
    made = hcl("new", "mine", "--from", folder, "--cpu", "--no-open-files")
    assert made.code == 0, made.err
    lines = made.out[made.out.index("next:") :].splitlines()[1:]
    commands = [shlex.split(line)[1:] for line in lines]
    assert [words[0] for words in commands] == ["extract", "train", "evaluate", "report"]
    for words in commands:
        shorter = [word for setting in SHORTER.get(words[0], ()) for word in ("--set", setting)]
        ended = hcl(*words, *shorter)
        assert ended.code == 0, f"{words}\n{ended.err}"
    assert Path("runs/mine/report/index.html").is_file()
    cells = results.load("runs/mine").evaluations
    assert {"hcl", "untrained", "prototype"} <= set(cells["method"])


@pytest.mark.parametrize("shape", OFTEN)
def test_a_folder_leads_to_a_page(shape: str, hcl: Command, local_ray: ModuleType, tmp_path: Path) -> None:
    run_all(hcl, SHAPES[shape](tmp_path / "source"))


@pytest.mark.long
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in OFTEN])
def test_every_shape_leads_to_a_page(shape: str, hcl: Command, local_ray: ModuleType, tmp_path: Path) -> None:
    run_all(hcl, SHAPES[shape](tmp_path / "source"))

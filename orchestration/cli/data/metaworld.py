"""Make the videos of the Meta-World benchmark: `hcl data metaworld`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from hcl.errors import ConfigError, did_you_mean
from orchestration.cli.options import DATA, Address, Data
from orchestration.console import notes, out


def metaworld(
    data: Data = DATA,
    videos_per_class: Annotated[int, typer.Option(min=1, help="Videos of each class.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed that determines all videos.")] = 1,
    action: Annotated[
        list[str] | None,
        typer.Option(
            "--class", help="Make only this class, such as door_open; repeatable. Default: all 46.", show_default=False
        ),
    ] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="Videos made at once; default: one per CPU.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace videos made in another way.")] = False,
    address: Address = None,
) -> None:
    """Make the Meta-World benchmark: videos of a robot arm that carries out 46 actions, with splits.

    Meta-World simulates and MuJoCo draws, without a graphics card. Places, camera, lights, colours and clutter vary
    from video to video. The command needs the extra `metaworld` and a software OpenGL of the system, and names what is
    missing. A repeated call makes only the missing videos, and more of them with a larger --videos-per-class.

    \b
    hcl data metaworld
    hcl data metaworld --class door_open --class door_close
    """
    from hcl.synthetic.metaworld.actions import ACTIONS
    from orchestration.generation.metaworld import DATASET, make_metaworld

    actions = tuple(action or ACTIONS)
    if unknown := [name for name in actions if name not in ACTIONS]:
        problem = f"unknown class {unknown[0]!r}{did_you_mean(unknown[0], ACTIONS)}"
        raise ConfigError(problem, where="--class", remedy=f"one of {', '.join(ACTIONS)}")
    made = make_metaworld(
        data.absolute(),
        actions=actions,
        videos_per_class=videos_per_class,
        seed=seed,
        actors=actors,
        overwrite=overwrite,
        address=address,
    )
    counts = f"{made.n_written} videos made; {made.n_videos} of {made.n_classes} classes in {made.videos}"
    out.print(f"{DATASET}: {escape(counts)}", soft_wrap=True)
    for facts in made.failed[:10]:
        notes.print(f"  no video of {facts.name}: {escape(facts.rejected[-1])}", soft_wrap=True)

"""Draw a contact sheet: `hcl data show`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import DATA, Data, Set, experiment_of
from orchestration.cli.shell import completion
from orchestration.console import out


def show(
    what: Annotated[
        str,
        typer.Argument(metavar="VIDEO_OR_CLASS", help="A video file, or DATASET/CLASS/VIDEO, or DATASET/CLASS."),
    ],
    data: Data = DATA,
    to: Annotated[Path | None, typer.Option(help="PNG file; default: named after the video, in this folder.")] = None,
    experiment: Annotated[
        str, typer.Option(help="Its clips.* settings sample and augment frames.", autocompletion=completion.experiments)
    ] = "hcl",
    settings: Set = None,
    views: Annotated[int, typer.Option(min=0, max=50, help="Number of training views of a video.")] = 3,
    videos: Annotated[int, typer.Option(min=1, max=100, help="Number of videos of a class.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training views.")] = 0,
) -> None:
    """Write a contact sheet: a video's frames, those sampled for testing, and augmented training views.

    For a class it shows the test views of some videos. A video file need not be extracted.

    \b
    hcl data show clip.mp4
    hcl data show mine/door_open --videos 4 --to doors.png
    """
    from hcl.clips.contact_sheet import write_png
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.extraction.contact_sheets import draw_sheet

    chosen = experiment_of(experiment, settings, None)
    image = draw_sheet(DataRoot(data), what, chosen, n_views=views, n_videos=videos, seed=seed)
    name = re.sub(r"[^\w.-]+", "_", what).strip("._")[-100:] or "sheet"
    path = write_png(to or Path(f"{name}.png"), image)
    out.print(escape(f"{path}: {image.shape[1]} x {image.shape[0]} pixels"), soft_wrap=True, highlight=False)

"""Make class-disjoint splits of one's own videos: `hcl data splits ...`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.config.evaluation import Evaluation
from orchestration.cli.options import DATA, Data
from orchestration.console import notes, out

if TYPE_CHECKING:
    from hcl.datasets.splits import Partition

app = typer.Typer(help="Make splits of your own videos.", no_args_is_help=True)

_SIZE = "Classes of {}: a count (64) or a share of all (0.64)."


@app.command("make")
def make(
    name: Annotated[str, typer.Argument(help="Name of the new data set.")],
    source: Annotated[Path, typer.Option("--from", help="A folder with a folder for each class, of videos or frames.")],
    data: Data = DATA,
    train: Annotated[float, typer.Option(min=0, help=_SIZE.format("training"))] = 0.64,
    val: Annotated[float, typer.Option(min=0, help=_SIZE.format("validation"))] = 0.12,
    test: Annotated[float, typer.Option(min=0, help=_SIZE.format("test"))] = 0.24,
    seed: Annotated[int, typer.Option(min=0, help="Seed that assigns classes to partitions.")] = 0,
    folds: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of splits of the same videos, named NAME_0, NAME_1 and so on.")
    ] = 1,
    keep_copies: Annotated[
        bool, typer.Option("--keep-copies", help="List all videos of the same content, not only the first.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace splits with these names.")] = False,
) -> None:
    """Draw a class-disjoint split of a folder of class folders: no class is in two partitions.

    Lists go to DATA/splits/NAME, and DATA/datasets/NAME.yaml names the place of the videos. Several splits, for
    repeated evaluation, share one folder of frames: extract each of them, and each video is decoded once.

    Excluded files are reported with a number and an example: copies, leftovers of downloaders, files that are no
    videos. If it is not clear which folders are the classes, nothing is made.

    \b
    hcl data splits make mine --from data/videos/mine
    hcl data splits make mine --from videos --train 24 --val 8 --test 8
    """
    from hcl.frames.split_making import make_splits

    sizes = {"train": train, "val": val, "test": test}
    made = make_splits(
        data, name, source, sizes, seed=seed, folds=folds, overwrite=overwrite, keep_copies=keep_copies, tell=_tell
    )
    for dataset, partitions in made.items():
        parts = [
            f"{part.name} {len(part.classes)} classes, {len(part.videos):,} videos" for part in partitions.values()
        ]
        out.print(escape(f"{dataset}: {'; '.join(parts)}"), soft_wrap=True, highlight=False)
    _warn_of_few_classes(next(iter(made.values())))
    first, at = shlex.quote(next(iter(made))), "" if data == DATA else f" --data {shlex.quote(str(data))}"
    out.print(escape(f"next: hcl extract {first}{at}, then hcl data check {first}{at}"), soft_wrap=True)


def _warn_of_few_classes(partitions: Mapping[str, Partition]) -> None:
    """Print a note where a partition has fewer classes than an episode takes by default."""
    way = Evaluation().way
    counts = {name: len(partitions[name].classes) for name in ("val", "test")}
    if min(counts.values()) < way:
        has = " and ".join(f"{name} has {count}" for name, count in counts.items())
        _tell(
            f"an episode takes {way} classes by default, and {has}: give them more with --train, --val and --test, or "
            f"train with --set evaluation.way=N"
        )


def _tell(note: str) -> None:
    notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)

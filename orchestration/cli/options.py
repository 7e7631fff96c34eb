"""Define the options that commands share, and find the experiment and the run that they name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.assembly.experiment_files import load_resolved
from hcl.config import Experiment
from hcl.config.resolve import resolve
from hcl.errors import ConfigError, HCLError
from hcl.files.names import some
from orchestration.console import notes, out
from orchestration.storage.folder_defaults import VARIABLES
from orchestration.storage.places import ELSEWHERE, check_place

if TYPE_CHECKING:
    from hcl.frames.stored_dataset import StoredDataset


def place(option: str) -> Callable[[typer.Context, Path | None], Path | None]:
    """Return the callback that turns an option's value into a folder; see `check_place`."""

    def check(context: typer.Context, folder: Path | None) -> Path | None:
        here = context.find_root().obj != ELSEWHERE
        return check_place(folder, option, here=here) if folder else None

    return check


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        help="Data root, a folder or s3://, with videos/, splits/, images/.",
        callback=place("--data"),
        envvar=VARIABLES["data"],
    ),
]
DataOfRun = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data root, a folder or s3://. Default: the one that the run was trained with, or else data.",
        callback=place("--data"),
        envvar=VARIABLES["data"],
        show_default=False,
    ),
]
Runs = Annotated[
    Path,
    typer.Option(
        "--runs",
        help="Folder of the runs, which may be on s3://.",
        callback=place("--runs"),
        envvar=VARIABLES["runs"],
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a setting; repeatable.", show_default=False),
]
Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster (host:port or auto); default: local Ray.", envvar=VARIABLES["address"]),
]
Workers = Annotated[int | None, typer.Option(min=1, help="DDP workers of a run; short for --set train.workers=N.")]
Restart = Annotated[
    bool,
    typer.Option("--restart", help="Start over: files of earlier commands in the folder are deleted; others are kept."),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder on each node's own disk for copies of packed shards; short for --set data.cache_dir.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run, and stop.")]
ExperimentName = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="A YAML file, or a shipped one (`hcl config list`).")
]

Fits = Annotated[
    str | None,
    typer.Option(
        "--for", metavar="EXPERIMENT", help="Also find everything that this experiment lacks here.", show_default=False
    ),
]

DATA, RUNS = Path("data"), Path("runs")


def experiment_of(
    source: str,
    settings: list[str] | None,
    workers: int | None,
    cache_dir: Path | None = None,
    epochs: int | None = None,
) -> Experiment:
    """Return the resolved experiment of a command. Raises ConfigError."""
    changes = [*with_cache(settings, cache_dir), *([f"train.workers={workers}"] if workers else [])]
    changes += [f"train.epochs={epochs}"] if epochs else []
    return resolve(source, changes).experiment


def experiment_for(fits: str | None, settings: list[str] | None) -> Experiment | None:
    """Return the resolved experiment of --for; None without it. Raises ConfigError, also for --set without --for."""
    if fits is None and settings:
        raise ConfigError("changes an experiment, and none is given", where="--set", remedy="add --for EXPERIMENT")
    return None if fits is None else experiment_of(fits, settings, None)


def with_cache(settings: list[str] | None, cache_dir: Path | None) -> list[str]:
    """Return the values of --set, with --cache-dir as one of them."""
    return [*(settings or []), *([f"data.cache_dir={cache_dir.absolute()}"] if cache_dir else [])]


def tell_left_out(stored: StoredDataset, *, keep_copies: bool) -> None:
    """Name the videos that nothing will use, because they are missing, could not be decoded or are copies.

    Args:
        keep_copies: whether copies are used; they are mentioned in any case.
    """
    with suppress(HCLError):  # the command itself says what is wrong with the data
        for name, partition in stored.split.partitions.items():
            what, of_all = f"{stored.name} {name}", f"of {len(partition.videos):,} videos"
            copies = stored.copies(name)
            lost = [video.key for video in stored.left_out(name, keep_copies=True)]
            if lost:
                text = f"{what}: {len(lost):,} {of_all} are left out as missing or broken: {some(lost, 3)}"
                notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)
            if copies:
                video, original = next(iter(copies.items()))
                used = "copies of others and are used all the same" if keep_copies else "left out as copies of others"
                text = f"{what}: {len(copies):,} {of_all} are {used}, such as {video.key!r}, {original}"
                notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)


def tell_unfinished(folder: Path) -> None:
    """Print a note if a run's training is incomplete."""
    from orchestration.evaluation.training_state import unfinished, unfinished_note

    own = load_resolved(folder / "experiment.yaml")
    if note := unfinished_note(folder, own, unfinished(folder, own)):
        notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)


def tell_flips(stored: StoredDataset, experiment: Experiment) -> None:
    """Say so where training would mirror clips of a data set in which left and right are classes."""
    card = stored.card
    if experiment.clips.flip and card.flips_are_safe is False:
        text = f"clips.flip mirrors clips, but left and right are classes of {card.name}"
        notes.print(f"[yellow]note[/] {escape(text)}: --set clips.flip=false", soft_wrap=True)


def tell_emulation(experiment: Experiment, address: str | None) -> None:
    """Say so where this machine's processor would emulate the precision of training; a cluster's nodes may differ."""
    from hcl.models.precision import emulated_on_cpu

    precision = experiment.train.precision
    if address is None and not experiment.train.use_gpu and precision in emulated_on_cpu():
        text = f"this processor emulates {precision}, which takes several times longer than float32"
        notes.print(f"[yellow]note[/] {text}: --set train.precision=float32", soft_wrap=True)


def announce(experiment: Experiment) -> None:
    """Print in one line what is about to run."""
    train = experiment.train
    step = f"{train.classes_per_batch} x 2 clips"
    if train.traits.is_episodic:
        step = f"{train.episodes_per_step} episodes ({train.episode_way}-way, {train.episode_shot}-shot)"
    out.print(
        f"{experiment.name} ({train.regime}, {experiment.mode}, digest {experiment.digest()}): "
        f"{experiment.model.backbone} on "
        f"{experiment.data.dataset}, {train.epochs} epochs of {train.batches_per_epoch} batches of "
        f"{step}, {train.workers} worker(s) on {'GPU' if train.use_gpu else 'CPU'}",
        soft_wrap=True,
        highlight=False,
    )


def tell_code_state() -> None:
    """Print a note if a record cannot name the code that made it, and there is a remedy."""
    from results.records.provenance import code_state

    if (state := code_state()).remedy:
        notes.print(f"[yellow]note[/] {escape(state.why)}: {escape(state.remedy)}", soft_wrap=True)


def command_line() -> str:
    """Return the typed command line in a form that can be repeated."""
    return shlex.join(["hcl", *sys.argv[1:]])

"""Make a data set and an experiment of a folder of videos: `hcl new`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.errors import ConfigError
from orchestration.cli.options import DATA, RUNS, Address, Data, Runs
from orchestration.console import notes, out

if TYPE_CHECKING:
    from orchestration.planning.new_dataset import NewDataset
    from orchestration.planning.new_state import NewState

_METHODS = ("hcl", "untrained", "prototype")


def new(
    name: Annotated[str, typer.Argument(help="Name of the new data set and of its run.")],
    source: Annotated[Path, typer.Option("--from", help="A folder of videos or frames, in any usual layout.")],
    data: Data = DATA,
    runs: Runs = RUNS,
    experiment: Annotated[
        Path | None, typer.Option(help="File of the new experiment; default: NAME.yaml here.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed that divides the classes.")] = 0,
    class_level: Annotated[
        int | None,
        typer.Option(min=1, help="Level of the folders that are the classes, where it cannot be told: 1 is the first."),
    ] = None,
    use_gpu: Annotated[
        bool | None, typer.Option("--gpu/--cpu", help="Plan for GPUs or for processors; default: as there are here.")
    ] = None,
    open_files: Annotated[
        bool, typer.Option("--open-files/--no-open-files", help="Open every file, and leave out unreadable ones.")
    ] = True,
    restart: Annotated[
        bool, typer.Option("--restart", help="Replace lists, card and experiment of this name.")
    ] = False,
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what was found and proposed, and stop.")] = False,
) -> None:
    """Look at a folder of videos, and write lists, a card and an experiment that run through to a page.

    The command says what the folder holds and what it leaves out, divides the classes, and chooses way, shots, queries,
    batches and backbone by what there is: four classes of four videos suffice. The experiment is a YAML file whose
    comments give the reasons. Videos stay where they are; layouts that lists cannot name are linked into the data root.

    Read are class folders, with further folders in or above them; folders or lists of train, val and test; folders of
    frames; and videos in one folder, with a list of their classes or with classes in their names.

    \b
    hcl new mine --from data/videos/mine
    hcl new mine --from data/videos/mine --dry-run
    """
    from orchestration.planning.new_state import check_name, read_state, write_state

    check_name(name)
    target = experiment or Path(f"{name}.yaml")
    if not re.fullmatch(r".+\.ya?ml", target.name):
        raise ConfigError(f"got {str(target)!r}", where="--experiment", remedy="name a file that ends in .yaml")
    data, state = data.absolute(), read_state(data, name)
    commands = _commands(name, target, data, runs)
    asked = {"source": str(source.absolute()), "seed": seed, "class_level": class_level}
    if not dry_run and not restart and _is_made(state, asked, target, name, data):
        out.print(escape(f"{name} is already made from {source}: {target}"), soft_wrap=True, highlight=False)
        _print_commands(commands)
        return
    planned = _plan(name, source, runs, seed, class_level, use_gpu, open_files, address)
    _show(planned, runs)
    if dry_run:
        out.print("nothing was written")
        return
    from orchestration.planning.new_dataset import write_dataset

    write_state(data, name, asked, is_whole=False)
    heading = [f"{name}: made by `hcl new` from {source.absolute()}", *_found(planned)]
    write_dataset(planned, data, target, heading=heading, commands=commands)
    write_state(data, name, asked, is_whole=True)
    out.print(escape(f"written: {target}, {data / 'splits' / name}"), soft_wrap=True, highlight=False)
    if (runs / name / "experiment.yaml").exists():
        text = f"{runs / name} holds a run already: train with --restart to replace it, or choose another name"
        notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)
    _print_commands(commands)


def _plan(
    name: str,
    source: Path,
    runs: Path,
    seed: int,
    class_level: int | None,
    use_gpu: bool | None,
    open_files: bool,
    address: str | None,
) -> NewDataset:
    from orchestration.extraction.open_files import unreadable
    from orchestration.planning.machine import look_at_machine
    from orchestration.planning.new_dataset import plan_dataset

    opened = (lambda files: unreadable(files, address=address)) if open_files else None
    machine = look_at_machine(runs, use_gpu=use_gpu)
    return plan_dataset(name, source, machine, seed=seed, class_level=class_level, open_files=opened)


def _is_made(state: NewState | None, asked: dict, target: Path, name: str, data: Path) -> bool:
    """Return true if an earlier call has made this. Raises ConfigError if something else has the name."""
    from orchestration.planning.new_state import paths_of

    taken = [path for path in (*paths_of(data, name), target) if path.exists()]
    if state is not None and state.asked == asked:
        return state.is_whole and len(taken) == len(paths_of(data, name)) + 1
    if taken:
        problem = "exists" if state is None else f"was made from {state.asked['source']} or with other options"
        raise ConfigError(problem, where=str(taken[0]), remedy="choose another name, or replace it: --restart")
    return False


def _found(planned: NewDataset) -> list[str]:
    """Return lines that describe the folder and the division of its classes."""
    survey, split, sizes = planned.survey, planned.split, planned.survey.sizes
    kind = "folders of frames" if survey.of_frames else "videos"
    counts = (
        f"{min(sizes.values())} to {max(sizes.values())}" if len(set(sizes.values())) > 1 else f"{max(sizes.values())}"
    )
    lines = [f"{len(survey.videos):,} {kind} of {len(sizes)} classes ({counts} a class); {survey.layout}"]
    parts = [
        f"{part.name} {len(part.classes)} classes, {len(part.videos):,} videos"
        for part in planned.partitions().values()
    ]
    return [*lines, f"{'; '.join(parts)}; {split.origin}"]


def _show(planned: NewDataset, runs: Path) -> None:
    from orchestration.planning.machine import free_gb
    from results.records.moments import duration

    for line in _found(planned):
        out.print(escape(line), soft_wrap=True, highlight=False)
    for note in planned.notes:
        notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    settings, costs = planned.settings, planned.costs
    out.print(f"base {settings.base}: {settings.reason}", soft_wrap=True, highlight=False)
    for choice in settings.choices:
        out.print(escape(f"  {choice.path}={choice.value}: {choice.reason}"), soft_wrap=True, highlight=False)
    for warning in settings.warnings:
        notes.print(f"[yellow]caution[/] {escape(warning)}", soft_wrap=True)
    free = free_gb(runs)
    out.print(
        f"about {duration(costs.seconds)} on this machine (extraction {duration(costs.extract_s)}, training "
        f"{duration(costs.train_s)}, evaluation {duration(costs.evaluate_s)}) and {costs.disk_gb:.1f} GB of "
        f"{free:.0f} GB free; roughly, by figures of two processors",
        soft_wrap=True,
        highlight=False,
    )
    if costs.disk_gb > 0.9 * free:
        text = f"the disk of {runs} has {free:.0f} GB free, and about {costs.disk_gb:.0f} GB are needed"
        notes.print(f"[yellow]caution[/] {escape(text)}: use --data and --runs on a larger disk", soft_wrap=True)


def _commands(name: str, target: Path, data: Path, runs: Path) -> list[list[str]]:
    """Return the words of the commands that lead from the data set to the page."""
    at = [] if data == DATA.absolute() else ["--data", str(data)]
    kept = [] if runs == RUNS else ["--runs", str(runs)]
    return [
        ["hcl", "extract", name, *at],
        ["hcl", "train", str(target), *at, *kept],
        ["hcl", "evaluate", name, *(word for method in _METHODS for word in ("--method", method)), *at, *kept],
        ["hcl", "report", name, *kept],
    ]


def _print_commands(commands: list[list[str]]) -> None:
    out.print("next:")
    for words in commands:
        out.print(f"  {escape(shlex.join(words))}", soft_wrap=True, highlight=False)

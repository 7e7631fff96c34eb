"""Compare finished evaluations without computing scores again: `hcl results compare`, `classes` and `seeds`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.assembly.experiment_files import load_resolved
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.errors import ConfigError, did_you_mean
from orchestration.cli.options import RUNS, Runs
from orchestration.cli.shell import completion
from orchestration.cli.shell.json_option import with_json
from orchestration.console import notes, out, print_frame
from orchestration.storage.run_folders import run_folder
from results.tables.cells import CELL, footnotes, marked

if TYPE_CHECKING:
    import pandas as pd

Dataset = Annotated[str | None, typer.Option(help="Only this data set.", autocompletion=completion.datasets)]


@with_json
def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A run, or RUN:METHOD (`metaworld_cpu:otam`). Default: hcl.",
            autocompletion=completion.runs_with_methods,
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="The same; `:METHOD` alone means another method of A's run.",
            autocompletion=completion.runs_with_methods,
        ),
    ],
    runs: Runs = RUNS,
    dataset: Dataset = None,
) -> None:
    """Print the difference A - B on the same episodes, and whether it is significant, for each data set and shot.

    Pairing removes the difficulty that episodes have for both, so that differences smaller than either interval become
    visible. There are two intervals: one over episodes, and one over classes (over videos, where none over classes
    exists). The p-value and the verdict rest on the second; results/STATISTICS.md has the rule.

    \b
    hcl results compare mine mine:otam
    hcl results compare first second --dataset hmdb51
    """
    from results.tables.comparison import comparison_table

    first, run, method = _evaluations(a, runs, dataset, None)
    second, other_run, other_method = _evaluations(b, runs, dataset, run)
    names = (method, other_method) if run == other_run else (f"{run.name}:{method}", f"{other_run.name}:{other_method}")
    names = (f"{names[0]} (A)", f"{names[1]} (B)")
    table = comparison_table(first, second, names=names)
    print_frame(table, name="differences")


@with_json
def classes(
    run: Annotated[
        Path, typer.Argument(help="A run's folder, or its name under RUNS.", autocompletion=completion.runs)
    ],
    method: Annotated[
        list[str] | None, typer.Option(help="Methods, repeatable. Default: hcl.", autocompletion=completion.methods)
    ] = None,
    shot: Annotated[int | None, typer.Option(min=1, help="Shot to show. Default: the smallest.")] = None,
    dataset: Dataset = None,
    runs: Runs = RUNS,
) -> None:
    """Accuracy by class, hardest first, and the classes that are confused most often.

    \b
    hcl results classes mine --method hcl --method otam --shot 5
    """
    import pandas as pd

    from results.tables.details import class_table, confusion_table, outcomes_of

    folder = run_folder(run, runs)
    frames = [_evaluations(f"{folder}:{name}", runs, dataset, None)[0] for name in method or ["hcl"]]
    evaluations = pd.concat(frames)
    evaluations = evaluations[evaluations["shot"] == (shot or evaluations["shot"].min())]
    cells = outcomes_of(evaluations)
    if not cells:
        raise ConfigError(
            "has no answers of these evaluations", where=str(folder), remedy="evaluate again: hcl evaluate"
        )
    for cell in dict.fromkeys(tuple(record[name] for name in CELL) for record, _ in cells):
        of_cell = [(record, outcomes) for record, outcomes in cells if tuple(record[name] for name in CELL) == cell]
        first = of_cell[0][0]
        out.rule(escape(f"{first['dataset']} {first['partition']}, {first['way']}-way {first['shot']}-shot"))
        table = class_table([(marked(record), outcomes) for record, outcomes in of_cell])
        table.attrs["footnotes"] = footnotes(pd.DataFrame([record for record, _ in of_cell]))
        asked = {name: first[name] for name in CELL}
        print_frame(table, name="classes", records=[{**asked, **row} for row in table.attrs["records"]])
        for record, outcomes in of_cell:
            table = confusion_table(outcomes)
            rows = [{**asked, "method": marked(record), **row} for row in table.attrs["records"]]
            print_frame(table, title=marked(record), name="confusions", records=rows)


@with_json
def seeds(
    run: Annotated[list[Path], typer.Argument(help="Runs that differ in their seed.", autocompletion=completion.runs)],
    runs: Runs = RUNS,
) -> None:
    """Print several training runs of one experiment as mean and standard deviation over the runs.

    \b
    hcl results seeds mine-seed1 mine-seed2 mine-seed3
    """
    from results import load
    from results.tables.details import runs_table

    folders = [run_folder(path, runs) for path in run]
    alike = {_without_seed(load_resolved(folder / "experiment.yaml")) for folder in folders}
    if len(alike) > 1:
        notes.print(
            "[yellow]note[/] these runs differ in more than their seed; compare them with `hcl config show`",
            soft_wrap=True,
        )
    table = runs_table(load(folders).evaluations)
    print_frame(table, name="cells")


def _evaluations(text: str, runs: Path, dataset: str | None, run: Path | None) -> tuple[pd.DataFrame, Path, str]:
    """Return the records of RUN:METHOD, with the run's folder and the method.

    Args:
        run: the run of a text with only a method.
    """
    from results import load

    place, _, method = text.partition(":")
    if not place and run is None:
        raise ConfigError("names no run", where=text, remedy="write RUN or RUN:METHOD")
    folder = run_folder(Path(place), runs) if place else run
    assert folder is not None
    method = method or "hcl"
    frame = load(folder).evaluations
    chosen = frame[frame["method"] == method]
    chosen = chosen if dataset is None else chosen[chosen["dataset"] == dataset]
    if chosen.empty:
        methods, datasets = (sorted(frame[name].unique()) for name in ("method", "dataset"))
        if method not in methods:
            wanted, hint = f"{method!r}", did_you_mean(method, methods)
        else:
            wanted, hint = f"{method!r} on {dataset!r}", did_you_mean(str(dataset), datasets)
        evaluated = f"{', '.join(methods)}, on {', '.join(datasets)}" if methods else "nothing"
        raise ConfigError(
            f"holds no evaluation of {wanted}{hint}",
            where=str(folder),
            remedy=f"evaluated there: {evaluated}; see hcl evaluate",
        )
    return chosen, folder, method


def _without_seed(experiment: Experiment) -> str:
    return override(experiment, {"seed": 0}).digest()

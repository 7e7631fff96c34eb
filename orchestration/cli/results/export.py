"""Write tables and frames of many runs: `hcl results export`, `ablation` and `published`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.config.paths import machine_settings
from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, Runs
from orchestration.cli.results.listing import tell_skipped
from orchestration.cli.shell import completion
from orchestration.cli.shell.json_option import with_json
from orchestration.console import add_json, out, print_frame
from orchestration.storage.run_folders import run_folder
from results.exports.choices import Format
from results.records.settings import TERMS

if TYPE_CHECKING:
    from results import Results

Chosen = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN", help="Folders, names under RUNS, or globs. Default: all in RUNS.", autocompletion=completion.runs
    ),
]


def export(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the files; those of an earlier export are replaced.")
    ] = None,
    run: Chosen = None,
    runs: Runs = RUNS,
    form: Annotated[
        Format, typer.Option("--format", help="latex, markdown: the tables only; records: what --readme reads.")
    ] = "csv",
    readme: Annotated[
        list[Path] | None,
        typer.Option(metavar="PAGE", help="Write the tables of a Markdown page from records instead; repeatable."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --readme: change nothing; fail if a page differs.")
    ] = False,
) -> None:
    """Write tidy frames and tables for a spreadsheet, a notebook or a paper.

    Frames: runs, epochs, evaluations, episodes, sweeps and trials, with a row for each. Tables: accuracies, levels,
    published figures, ablations, best trials. export.json lists the files, their rows, and files that could not be
    read.

    --readme PAGE writes the tables between `<!-- results: NAME ... -->` and `<!-- end -->` of a page, from the records
    that the first comment names (results/shipped/README.md).

    \b
    hcl results export tables 'runs/ssv2*' --format latex
    hcl results export shipped first second --format records
    hcl results export --readme README.md --check
    """
    from orchestration.storage.record_files import storing_records
    from results.exports.exporting import export as write_export

    if readme:
        if folder is not None:
            raise ConfigError("takes no folder: the page names its records", where="--readme")
        _write_pages(readme, is_check=check)
        return
    if folder is None or check:
        raise ConfigError(
            "names no folder" if folder is None else "needs --readme",
            where="FOLDER" if folder is None else "--check",
            remedy="hcl results export FOLDER, or hcl results export --readme PAGE",
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file, not a folder", where=str(folder), remedy="name a folder for the files")
    loaded = load_chosen(run, runs)
    with storing_records():
        paths = write_export(loaded, folder, form, machine_settings())
    out.print(f"{len(paths)} files in {escape(str(folder))}: {', '.join(path.name for path in paths)}", soft_wrap=True)
    tell_skipped(loaded.skipped)


def _write_pages(pages: list[Path], *, is_check: bool) -> None:
    """Write the tables of pages from their records, or fail if they differ. Raises ConfigError, RecordError."""
    from hcl.files.atomic import write_atomically
    from results.exports.marked_tables import has_tables, written

    different = False
    for page in pages:
        if not page.is_file():
            raise ConfigError("no such page", where=str(page), remedy="name a Markdown file")
        if not has_tables(page):
            raise ConfigError("has no table", where=str(page), remedy="add <!-- results: NAME ... --> and <!-- end -->")
        text, changed = written(page)
        if changed and not is_check:
            write_atomically(page, text.encode())
        state = ("differs from the records" if is_check else "written") if changed else "as the records have it"
        out.print(f"{escape(str(page))}: {state}{': ' if changed else ''}{', '.join(changed)}", soft_wrap=True)
        different = different or bool(changed)
    if is_check and different:
        raise typer.Exit(1)


@with_json
def ablation(
    run: Chosen = None,
    runs: Runs = RUNS,
    over: Annotated[str, typer.Option(help="Beginning of the paths of settings that may differ.")] = TERMS,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.", autocompletion=completion.datasets)] = None,
) -> None:
    """Compare runs that differ only in the weights of the loss, term by term, with paired differences.

    Such runs are found by comparing their settings; name and settings of the machine may also differ. The levels of a
    single run are compared by `hcl results show RUN`.

    \b
    hcl results ablation
    hcl results ablation 'runs/ssv2*' --over matching.
    """
    from results.tables.ablation import ablations

    loaded = load_chosen(run, runs)
    tables = ablations(loaded, over=over, ignored=machine_settings(), dataset=dataset)
    if not tables:
        raise ConfigError(
            f"no two runs differ only in settings that begin with {over!r}",
            where="--over",
            remedy="train another with --set loss.sigma_spatial=0 --set name=..., or choose other settings with --over",
        )
    for table in tables:
        print_frame(table, name="cells")
    tell_skipped(loaded.skipped)


@with_json
def published(run: Chosen = None, runs: Runs = RUNS) -> None:
    """Print published figures beside ours, each with its source and with marks for how it was obtained.

    Only data sets with published figures are shown, on their test classes. There is no statistical test between the
    two, because episodes, frames and often the protocol differ.

    \b
    hcl results published
    hcl results published ssv2 hmdb51
    """
    from results.tables.published import published_figures, published_table, read_published

    loaded = load_chosen(run, runs)
    table = published_table(loaded.evaluations)
    if table.empty:
        printed = read_published()
        cells = zip(printed["dataset"], printed["way"], strict=True)
        named = ", ".join(sorted({f"{dataset} ({way}-way)" for dataset, way in cells}))
        raise ConfigError(
            "no evaluation on the test classes of a data set with published figures",
            where=str(runs),
            remedy=f"evaluate on one of {named}",
        )
    figures = published_figures()
    figures = figures[figures["dataset"].isin(set(loaded.evaluations["dataset"]))]
    add_json("evaluations", loaded.evaluations.to_dict("records"))
    print_frame(table, name="published", records=figures.to_dict("records"))
    tell_skipped(loaded.skipped)


def load_chosen(run: list[str] | None, runs: Path) -> Results:
    """Load the records of the runs that were named, or of all. Raises ConfigError, RecordError."""
    from results import load

    if not run:
        return load(runs)
    return load([name if any(sign in name for sign in "*?[") else run_folder(Path(name), runs) for name in run])

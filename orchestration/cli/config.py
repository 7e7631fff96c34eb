"""Show experiments, their settings and the origin of each: `hcl config ...`."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from hcl.config.paths import nest
from hcl.config.resolve import resolve, rows, shipped_experiments
from hcl.errors import ConfigError
from hcl.files.atomic import write_atomically
from orchestration.cli.options import DATA, RUNS, ExperimentName, Set
from orchestration.cli.shell.json_option import with_json
from orchestration.console import add_json, out, print_rows
from orchestration.storage.folder_defaults import VARIABLES
from search_spaces import shipped_spaces

app = typer.Typer(help="Show experiments and their settings.", no_args_is_help=True)


@app.command("list")
@with_json
def list_shipped() -> None:
    """List the experiments and search spaces that the program ships.

    \b
    hcl config list
    """
    add_json("experiments", shipped_experiments())
    add_json("spaces", shipped_spaces())
    out.print("experiments: " + ", ".join(shipped_experiments()))
    out.print("spaces:      " + ", ".join(shipped_spaces()))


@app.command("show")
@with_json
def show(
    context: typer.Context,
    experiment: ExperimentName,
    settings: Set = None,
    origin: Annotated[
        str, typer.Option(help="Show only values whose origin contains this text, such as `--set`.")
    ] = "",
    data: Annotated[str | None, typer.Option(help="Show this data root, as another command would take it.")] = None,
    runs: Annotated[str | None, typer.Option(help="Show this folder of the runs likewise.")] = None,
) -> None:
    """Show the resolved experiment: each setting with its value, origin, unit and meaning.

    Origins are default, mode: published (its preset), a YAML file, or --set. A second table shows the folders that
    commands use, and the cluster and storage, if any: from an option, an environment variable or hcl.toml.

    \b
    hcl config show metaworld_cpu
    hcl config show mine.yaml --set optim.lr=1e-4 --origin --set
    """
    resolved = resolve(experiment, settings or [])
    shown = [row for row in rows(resolved) if origin in row.origin]
    cells = [(row.path, row.value, row.origin, row.unit, row.meaning) for row in shown]
    print_rows(
        ["path", "value", "origin", "unit", "meaning"],
        cells,
        title=f"{experiment}, digest {resolved.experiment.digest()}",
        name="settings",
    )
    origins = context.find_root().obj
    folders = folder_rows({"data": data, "runs": runs}, origins if isinstance(origins, dict) else {})
    if shown_folders := [row for row in folders if origin in row[2]]:
        print_rows(["option", "value", "origin", "meaning"], shown_folders, title="folders and places", name="folders")


def folder_rows(given: Mapping[str, str | None], origins: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Return option, value, origin and meaning of each folder, and of the cluster and the storage that are set.

    Args:
        given: values from the command line, by name.
        origins: the variable or the file that sets each other value, by name.
    """
    rows = []
    for name, (default, meaning) in _PLACES.items():
        value, origin = given.get(name), f"--{name}"
        if not value and name in origins:
            value, origin = os.environ.get(VARIABLES[name]), origins[name]
        if name == "storage" and value:
            from orchestration.sweeps.storage.database import without_password  # loads SQLAlchemy

            value = without_password(value)
        if value or default:
            rows.append((f"--{name}", value or default, origin if value else "default", meaning))
    return rows


_PLACES = {
    "data": (str(DATA), "data root; a run's own comes before the default"),
    "runs": (str(RUNS), "folder of the runs"),
    "address": ("", "a running Ray cluster"),
    "storage": ("", "place of studies"),
}
"""The default and the meaning of each option that `hcl.toml` may hold."""


@app.command("from-released", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def from_released(
    context: typer.Context,
    to: Annotated[Path | None, typer.Option(help="File to write, such as mine.yaml; without it, print.")] = None,
) -> None:
    """Write the experiment of a command line of the released code: give its flags after --.

    Flags that are left out have their released defaults. hcl/config/RELEASE.md maps the files and folders.

    \b
    hcl config from-released -- --dataset ssv2_100_otam --method hcl --shot 1
    hcl config from-released --to mine.yaml -- --dataset hmdb51 --method hcl
    """
    from hcl.config.released.command import translate
    from hcl.config.strict_yaml import dump_yaml

    translation = translate(context.args)
    content = {"base": translation.base, **nest(translation.settings)}
    comments = [f"# {line}" for note in translation.notes for line in textwrap.wrap(note, 110)]
    text = (
        "\n".join([f"# Flags of the released code: {shlex.join(context.args)}", *comments, dump_yaml(content).strip()])
        + "\n"
    )
    if to is None:
        print(text, end="")
        return
    if to.exists():
        raise ConfigError("exists", where=str(to), remedy="give another file to --to, or remove this one")
    write_atomically(to, text.encode())
    run = f"runs/{translation.settings['name']}"
    if translation.checkpoint:
        words = ["checkpoint", "import", translation.checkpoint, "--to", run, "--experiment", str(to)]
    else:
        words = ["train", str(to)]
    out.print(f"{to}: written. Next:", highlight=False, soft_wrap=True)
    for command in (words, ["evaluate", run, "--protocol", "published"]):
        out.print(f"  {shlex.join(['hcl', *command])}", highlight=False, soft_wrap=True)


@app.command("validate")
def validate(experiment: ExperimentName, settings: Set = None) -> None:
    """Check an experiment's settings without data, Ray or PyTorch, and print its digest; exit 2 names the mistake.

    `hcl train EXPERIMENT --dry-run` checks the data set, the memory and the room as well.

    \b
    hcl config validate mine.yaml
    hcl config validate hcl --set train.workers=4
    """
    resolved = resolve(experiment, settings or [])
    n_changed = sum(row.origin != "default" for row in rows(resolved))
    out.print(
        f"{experiment}: valid, digest {resolved.experiment.digest()}, {n_changed} settings are set by it",
        soft_wrap=True,
        highlight=False,
    )

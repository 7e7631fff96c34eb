"""Write tables of accuracies between two comments of a Markdown page, from records, and check that they are current.

    <!-- results: metaworld
    records: results/shipped/metaworld
    rows:
      - {run: metaworld_cpu, method: hcl, label: HCL}
      - {run: metaworld_cpu, method: prototype}
    -->
    <!-- end -->

The first comment names the table and holds its options as YAML (`Options`). What stands between the two is replaced.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import yaml

from results.errors import RecordError
from results.exports.shipped import Shipped, read_shipped
from results.tables.accuracy import caption
from results.tables.best import best_records
from results.tables.cells import MARKED, footnotes, marks, points, record_text, wider_interval

Columns = Literal["shot", "dataset"]
WIDTH = 120
_TABLE = re.compile(
    r"^<!-- results: (?P<name>[\w-]+)\s(?P<options>(?:(?!-->).)*)-->\n"
    r"(?P<body>(?:(?!^<!-- results: ).)*?)^<!-- end -->$",
    re.MULTILINE | re.DOTALL,
)
_OPENING = re.compile(r"^<!-- results: ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Name the records of a row.

    Attributes:
        label: Markdown of the first column; default: the method.
        run: needed where several runs have the method.
    """

    method: str = "hcl"
    run: str | None = None
    label: str | None = None

    @property
    def shown(self) -> str:
        """The text of the first column."""
        return self.label or f"`{self.method}`"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold the options of a table.

    Attributes:
        records: a folder or file of `--format records`, or folders of runs, from the folder of the page.
        rows: one or more.
        columns: `shot`: a column for each shot of one data set, with intervals in the cells; `dataset`: a column for
            each data set, with the accuracies of all shots in a cell.
        shots, datasets: those to show, in this order; default: all.
        way: needed where the records have several.
    """

    records: str | list[str]
    rows: list[Row] = field(default_factory=list)
    columns: Columns = "shot"
    shots: list[int] | None = None
    datasets: list[str] | None = None
    partition: str = "test"
    way: int | None = None
    evaluation_protocol: str = "standard"


def has_tables(page: Path) -> bool:
    """Return whether a page has a table to write."""
    return _OPENING.search(page.read_text(encoding="utf-8")) is not None


def written(page: Path) -> tuple[str, list[str]]:
    """Return the text of a page with its tables as the records have them, and the names of tables that change.

    Raises:
        RecordError: if a table is not closed, an option is wrong, or a record is missing.
    """
    text, changed = page.read_text(encoding="utf-8"), []
    if len(_OPENING.findall(text)) != len(_TABLE.findall(text)):
        raise RecordError("opens a table that it does not close", where=str(page), remedy="end it with <!-- end -->")

    def replaced(match: re.Match[str]) -> str:
        where = f"{page}: {match['name']}"
        options = _options(match["options"], where)
        places = [options.records] if isinstance(options.records, str) else options.records
        body = f"\n{table(read_shipped([page.parent / place for place in places]), options, where)}\n"
        if body != match["body"]:
            changed.append(match["name"])
        opening = match[0][: match.start("body") - match.start()]
        return f"{opening}{body}<!-- end -->"

    return _TABLE.sub(replaced, text), changed


def table(shipped: Shipped, options: Options, where: str) -> str:
    """Return a table as Markdown, with its caption below it.

    Raises:
        RecordError: if a row has no record or several of a cell, or the records differ in what all must share.
    """
    chosen = _chosen(shipped.records, options, where)
    cells = [_of_row(chosen, row, where) for row in options.rows]
    shown = pd.concat(cells)
    best = best_records(shown, shipped)
    datasets = options.datasets or list(dict.fromkeys(shown["dataset"]))
    shots = options.shots or sorted(set(shown["shot"]))
    if options.columns == "shot" and len(datasets) > 1:
        raise RecordError("has a column a shot, but several data sets", where=where, remedy="name one in `datasets`")
    if options.columns == "shot":
        headings = ["1 shot" if shot == 1 else f"{shot} shots" for shot in shots]
        places = [[(datasets[0], shot)] for shot in shots]
    else:
        headings, places = datasets, [[(dataset, shot) for shot in shots] for dataset in datasets]
    lines = [f"| | {' | '.join(headings)} |", f"|---|{'---:|' * len(headings)}"]
    for row, records in zip(options.rows, cells, strict=True):
        texts = dict(_texts(records, best.paths, has_intervals=options.columns == "shot"))
        line = [" / ".join(texts.get(place, "–") for place in of_column) for of_column in places]
        lines.append(f"| {row.shown} {marks(records.iloc[0].to_dict())}".rstrip() + f" | {' | '.join(line)} |")
    notes = [_described(shown, options, shots), best.note, _measured(shown, shipped)]
    text = " ".join(note for note in notes if note)
    paragraphs = [textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in (text, *footnotes(shown))]
    return "\n\n".join(["\n".join(lines), *paragraphs]) + "\n"


def _texts(records: pd.DataFrame, best: frozenset[str], *, has_intervals: bool) -> Iterator[tuple[Any, str]]:
    """Yield the data set and the shot of each record with its text, bold for the best."""
    for record in records.to_dict("records"):
        text = record_text(record) if has_intervals else points(record["accuracy"])
        yield (record["dataset"], record["shot"]), f"**{text}**" if record["path"] in best else text


def _chosen(records: pd.DataFrame, options: Options, where: str) -> pd.DataFrame:
    wanted: dict[str, list[Any] | None] = {"partition": [options.partition], "shot": options.shots}
    wanted |= {"dataset": options.datasets, "way": None if options.way is None else [options.way]}
    wanted |= {"evaluation_protocol": [options.evaluation_protocol]}
    for name, values in wanted.items():
        records = records if values is None else records[records[name].isin(values)]
    if records["way"].nunique() > 1:
        raise RecordError("has records of several ways", where=where, remedy="name one in `way`")
    return records


def _of_row(records: pd.DataFrame, row: Row, where: str) -> pd.DataFrame:
    """Return the latest record of each cell of a row."""
    mine = records[records["method"] == row.method]
    mine = mine if row.run is None else mine[mine["run"] == row.run]
    named = row.method if row.run is None else f"{row.method} of {row.run}"
    if mine.empty:
        raise RecordError(f"no record of {named}", where=where, remedy="evaluate it, or export its records again")
    for name in ("run", *MARKED):
        if mine[name].nunique(dropna=False) > 1:
            remedy = "name the run of the row" if name == "run" else "evaluate all its cells in the same way"
            raise RecordError(f"records of {named} differ in {name}", where=where, remedy=remedy)
    return mine.sort_values("created", kind="stable").drop_duplicates(["dataset", "shot"], keep="last")


def _described(shown: pd.DataFrame, options: Options, shots: list[int]) -> str:
    if options.columns == "shot":
        return caption(shown)
    text = caption(shown, has_intervals=False).removesuffix(".")
    text += f"; {' / '.join(map(str, shots))} shots" if len(shots) > 1 else ""
    widths = {"episodes": [half for half in shown["ci95"] if half == half and half is not None]}
    for record in shown.to_dict("records"):
        if (wider := wider_interval(record)) is not None:
            widths.setdefault(wider.over, []).append(wider.half_width)
    ranges = [f"± {_range(half)} over {over}" for over, half in widths.items() if half]
    return text + (f". Half widths of the 95% intervals: {', '.join(ranges)}." if ranges else ".")


def _range(halves: list[float]) -> str:
    low, high = points(min(halves)), points(max(halves))
    return low if low == high else f"{low} to {high}"


def _measured(shown: pd.DataFrame, shipped: Shipped) -> str:
    """Return the sentence of the commit and the machine that made the records, as far as it is known."""
    commits = sorted({str(revision)[:7] for revision in shown["revision"].dropna()})
    is_dirty = any(value is True for value in shown["dirty"])
    parts = [f"at commit {' and '.join(commits)}{' with uncommitted changes' if is_dirty else ''}"] if commits else []
    machines = list(dict.fromkeys(_machine(dict(shipped.machines.get(run, {}))) for run in shown["run"]))
    parts += [f"on {' and '.join(machine for machine in machines if machine)}"] if any(machines) else []
    return f"Measured {' '.join(parts)}." if parts else ""


def _machine(facts: dict[str, Any]) -> str:
    cores = f"{facts['cpus']:g} CPU cores" if isinstance(facts.get("cpus"), (int, float)) else ""
    cores += f" ({facts['cpu']})" if cores and facts.get("cpu") else ""
    gpus = facts.get("gpus")
    return " and ".join([*([cores] if cores else []), *(map(str, gpus) if isinstance(gpus, list) else [])])


def _options(text: str, where: str) -> Options:
    try:
        content = yaml.safe_load(text)
        rows = [Row(**row) for row in content.pop("rows")]
        options = Options(rows=rows, **content)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        known = ", ".join(option.name for option in fields(Options))
        raise RecordError(f"has wrong options: {error}", where=where, remedy=f"give these: {known}") from error
    if not rows or options.columns not in get_args(Columns):
        raise RecordError("has no rows, or unknown columns", where=where, remedy="columns: shot, or columns: dataset")
    return options

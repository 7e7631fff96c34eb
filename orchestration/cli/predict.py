"""Classify videos of no data set: `hcl predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from hcl.errors import ConfigError, DataError
from orchestration.cli.options import (
    RUNS,
    Address,
    DataOfRun,
    Runs,
    Set,
    command_line,
    tell_unfinished,
)
from orchestration.console import notes, out, percent, print_rows
from orchestration.storage.data_roots import data_of
from orchestration.storage.run_folders import run_and_checkpoint

if TYPE_CHECKING:
    from results.records.predictions import PredictionsRecord

_MOST_LINES = 20


def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run's folder, its name under RUNS, or a checkpoint.")
    ],
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[QUERY]...", help="More queries, as a wildcard gives them.", show_default=False),
    ] = None,
    support: Annotated[
        Path, typer.Option(help="Folder with a subfolder of labelled clips a class.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    query: Annotated[
        list[Path] | None,
        typer.Option(
            help="A video, a folder of frames, or a folder that is searched for both; repeatable.", show_default=False
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: in the run's predictions/.", show_default=False),
    ] = None,
    data: DataOfRun = None,
    runs: Runs = RUNS,
    fused: Annotated[bool, typer.Option("--fused", help="Use the fusion that `hcl fuse` chose on val.")] = False,
    calibration: Annotated[
        bool, typer.Option(help="Fit confidences and a threshold for `none of these` on the run's val classes.")
    ] = True,
    reliability: Annotated[
        Literal["test", "val"], typer.Option(help="Partition on which the confidences are checked; they rest on val.")
    ] = "test",
    pictures: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="Show the first N queries on the page, with pictures.")
    ] = 50,
    short_side: Annotated[
        int | None,
        typer.Option(min=0, help="Shorter side of frames in pixels. Default: as the run's data set was extracted."),
    ] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one clip may take.")] = 600.0,
    settings: Set = None,
    address: Address = None,
) -> None:
    """Classify videos that are in no data set, with the classes of a folder of labelled clips.

    The answers are those of `hcl evaluate` in an episode of this support. predictions.csv, predictions.json and
    page.html are written, with score, margin, levels and confidence of each query. Classes may have different numbers
    of clips.

    A confidence is calibrated on episodes of the run's val classes and checked on its test classes, both from --data;
    without these data it is left empty. A query below a threshold, chosen on the same episodes, is `none of these`.

    A clip that cannot be read costs a row. Repeat the command after an interruption, and it does only the missing
    queries: features and answers are kept under RUNS/cache.
    """
    from hcl.frames.decoding import FrameOptions
    from hcl.frames.loose_clips import find_clips, find_support
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.evaluation.targets import evaluation_settings, target_of
    from orchestration.prediction.output import write
    from orchestration.prediction.predict import predict as classify
    from orchestration.prediction.request import Asked, default_folder
    from orchestration.prediction.rows import record_of
    from orchestration.training.run_files import BEST

    places = [*(query or []), *(more or [])]
    if not places:
        raise ConfigError("nothing to classify", where="--query", remedy="give a video or a folder: --query PATH")
    folder, checkpoint = run_and_checkpoint(run, runs)
    experiment = target_of(folder, checkpoint, (), evaluation_settings(settings), fused=fused).experiment
    tell_unfinished(folder)
    clips = list({clip.path.absolute(): clip for place in places for clip in find_clips(place)}.values())
    asked = Asked(
        folder.absolute(),
        experiment,
        (checkpoint or folder / BEST).absolute(),
        DataRoot(data_of([folder], data).absolute()),
        runs.absolute(),
        find_support(support),
        clips,
        options=None if short_side is None else FrameOptions(short_side),
        n_pictures=pictures,
        calibrated_on=reliability if calibration else None,
        time_limit_s=time_limit,
    )
    found = classify(asked, address=address)
    record = record_of(asked, found, command=command_line())
    destination = to or default_folder(folder, support, places)
    write(destination, record, found)
    if calibration and record.uncalibrated:
        text = f"no confidence and no `{record.none}`: {record.uncalibrated}"
        notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)
    _tell(record, found.n_new)
    out.print(escape(f"written: {destination}/ (page.html, predictions.csv, predictions.json)"), soft_wrap=True)
    if all("reason" in outcome for outcome in found.outcomes):
        raise DataError("no query could be read", where=str(places[0]), remedy="the reasons are in predictions.csv")


def _tell(record: PredictionsRecord, n_new: int) -> None:
    """Print the answers if they are few, the numbers of each answer, and the notes."""
    from collections import Counter

    answered = [row for row in record.rows if "reason" not in row]
    if len(record.rows) <= _MOST_LINES:
        print_rows(["query", "answer", "score", "margin", "confidence"], map(_cells, record.rows))
    else:
        counts = Counter(row["answer"] for row in answered)
        out.print(escape(", ".join(f"{name} {n:,}" for name, n in counts.most_common())), highlight=False)
    n, n_lost = len(record.rows), len(record.rows) - len(answered)
    lost = f", {n_lost} of {n} could not be read" if n_lost else ""
    out.print(f"{len(answered):,} queries classified ({n_new:,} in this call){lost}", highlight=False)
    for row in [row for row in record.rows if "reason" in row][:10]:
        notes.print(escape(f"  {row['query']}: {row['reason']}"), soft_wrap=True)
    for row in [row for row in record.rows if "note" in row][:10]:
        notes.print(f"[yellow]note[/] {escape(row['query'])} {escape(row['note'])}", soft_wrap=True)
    measured = record.calibration.get("measured")
    if measured:
        out.print(
            f"confidence on {measured['partition']}: {percent(measured['confidence'])} on average, "
            f"{percent(measured['accuracy'])} right, expected calibration error {100 * measured['error']:.1f} points",
            highlight=False,
        )


def _cells(row: dict) -> list[str]:
    name = row["query"] if len(row["query"]) <= 34 else f"...{row['query'][-31:]}"
    if "reason" in row:
        return [name, "could not be read", "", "", ""]
    return [name, row["answer"], f"{row['score']:.3f}", f"{row['margin']:.3f}", _confidence(row)]


def _confidence(row: dict) -> str:
    return "" if row["confidence"] is None else percent(row["confidence"])

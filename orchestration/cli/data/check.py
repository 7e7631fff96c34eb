"""`hcl data list` and `hcl data check`: which data sets there are, and whether one is complete."""

from __future__ import annotations

import shlex
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer
from rich.markup import escape

from hcl.errors import DataError
from hcl.files.names import some
from orchestration.cli.options import DATA, Address, Data
from orchestration.console import notes, out, print_rows

if TYPE_CHECKING:
    from hcl.frames.checking import PartitionCheck


def list_datasets(data: Data = DATA) -> None:
    """The named data sets: what each should hold, where its videos are looked for, where they come from.

    A data set of your own is a file DATA/datasets/NAME.yaml of the same form; without one it is its lists alone.
    """
    from hcl.frames.stored_dataset import DataRoot

    opened, rows = DataRoot(data), []
    cards = {name: opened.dataset(name).card for name in opened.names()}
    for name, card in cards.items():
        counts = [f"{part} {one.classes} / {one.videos:,}" for part, one in card.partitions.items()]
        flips = {True: "safe", False: "left and right are classes", None: ""}[card.flips_are_safe]
        rows.append([name, card.title, ", ".join(counts), " ".join(card.extensions), flips])
    print_rows(pd.DataFrame(rows, columns=["data set", "title", "classes / videos", "files", "flips"]))
    for name, card in cards.items():
        out.print(escape(f"{name}: {', '.join(card.videos).replace('{dataset}', name)}"), soft_wrap=True)
        if card.obtain:
            out.print(escape(f"  {card.obtain}"), soft_wrap=True)


def check(
    dataset: Annotated[str, typer.Argument(help="A data set with lists under DATA/splits.")],
    data: Data = DATA,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for missing or broken videos and for wrong counts.")
    ] = False,
    min_frames: Annotated[int, typer.Option(min=1, help="Videos with fewer frames are called short.")] = 8,
    open_files: Annotated[
        bool,
        typer.Option(
            "--open-files",
            help="Read a frame of every file that has not been extracted yet, and all frames that are files.",
        ),
    ] = False,
    address: Address = None,
) -> None:
    """Check a data set against its lists, and write the effective split that training and evaluation use.

    Classes must be disjoint, lists must agree with class files, and each listed video must be there, as a file or as
    frames. Missing and broken videos are warnings with a file of their names. Once every video that is there has been
    extracted, the effective split is written to DATA/splits/DATASET/effective.json: from then on `hcl train` and
    `hcl evaluate` use exactly its videos and leave the others out by name, and each record carries its digest.
    Without it they stop at the first missing video. Repeat the check when lists or videos have changed.

    Videos whose frames are those of another one are named with it: one of each is used, that of test before val before
    train, so that no episode has one video as support and query and none is both trained on and tested. They do not
    fail a strict check. --set data.keep_copies=true uses all, and so do the published protocols.
    """
    from hcl.frames.checking import check_dataset, keep_effective, keep_names
    from hcl.frames.stored_dataset import StoredDataset
    from orchestration.extraction.open_files import unreadable

    opened = (lambda files: unreadable(files, address=address)) if open_files else None
    stored = StoredDataset(data, dataset)
    found = check_dataset(stored, min_frames=min_frames, open_files=opened)
    rows = []
    for part in found.partitions:
        due, listed = part.expected, part.listed
        row = {
            "partition": listed.name,
            "classes": f"{len(listed.classes):,}" + (f" of {due.classes:,}" if due else ""),
            "listed": f"{len(listed.videos):,}" + (f" of {due.videos:,}" if due else ""),
            "present": f"{part.n_present:,}",
            "not extracted": f"{len(part.waiting):,}",
            "missing": f"{len(part.missing):,}",
            "short": f"{len(part.short):,}",
            "broken": f"{len(part.broken):,}",
            "copies": f"{len(part.copies):,}",
        }
        rows.append(row)
    print_rows(pd.DataFrame(rows), title=f"{dataset}: {found.card.title}" if found.card.title else dataset)
    for part in found.partitions:
        if part.short:
            names = ", ".join(f"{video.key} ({n})" for video, n in list(part.short.items())[:3])
            text = f"{part.listed.name}: {len(part.short):,} videos have fewer than {min_frames} frames: {names}"
            notes.print(f"[yellow]note[/] {escape(text)}; their clips repeat frames", soft_wrap=True)
        tell_copies(part)
    for note in found.notes:
        notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    if found.unconfirmed:
        text = (
            f"{len(found.unconfirmed):,} videos were extracted by an earlier version, which stored interlaced videos "
            f"as black frames: {some(found.unconfirmed, 3)}; `hcl extract {shlex.quote(dataset)}` looks at those whose "
            "files are there, and extracts again what is wrong"
        )
        notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)
    warnings = found.warnings()
    for warning in warnings:
        notes.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)
    for video, why in islice(((one, why) for part in found.partitions for one, why in part.broken.items()), 3):
        notes.print(f"  {escape(video.key)}: {escape(why)}")
    for path in keep_names(stored, found):
        notes.print(f"  names: {escape(str(path))}", soft_wrap=True)
    if strict and warnings:
        raise DataError(
            f"{len(warnings)} warnings, and the check is strict; the effective split has been left as it was",
            where=f"{data}/splits/{dataset}",
            remedy="find what is missing, or check without --strict",
        )
    if found.is_extracted:
        for name, partition in keep_effective(stored, found).items():
            out.print(f"effective {name}: {len(partition.videos):,} videos, digest {partition.digest()}")
    else:
        n_waiting = sum(len(part.waiting) for part in found.partitions)
        extract = f"hcl extract {shlex.quote(dataset)} --data {shlex.quote(str(data))}"
        text = f"{n_waiting:,} videos have no frames yet: the effective split is known after `{extract}`"
        notes.print(f"[yellow]note[/] {escape(text)}; then check again", soft_wrap=True)


def tell_copies(part: PartitionCheck) -> None:
    """Name the copies in a partition, each with the video that is used in its place."""
    if part.copies:
        pairs = [f"{video.key} = {one.video.key} ({one.partition})" for video, one in list(part.copies.items())[:10]]
        more = f" and {len(part.copies) - 10:,} more" if len(part.copies) > 10 else ""
        text = f"{part.listed.name}: {len(part.copies):,} videos are copies and left out: {', '.join(pairs)}{more}"
        notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)

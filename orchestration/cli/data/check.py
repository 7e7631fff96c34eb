"""List data sets, and check whether one is complete: `hcl data list` and `hcl data check`."""

from __future__ import annotations

import shlex
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hcl.errors import DataError
from hcl.files.names import some
from orchestration.cli.options import DATA, Address, Data, Fits, Set, experiment_for
from orchestration.cli.shell import completion
from orchestration.cli.shell.json_option import with_json
from orchestration.console import add_json, notes, out, print_rows

if TYPE_CHECKING:
    from hcl.frames.checking import PartitionCheck


@with_json
def list_datasets(data: Data = DATA) -> None:
    """List the named data sets: their expected content, the place of their videos, and where to obtain them.

    A data set of your own is a file DATA/datasets/NAME.yaml of the same form; without that file it consists of its
    lists only.

    \b
    hcl data list
    """
    from hcl.frames.stored_dataset import DataRoot

    opened, rows = DataRoot(data), []
    cards = {name: opened.dataset(name).card for name in opened.names()}
    for name, card in cards.items():
        counts = [
            f"{part} {counts_of_part.classes} / {counts_of_part.videos:,}"
            for part, counts_of_part in card.partitions.items()
        ]
        flips = {True: "safe", False: "left and right are classes", None: ""}[card.flips_are_safe]
        rows.append([name, card.title, ", ".join(counts), " ".join(card.extensions), flips])
    described = [card.model_dump(mode="json") for card in cards.values()]
    print_rows(["data set", "title", "classes / videos", "files", "flips"], rows, name="datasets", records=described)
    for name, card in cards.items():
        out.print(escape(f"{name}: {', '.join(card.videos).replace('{dataset}', name)}"), soft_wrap=True)
        if card.obtain:
            out.print(escape(f"  {card.obtain}"), soft_wrap=True)


@with_json
def check(
    dataset: Annotated[
        str, typer.Argument(help="A data set with lists under DATA/splits.", autocompletion=completion.datasets)
    ],
    data: Data = DATA,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 for missing or broken videos and for wrong counts.")
    ] = False,
    min_frames: Annotated[int, typer.Option(min=1, help="Videos with fewer frames are reported as short.")] = 8,
    open_files: Annotated[
        bool,
        typer.Option(
            "--open-files",
            help="Read one frame of every file that is not extracted yet, and all extracted frames that are files.",
        ),
    ] = False,
    fits: Fits = None,
    settings: Set = None,
    address: Address = None,
) -> None:
    """Check a data set against its lists, and write the effective split that training and evaluation use.

    Classes must be disjoint, lists must agree with class files, and each listed video must exist, as a file or as
    frames. Missing and broken videos are warnings, with a file of their names. Once every existing video has been
    extracted, the effective split is written to DATA/splits/DATASET/effective.json. From then on `hcl train` and `hcl
    evaluate` use exactly its videos and name those that they leave out, and each record carries its digest. Without it
    they stop at the first missing video. Repeat the check when lists or videos have changed.

    Videos with the same frames as another one are reported together with it. Only one of them is used, that of test
    before val before train, so that no episode has one video as support and query, and none is both trained on and
    tested. They do not fail a strict check. --set data.keep_copies=true uses all, and so do the published protocols.

    The last line says what an experiment can ask of this data set. With --for EXPERIMENT everything that this
    experiment asks for and the data set or this machine does not have is named at once, with the settings that mend it.

    \b
    hcl data check mine
    hcl data check mine --for metaworld_cpu
    hcl data check hmdb51 --open-files --strict
    """
    from hcl.frames.checking import check_dataset, keep_effective, keep_names
    from hcl.frames.stored_dataset import StoredDataset
    from orchestration.extraction.open_files import unreadable

    chosen = experiment_for(fits, settings)
    opened = (lambda files: unreadable(files, address=address)) if open_files else None
    stored = StoredDataset(data, dataset)
    checked = check_dataset(stored, min_frames=min_frames, open_files=opened)
    rows = []
    for part in checked.partitions:
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
    title = f"{dataset}: {checked.card.title}" if checked.card.title else dataset
    counted = [_counts(part) for part in checked.partitions]
    print_rows(list(rows[0]), [row.values() for row in rows], title, name="partitions", records=counted)
    add_json("warnings", checked.warnings())
    for part in checked.partitions:
        if part.short:
            names = ", ".join(f"{video.key} ({n})" for video, n in list(part.short.items())[:3])
            text = f"{part.listed.name}: {len(part.short):,} videos have fewer than {min_frames} frames: {names}"
            notes.print(f"[yellow]note[/] {escape(text)}; their clips repeat frames", soft_wrap=True)
        tell_copies(part)
    for note in checked.notes:
        notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    if checked.unconfirmed:
        text = (
            f"{len(checked.unconfirmed):,} videos were extracted by an earlier version, which stored interlaced videos "
            f"as black frames: {some(checked.unconfirmed, 3)}; `hcl extract {shlex.quote(dataset)}` checks those whose "
            "files exist, and extracts wrong ones again"
        )
        notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)
    warnings = checked.warnings()
    for warning in warnings:
        notes.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)
    for video, why in islice(((video, why) for part in checked.partitions for video, why in part.broken.items()), 3):
        notes.print(f"  {escape(video.key)}: {escape(why)}")
    for path in keep_names(stored, checked):
        notes.print(f"  names: {escape(str(path))}", soft_wrap=True)
    if strict and warnings:
        raise DataError(
            f"{len(warnings)} warnings, and the check is strict; the effective split was not changed",
            where=f"{data}/splits/{dataset}",
            remedy="add the missing videos, or check without --strict",
        )
    if checked.is_extracted:
        for name, partition in keep_effective(stored, checked).items():
            add_json("effective", [{"partition": name, "videos": len(partition.videos), "digest": partition.digest()}])
            out.print(f"effective {name}: {len(partition.videos):,} videos, digest {partition.digest()}")
    else:
        n_waiting = sum(len(part.waiting) for part in checked.partitions)
        extract = f"hcl extract {shlex.quote(dataset)} --data {shlex.quote(str(data))}"
        text = f"{n_waiting:,} videos have no frames yet: the effective split can be written after `{extract}`"
        notes.print(f"[yellow]note[/] {escape(text)}; then check again", soft_wrap=True)
    from orchestration.planning.data_fit import limits_text, tell_fit

    out.print(limits_text(checked), soft_wrap=True, highlight=False)
    if chosen is not None:
        tell_fit(chosen, checked, data, address)
        out.print(escape(f"{fits} fits {dataset}"), soft_wrap=True)


def _counts(part: PartitionCheck) -> dict[str, Any]:
    """Return the numbers of a partition's row; without a card's count of classes or videos, that is None."""
    due, listed = part.expected, part.listed
    return {
        "partition": listed.name,
        "classes": len(listed.classes),
        "expected_classes": due and due.classes,
        "listed": len(listed.videos),
        "expected_videos": due and due.videos,
        "present": part.n_present,
        "not_extracted": len(part.waiting),
        "missing": len(part.missing),
        "short": len(part.short),
        "broken": len(part.broken),
        "copies": len(part.copies),
    }


def tell_copies(part: PartitionCheck) -> None:
    """Print the copies in a partition, each with the video that is used in its place."""
    if part.copies:
        pairs = [
            f"{video.key} = {original.video.key} ({original.partition})"
            for video, original in list(part.copies.items())[:10]
        ]
        more = f" and {len(part.copies) - 10:,} more" if len(part.copies) > 10 else ""
        text = f"{part.listed.name}: {len(part.copies):,} videos are copies and left out: {', '.join(pairs)}{more}"
        notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True)

"""Extract frames: `hcl extract`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import DATA, Address, Data
from orchestration.cli.shell import completion
from orchestration.console import notes, out


def extract(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A folder under DATA/videos, with its lists under DATA/splits.", autocompletion=completion.datasets
        ),
    ],
    data: Data = DATA,
    actors: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once; default: one per CPU.")] = None,
    short_side: Annotated[
        int, typer.Option(min=0, help="Shrink frames to this short side in pixels; 0 keeps them.")
    ] = 256,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 90,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Number of frames to keep, spread evenly over each video; default: all.")
    ] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one video may take.")] = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Retry broken videos.")] = False,
    address: Address = None,
) -> None:
    """Extract the frames of a data set with Ray actors; a repeated call does only missing or changed videos.

    A video that cannot be decoded, or takes longer than its limit, costs a row of the manifest and is named; the others
    continue. OpenCV decodes the videos; PyAV decodes those that OpenCV does not read, or not correctly, such as
    interlaced ones. Frames of 640 x 480 take about a quarter of the space that they would take at full size and quality
    95.

    \b
    hcl extract mine
    hcl extract hmdb51 --data /datasets/hcl --short-side 224
    """
    from hcl.frames.stored_dataset import StoredDataset
    from orchestration.extraction.extract import extract_dataset

    summary = extract_dataset(
        StoredDataset(data.absolute(), dataset),
        actors=actors,
        short_side=short_side,
        quality=quality,
        n_frames=frames,
        time_limit_s=time_limit,
        retry_failed=retry_failed,
        address=address,
    )
    again = f" ({summary.n_confirmed} of an earlier version, checked again)" if summary.n_confirmed else ""
    counts = f"{summary.n_ok} extracted, {summary.n_skipped} there already{again}, {summary.n_broken} broken"
    counts += f", {summary.n_timeout} timed out, {summary.n_missing} missing of {summary.n_listed} videos"
    rate = f"; {summary.n_frames} frames, {summary.n_bytes / 1e6:.1f} MB, {summary.videos_per_second:.1f} videos/s"
    out.print(f"{escape(dataset)}: {counts}{rate if summary.n_frames else ''}", soft_wrap=True)
    for note in summary.notes:
        notes.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    for record in summary.failed[:10]:
        notes.print(f"  {record.status}: {escape(record.key)}: {escape(record.error or '')}", soft_wrap=True)
    if len(summary.failed) > 10:
        notes.print(escape(f"  ... and {len(summary.failed) - 10} more in {data}/images/{dataset}/manifest.parquet"))

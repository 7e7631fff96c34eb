"""`hcl data ...` and `hcl extract`: videos, lists and frames."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from hcl.errors import ConfigError
from orchestration.cli.options import DATA, Address, Data
from orchestration.console import notes, out

app = typer.Typer(help="Make and inspect data sets.", no_args_is_help=True)


@app.command("synth")
def synth(
    data: Data = DATA,
    videos_per_class: Annotated[int, typer.Option(min=2, help="Videos of each of the 36 classes.")] = 16,
    size: Annotated[int, typer.Option(min=32, help="Side of a frame in pixels.")] = 96,
    seed: Annotated[int, typer.Option(help="Everything about a video follows from it.")] = 0,
    domain: Annotated[
        list[str] | None, typer.Option(help="plain, textured, cluttered, dim or shaky; repeatable. Default: all five.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace videos made with other options.")] = False,
) -> None:
    """Make the synthetic benchmark: real video files of 36 actions in five visual domains, with splits."""
    from hcl.synthetic import ACTIONS, DOMAINS, make_benchmark
    from orchestration.runtime import progress

    domains = tuple(domain or DOMAINS)
    if unknown := [name for name in domains if name not in DOMAINS]:
        raise ConfigError(f"unknown domain {unknown[0]!r}", where="--domain", remedy=f"one of {', '.join(DOMAINS)}")
    with progress(len(domains) * len(ACTIONS) * videos_per_class, "make videos", "videos") as advance:
        made = make_benchmark(
            data,
            domains=domains,
            videos_per_class=videos_per_class,
            size=size,
            seed=seed,
            overwrite=overwrite,
            on_video=lambda done, total: advance(),
        )
    for name, dataset in made.items():
        out.print(
            f"{name}: {dataset.n_videos} videos of {dataset.n_classes} classes in {dataset.videos}", soft_wrap=True
        )


def extract(
    dataset: Annotated[str, typer.Argument(help="A folder under DATA/videos, with its lists under DATA/splits.")],
    data: Data = DATA,
    actors: Annotated[int | None, typer.Option(min=1, help="Videos decoded at once; default: one a CPU.")] = None,
    short_side: Annotated[
        int, typer.Option(min=0, help="Shrink frames to this short side in pixels; 0 keeps them.")
    ] = 256,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 90,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that one video may take.")] = 600.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try broken videos again.")] = False,
    address: Address = None,
) -> None:
    """Frames of a data set, by Ray actors; repeated, it does only what is missing or has changed."""
    from orchestration.extract import extract_dataset

    summary = extract_dataset(
        data,
        dataset,
        actors=actors,
        short_side=short_side,
        quality=quality,
        time_limit_s=time_limit,
        retry_failed=retry_failed,
        address=address,
    )
    counts = f"{summary.n_ok} extracted, {summary.n_skipped} there already, {summary.n_broken} broken"
    counts += f", {summary.n_timeout} timed out, {summary.n_missing} missing of {summary.n_listed} videos"
    rate = f"; {summary.n_frames} frames, {summary.n_bytes / 1e6:.1f} MB, {summary.videos_per_second:.1f} videos/s"
    out.print(f"{escape(dataset)}: {counts}{rate if summary.n_frames else ''}", soft_wrap=True)
    for record in summary.failed[:10]:
        notes.print(f"  {record.status}: {escape(record.key)}: {escape(record.error or '')}", soft_wrap=True)
    if len(summary.failed) > 10:
        notes.print(f"  ... and {len(summary.failed) - 10} more in {data}/images/{dataset}/manifest.parquet")

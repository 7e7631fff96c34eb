"""Make the synthetic benchmark: `hcl data synth`."""

from __future__ import annotations

from typing import Annotated

import typer

from hcl.errors import ConfigError, did_you_mean
from orchestration.cli.options import DATA, Data
from orchestration.console import out


def synth(
    data: Data = DATA,
    videos_per_class: Annotated[int, typer.Option(min=2, help="Videos of each of the 36 classes.")] = 16,
    size: Annotated[int, typer.Option(min=32, help="Side of a frame in pixels.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed that determines all videos.")] = 0,
    domain: Annotated[
        list[str] | None, typer.Option(help="plain, textured, cluttered, dim or shaky; repeatable. Default: all five.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace videos made with other options.")] = False,
) -> None:
    """Make the synthetic benchmark: real video files of 36 actions in five visual domains, with splits.

    \b
    hcl data synth
    hcl data synth --domain plain --videos-per-class 8
    """
    from hcl.synthetic.benchmark import ACTIONS, DOMAINS, make_benchmark
    from orchestration.runtime.progress import progress

    domains = tuple(domain or DOMAINS)
    if unknown := [name for name in domains if name not in DOMAINS]:
        problem = f"unknown domain {unknown[0]!r}{did_you_mean(unknown[0], DOMAINS)}"
        raise ConfigError(problem, where="--domain", remedy=f"one of {', '.join(DOMAINS)}")
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

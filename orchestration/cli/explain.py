"""`hcl explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hcl.resolve import load_resolved, override
from orchestration.cli.options import DATA, RUNS, Data, Runs, Set, run_folder
from orchestration.console import out


def explain(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name under RUNS.")],
    query: Annotated[str, typer.Option(help="CLASS/VIDEO, or a video's name, of the test partition.")],
    support: Annotated[
        list[str] | None, typer.Option(help="CLASS/VIDEO of a support clip; repeatable. Default: drawn by --seed.")
    ] = None,
    shot: Annotated[int, typer.Option(min=1, help="Support clips a class, where they are drawn.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the episode that is drawn.")] = 0,
    data: Data = DATA,
    runs: Runs = RUNS,
    settings: Set = None,
    to: Annotated[Path | None, typer.Option(help="The picture (PNG). Default: explanations/ in the run.")] = None,
) -> None:
    """Draw what a query was matched with: its own class, and below it the best of the other classes.

    Query frames stand above, support frames below. Outlined patches were kept by the spatial level, from yellow to
    red by how many of the zoomed tuples kept them; the rest is dimmed. Lines join the frames of the three best tuples,
    with their similarity. --set evaluation.partition=val explains a validation video.
    """
    from orchestration.cli.evaluate import evaluation_settings
    from orchestration.explain import explain as explain_query

    folder = run_folder(run, runs)
    experiment = override(load_resolved(folder / "experiment.yaml"), evaluation_settings(settings))
    found = explain_query(
        folder, experiment, query, data_root=data, runs=runs, support=support or (), shot=shot, seed=seed, to=to
    )
    verdict = "right" if found.is_right else "wrong"
    ranked = ", ".join(f"{name} {score:.3f}" for name, score in found.scores)
    out.print(escape(f"{found.query}: taken for {found.scores[0][0]} ({verdict}); {ranked}"), soft_wrap=True)
    out.print(escape(f"picture: {found.picture}"), soft_wrap=True)

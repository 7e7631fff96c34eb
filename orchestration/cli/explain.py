"""Explain queries: `hcl explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hcl.assembly.experiment_files import load_resolved
from hcl.config.resolve import override
from hcl.errors import ConfigError
from orchestration.cli.options import RUNS, DataOfRun, Runs, Set, command_line, tell_unfinished
from orchestration.console import out
from orchestration.storage.data_roots import data_of
from orchestration.storage.run_folders import run_folder

if TYPE_CHECKING:
    from orchestration.evaluation.explain import Explained


def explain(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name under RUNS.")],
    query: Annotated[
        str | None, typer.Option(help="CLASS/VIDEO, or a video's name, in the test partition.", show_default=False)
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=50,
            metavar="N",
            help="Explain N right and N wrong queries of the evaluation.",
            show_default=False,
        ),
    ] = None,
    support: Annotated[
        list[str] | None, typer.Option(help="CLASS/VIDEO of a support clip; repeatable. Default: drawn by --seed.")
    ] = None,
    shot: Annotated[
        int | None, typer.Option(min=1, help="Support clips per class. Default: 1, or the evaluation's fewest.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn episode or examples.")] = 0,
    data: DataOfRun = None,
    runs: Runs = RUNS,
    settings: Set = None,
    to: Annotated[Path | None, typer.Option(help="PNG file for --query. Default: explanations/ in the run.")] = None,
) -> None:
    """Draw the matches of a query: with its own class, and below that with the best of the other classes.

    Query frames are above, support frames below. Outlined patches were kept by the spatial level, from yellow to red by
    the number of zoomed tuples that kept them; the rest is dimmed. Lines join the frames of the three best tuples, with
    their similarity. --set evaluation.partition=val explains a validation video.

    --examples N uses N right and N wrong queries of the run's evaluation, each in its episode there. `hcl report` shows
    the pictures in the run's explanations/.
    """
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.evaluation.explain import Explainer
    from orchestration.evaluation.targets import evaluation_settings

    if (query is None) == (examples is None):
        raise ConfigError(
            "exactly one of the two is needed", where="--query and --examples", remedy="--query CLASS/VIDEO"
        )
    if examples is not None and (support or to):
        raise ConfigError("need a single query", where="--support and --to", remedy="leave them out, or use --query")
    folder = run_folder(run, runs)
    tell_unfinished(folder)
    experiment = override(load_resolved(folder / "experiment.yaml"), evaluation_settings(settings))
    explainer = Explainer(folder, experiment, data=DataRoot(data_of([folder], data)), command=command_line())
    if examples is not None:
        for explained in explainer.examples(examples, shot=shot, seed=seed):
            _tell(explained)
    elif query is not None:
        _tell(explainer.explain(query, support=support or (), shot=shot or 1, seed=seed, to=to))


def _tell(explained: Explained) -> None:
    verdict = "right" if explained.is_right else "wrong"
    ranked = ", ".join(f"{name} {score:.3f}" for name, score in explained.scores)
    out.print(escape(f"{explained.query}: taken for {explained.scores[0][0]} ({verdict}); {ranked}"), soft_wrap=True)
    out.print(escape(f"picture: {explained.picture}"), soft_wrap=True)

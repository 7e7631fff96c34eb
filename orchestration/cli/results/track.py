"""Send records to MLflow: `hcl results track`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from orchestration.cli.options import RUNS, Runs
from orchestration.cli.results.export import Chosen, load_chosen
from orchestration.cli.results.listing import tell_skipped
from orchestration.console import out


def track(
    run: Chosen = None,
    runs: Runs = RUNS,
    to: Annotated[
        str, typer.Option(metavar="URI", help="An MLflow server (http://HOST:PORT), or sqlite:///FILE.")
    ] = "",
    experiment: Annotated[
        str, typer.Option(help="MLflow's experiment, which groups runs; created if missing.")
    ] = "hcl",
) -> None:
    """Push records to an MLflow server: settings, metrics of every epoch, accuracies, studies with their trials.

    The command may be repeated at any time: it sends only what the server does not have, and deletes nothing. Training
    does not need the server. The extra `mlflow` is required. TensorBoard needs no push: `tensorboard --logdir runs`
    reads the events that training writes into each run's folder.

    \b
    hcl results track --to http://localhost:5000
    hcl results track 'runs/ssv2*' --to sqlite:///mlflow.db
    """
    from orchestration.reports.tracking import push
    from results.exports.tracked import tracked_runs, tracked_studies

    if not to:
        raise typer.BadParameter("give an MLflow server, such as --to http://localhost:5000", param_hint="--to")
    loaded = load_chosen(run, runs)
    entries = [*tracked_runs(loaded), *tracked_studies(loaded)]
    pushed = push(entries, to, experiment)
    n_new, n_metrics = sum(entry.is_new for entry in pushed), sum(entry.n_metrics for entry in pushed)
    out.print(
        f"{len(pushed)} runs and trials in {escape(experiment)} at {escape(to)}: {n_new} new, "
        f"{n_metrics:,} values sent",
        soft_wrap=True,
        highlight=False,
    )
    tell_skipped(loaded.skipped)

"""`hcl fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.markup import escape

from hcl.config.resolve import load_resolved, override
from orchestration.cli.options import (
    DATA,
    RUNS,
    Address,
    Data,
    Restart,
    Runs,
    Set,
    command_line,
    run_folder,
    tell_unfinished,
)
from orchestration.console import out, percent, print_rows, show_records
from search_spaces import load_space


def fuse(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name under RUNS.")],
    data: Data = DATA,
    runs: Runs = RUNS,
    space: Annotated[str, typer.Option(help="A YAML file, or a shipped one (`hcl config list`).")] = "fusion",
    trials: Annotated[int, typer.Option(min=1, help="Trials of the search.")] = 5000,
    seed: Annotated[int, typer.Option(help="Of the sampler.")] = 0,
    settings: Set = None,
    restart: Restart = False,
    address: Address = None,
) -> None:
    """Choose the weights of the levels on val, without training; then report test once.

    No pair is scored in a trial: val's score table is made once, and a trial is a look-up. The choice is written to
    fusion.yaml in the run's folder; `hcl evaluate RUN --fused` takes it. Test is reported beside the run's own
    weights, the published ones and each level by itself, with the paired difference to the published weights.

    --set takes evaluation.* (the shots to choose for: --set evaluation.shots=[5]) and settings of the machine.
    """
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.cli.evaluate import evaluation_settings
    from orchestration.evaluation.fuse import FUSED, evaluate_fusion, search_fusion
    from results.records.store import load
    from results.tables.comparison import comparison_table

    folder = run_folder(run, runs)
    tell_unfinished(folder)
    experiment = override(load_resolved(folder / "experiment.yaml"), evaluation_settings(settings))
    opened = DataRoot(data.absolute())
    found = search_fusion(
        folder, experiment, data=opened, runs=runs, space=load_space(space), n_trials=trials, seed=seed,
        restart=restart, address=address,
    )  # fmt: skip
    rate = found.n_trials / max(found.seconds, 1e-9)
    out.print(f"{found.n_trials:,} trials on val in {found.seconds:.1f} s: {rate:,.0f} a second", highlight=False)
    shown = ", ".join(f"{path}={value}" for path, value in found.settings.items())
    out.print(f"chosen: {escape(shown)}", soft_wrap=True, highlight=False)
    out.print(f"val, mean over shots: {percent(found.value)}, published weights {percent(found.published)}")
    records = evaluate_fusion(
        folder, experiment, data=opened, runs=runs, address=address, command=command_line(), on_cell=show_records
    )
    frame = load(folder).evaluations
    asked = {one.episodes_digest for one in records[FUSED]}
    frame = frame[(frame["partition"] == "test") & frame["episodes_digest"].isin(asked)]
    chosen, published = (frame[frame["method"] == name] for name in (FUSED, "hcl published weights"))
    table: pd.DataFrame = comparison_table(chosen, published, names=("fused on val", "published weights"))
    print_rows(table)

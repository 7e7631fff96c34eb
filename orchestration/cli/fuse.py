"""Search the fusion of the levels: `hcl fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hcl.assembly.experiment_files import load_resolved
from hcl.config.resolve import override
from orchestration.cli.options import RUNS, Address, DataOfRun, Restart, Runs, Set, command_line, tell_unfinished
from orchestration.console import out, percent, print_frame, show_records
from orchestration.storage.data_roots import data_of
from orchestration.storage.run_folders import run_folder
from search_spaces import load_space


def fuse(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its name under RUNS.")],
    data: DataOfRun = None,
    runs: Runs = RUNS,
    space: Annotated[str, typer.Option(help="A YAML file, or a shipped one (`hcl config list`).")] = "fusion",
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of the search.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    settings: Set = None,
    restart: Restart = False,
    address: Address = None,
) -> None:
    """Choose the weights of the levels on val, without training; then evaluate them on test once.

    No pair is scored in a trial: val's score table is computed once, and a trial only looks scores up. The choice is
    written to fusion.yaml in the run's folder, which `hcl evaluate RUN --fused` uses. Test accuracies are reported for
    it, the run's own weights, the published ones and each level by itself, with the paired difference to the published
    weights.

    --set takes evaluation.* (for instance the shots to choose for: --set evaluation.shots=[5]) and settings of the
    machine.
    """
    from hcl.frames.stored_dataset import DataRoot
    from orchestration.evaluation.fuse import FUSED, evaluate_fusion, search_fusion
    from orchestration.evaluation.targets import evaluation_settings
    from results import load
    from results.tables.comparison import comparison_table

    folder = run_folder(run, runs)
    tell_unfinished(folder)
    experiment = override(load_resolved(folder / "experiment.yaml"), evaluation_settings(settings))
    opened = DataRoot(data_of([folder], data).absolute())
    search = search_fusion(
        folder, experiment, data=opened, runs=runs, space=load_space(space), n_trials=trials, seed=seed,
        restart=restart, address=address,
    )  # fmt: skip
    rate = search.n_trials / max(search.seconds, 1e-9)
    out.print(f"{search.n_trials:,} trials on val in {search.seconds:.1f} s: {rate:,.0f} a second", highlight=False)
    shown = ", ".join(f"{path}={value}" for path, value in search.settings.items())
    out.print(f"chosen: {escape(shown)}", soft_wrap=True, highlight=False)
    out.print(f"val, mean over shots: {percent(search.value)}, published weights {percent(search.published)}")
    records = evaluate_fusion(
        folder, experiment, data=opened, runs=runs, address=address, command=command_line(), on_cell=show_records
    )
    frame = load(folder).evaluations
    digests = {record.episodes_digest for record in records[FUSED]}
    frame = frame[(frame["partition"] == "test") & frame["episodes_digest"].isin(digests)]
    chosen, published = (frame[frame["method"] == name] for name in (FUSED, "hcl published weights"))
    print_frame(comparison_table(chosen, published, names=("fused on val", "published weights")))

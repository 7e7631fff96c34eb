"""Show a plan of work on a cluster as a table, with the costs on which it is based."""

from __future__ import annotations

from dataclasses import asdict

from cluster.plan import Plan, Task, UnitCosts
from orchestration.console import add_json, out, print_rows
from results.records.moments import duration


def show_plan(made: Plan, costs: UnitCosts, task: Task, *, n_nodes: int, per_node: int) -> None:
    out.print(
        f"measured: {costs.clip_s:.3g} s a clip and {costs.val_s:.3g} s a validation, for one worker; "
        + (f"{costs.pair_s:.3g} s a pair of clips, encoded and scored" if costs.pair_s else "nothing was evaluated"),
        soft_wrap=True,
        highlight=False,
    )
    rows = (
        ("trials at once", f"{made.concurrency}", f"{n_nodes} nodes x {per_node}, limited by {made.limited_by}"),
        ("one trial", duration(made.trial_s), f"{task.workers} workers, {task.epochs} epochs and a start"),
        ("the study", duration(made.study_s), f"{task.n_trials} trials in {made.rounds} rounds, none stopped early"),
        (
            "the evaluation",
            duration(made.evaluation_s) if made.evaluation_s is not None else "not measured",
            f"{task.n_datasets} data sets of {task.n_clips} clips, {n_nodes * per_node} actors",
        ),
        ("runs", size(made.study_bytes), f"{task.n_trials} trials of {size(costs.run_bytes)}"),
        (
            "features",
            size(made.feature_bytes) if costs.feature_bytes is not None else "not measured",
            "removed after the evaluation with evaluation.keep_features=false",
        ),
        (
            "score tables",
            size(made.table_bytes) if costs.table_bytes is not None else "not measured",
            f"{task.n_datasets} tables",
        ),
    )
    add_json("costs", asdict(costs))
    print_rows(["what", "how much", "of what"], rows, name="plan", records=[asdict(made)])


def size(n_bytes: float) -> str:
    """Return a size as text: `3.2 MB`, `1.5 GB`, `2.0 TB`."""
    for unit, divisor in (("TB", 1e12), ("GB", 1e9)):
        if n_bytes >= divisor:
            return f"{n_bytes / divisor:.1f} {unit}"
    return f"{n_bytes / 1e6:.1f} MB"

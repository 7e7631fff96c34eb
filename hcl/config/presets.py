"""Settings in groups of another kind: what a mode or a protocol presets, what leaves the results alone."""

from __future__ import annotations

from typing import Any

MACHINE_SETTINGS: Any = {
    "name": True,
    "data": {"cache_dir", "cache_gb"},
    "train": {
        "workers",
        "min_workers",
        "cpus_per_worker",
        "loader_processes",
        "prefetch",
        "use_gpu",
        "recompute_backbone",
        "checkpoint_every",
    },
    "matching": {"chunk_size"},
    "evaluation": {"keep_features"},
}
"""What changes how an experiment is run and not what comes out.

Recomputing the backbone gives the same gradients bit for bit, so it stands here. `train.precision`, `channels_last` and
`compile` do not: they round differently, which after a thousand steps is another model. Processors and GPUs round
differently, too, but no setting names them: `train.use_gpu` stands here. `train.workers` counts all the same where
batch norm makes it show (`Experiment.depends_on_workers`).
"""

ADDED: dict[str, dict[str, Any]] = {"data": {"keep_copies": False}}
"""Settings that earlier versions did not have, by section, with the values that leave a digest as it was with them."""

PUBLISHED: dict[str, Any] = {
    # What `mode: published` sets beneath the experiment's own values: METHOD's rows marked P.
    "clips.resize": "squash",
    "clips.train_sampling": "random",
    "clips.test_sampling": "random",
    "clips.flip": True,
    "clips.per_frame": True,
    "matching.project_at_test": False,
    "matching.reproject_per_size": True,
    "matching.mix_scales": True,
    "matching.swap_shot_axes": True,
    "matching.misplaced_training_semantics": True,
    "matching.leaking_semantics": True,
    "loss.keep_anchor": True,
    "evaluation.overlapping": True,
}

PUBLISHED_EVALUATION: dict[str, Any] = {
    # What `hcl evaluate --protocol published` sets, to compare with the printed results.
    "evaluation.protocol": "published",
    "evaluation.partition": "test",
    "evaluation.way": 5,
    "evaluation.queries": 5,
    "evaluation.episodes": 3000,
    "evaluation.overlapping": True,
    "evaluation.views": 1,
    "clips.test_sampling": "random",
    "matching.metric": "auto",
}

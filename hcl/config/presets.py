"""List groups of settings: those that a mode or a protocol presets, and those that do not affect results."""

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
"""Settings that change the execution of an experiment and not its results.

Recomputing the backbone gives the same gradients bit for bit, so it is listed here. `train.precision`, `channels_last`
and `compile` are not: they round differently, which gives another model after a thousand steps. CPUs and GPUs round
differently too, but no setting names their models, so `train.use_gpu` is listed. `train.workers` counts nevertheless if
batch norm makes results depend on it (`Experiment.depends_on_workers`).
"""

ADDED: dict[str, dict[str, Any]] = {
    "data": {"keep_copies": False},
    "clips": {"augmentation": "none"},
    "model": {"tune": "stages", "tune_rank": 8, "tune_targets": "attention"},
    "optim": {"factors": []},
    "evaluation": {"method": "none"},
}
"""Settings that earlier versions did not have, by section, with the values that keep the digests of those versions."""

PUBLISHED: dict[str, Any] = {
    # `mode: published` sets these defaults, which the experiment's own values override: METHOD's rows marked P.
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
    "loss.cycle_temperature": 1.0,
    "evaluation.overlapping": True,
}

PUBLISHED_EVALUATION: dict[str, Any] = {
    # `hcl evaluate --protocol published` sets these, to compare with the printed results.
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

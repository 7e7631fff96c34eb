"""Name the methods that can be evaluated for a run, without their imports."""

from __future__ import annotations

from hcl.evaluation.matcher_names import FRAME_MATCHERS

METHODS = {
    "hcl": "the run's best checkpoint, or the one that was given",
    "untrained": "the same model before training: pretrained backbone, random heads",
    "random": "the same model with random weights everywhere",
    "prototype": "the backbone's frame features in order, without training: nearest class mean",
    **FRAME_MATCHERS,
}
"""Methods by their names in records; the others are compared with `hcl`.

A run of another regime has that regime's name in place of `hcl`: see `orchestration.evaluation.methods.methods_of`.
"""

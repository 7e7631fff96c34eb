"""What can be evaluated of a run: names of methods, and what each means for an experiment."""

from __future__ import annotations

from hcl import arguments
from hcl.config import Experiment
from hcl.frame_matchers import FRAME_MATCHERS, FrameMatching
from hcl.methods import HierarchicalMatching, Method, OrderedPrototype, PooledHead

METHODS = {
    "hcl": "the run's best checkpoint, or the one that was named",
    "untrained": "the same model before training: pretrained backbone, random heads",
    "random": "the same model with random weights everywhere",
    "prototype": "the backbone's frame features in order, without learning: nearest class mean",
    **FRAME_MATCHERS,
}
"""The method's name in records; `hcl` marks what the others are compared with.

A run of another regime has that regime's name in the place of `hcl`: see `methods_of`.
"""


def methods_of(experiment: Experiment) -> tuple[str, ...]:
    """What can be evaluated of a run of this experiment; first its checkpoint by its own regime's matcher."""
    return (experiment.train.regime, *(name for name in METHODS if name != "hcl"))


def method_of(name: str, experiment: Experiment) -> Method:
    """How a method of `methods_of` compares clips."""
    if name == "prototype":
        return OrderedPrototype()
    if name in FRAME_MATCHERS:
        return FrameMatching(name, experiment.seed)
    if experiment.train.regime != "hcl":
        return PooledHead()
    half = experiment.evaluation.precision == "bfloat16"
    return HierarchicalMatching(arguments.test_matcher(experiment), arguments.sigmas_of_fusion(experiment), half)


def is_trained(name: str, experiment: Experiment) -> bool:
    """Whether a method reads the run's checkpoint; the others have initial weights."""
    return name == experiment.train.regime or name in FRAME_MATCHERS

"""What can be evaluated of a run: names of methods, and what each means for an experiment."""

from __future__ import annotations

import hashlib
import json

from hcl.assembly.regimes import parts_of
from hcl.config import PUBLISHED_EVALUATION, Experiment
from hcl.config.resolve import changes
from hcl.evaluation.frame_matchers import FRAME_MATCHERS, FrameMatching
from hcl.evaluation.methods import Method, OrderedPrototype

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
    return parts_of(experiment).method(experiment)


def is_trained(name: str, experiment: Experiment) -> bool:
    """Whether a method reads the run's checkpoint; the others have initial weights."""
    return name == experiment.train.regime or name in FRAME_MATCHERS


_QUESTION = {
    f"evaluation.{name}"
    for name in ("datasets", "partition", "way", "shots", "queries", "episodes", "seed", "overlapping", "protocol",
                 "keep_features")
}  # fmt: skip
"""What is asked; all else is how it is answered."""
_OF_MATCHING = ("fusion.", "matching.", "evaluation.precision")  # read by what `method_of` gives and by nothing else


def named(name: str, method: str, own: Experiment, asked: Experiment) -> str:
    """`name`, and in brackets the settings that are not the run's own: `hcl (sigma_spatial=0.0)`.

    Args:
        method: of `methods_of(asked)`, which tells the settings that count.
        own, asked: the experiment of the run, and the one that it is evaluated with.
    """
    settings = _settings(method, own, asked)
    if not settings:
        return name
    said = [f"{path.rpartition('.')[2]}={_value(value)}" for path, value in settings.items()]
    if len(said) > 2:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]
        said = [*said[:2], f"{len(said) - 2} more: {digest}"]
    return f"{name} ({', '.join(said)})"


def plain_name(name: str) -> str:
    """What `named` was given."""
    return name.partition(" (")[0]


def _settings(method: str, own: Experiment, asked: Experiment) -> dict[str, str]:
    """Those that make it another method, as JSON by dotted path."""
    changed = dict(text.split("=", 1) for text in changes(own, asked))
    preset = PUBLISHED_EVALUATION if asked.evaluation.protocol == "published" else {}
    is_matched_alike = method_of(method, own) == method_of(method, asked)
    return {
        path: value
        for path, value in changed.items()
        if path not in _QUESTION and path not in preset and not (is_matched_alike and path.startswith(_OF_MATCHING))
    }


def _value(text: str) -> str:
    value = json.loads(text)
    return value if isinstance(value, str) else text

"""Define what the methods of `method_names` mean for an experiment."""

from __future__ import annotations

import hashlib
import json

from hcl.assembly.regimes import parts_of
from hcl.config import PUBLISHED_EVALUATION, Experiment
from hcl.config.resolve import changes
from hcl.evaluation.frame_matchers import FrameMatching
from hcl.evaluation.matcher_names import FRAME_MATCHERS
from hcl.evaluation.methods import Method, OrderedPrototype
from orchestration.evaluation.method_names import METHODS


def methods_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the methods for a run of this experiment; the first is its checkpoint with its own regime's matcher."""
    own = experiment.definition("method").title
    others = (name for name in METHODS if name not in ("hcl", experiment.regime_name))
    return (experiment.regime_name, *others, *(() if own == "none" else (own,)))


def is_users_own(name: str, experiment: Experiment) -> bool:
    """Return true for the method of the user's own that `evaluation.method` names."""
    return name == experiment.definition("method").title != "none"


def method_of(name: str, experiment: Experiment) -> Method:
    """Return how a method of `methods_of` compares clips."""
    if name == experiment.regime_name:  # also where frames are matched by a method of the same name (otam)
        return parts_of(experiment).method(experiment)
    if name == "prototype":
        return OrderedPrototype()
    if name in FRAME_MATCHERS:
        return FrameMatching(name, experiment.seed)
    if is_users_own(name, experiment):
        method: Method = experiment.definition("method").implementation.make(experiment.method)
        return method
    return parts_of(experiment).method(experiment)


def is_trained(name: str, experiment: Experiment) -> bool:
    """Return whether a method reads the run's checkpoint; the others use initial weights."""
    if is_users_own(name, experiment):
        return bool(getattr(experiment.definition("method").implementation, "reads_checkpoint", True))
    return name == experiment.regime_name or name in FRAME_MATCHERS


_QUESTION = {
    f"evaluation.{name}"
    for name in ("datasets", "partition", "way", "shots", "queries", "episodes", "seed", "overlapping", "protocol",
                 "keep_features", "method")
}  # fmt: skip
"""Settings of the episodes that are evaluated; all others belong to the method."""
_OF_MATCHING = ("fusion.", "matching.", "evaluation.precision")  # read only by the methods of `method_of`


def named(name: str, method: str, own: Experiment, asked: Experiment) -> str:
    """Return `name` with the settings that differ from the run's in brackets: `hcl (sigma_spatial=0.0)`.

    Args:
        method: one of `methods_of(asked)`, which determines the settings that matter.
        own, asked: the experiment of the run, and the one with which it is evaluated.
    """
    settings = _settings(method, own, asked)
    if not settings:
        return name
    parts = [f"{path.rpartition('.')[2]}={_value(value)}" for path, value in settings.items()]
    if len(parts) > 2:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]
        parts = [*parts[:2], f"{len(parts) - 2} more: {digest}"]
    return f"{name} ({', '.join(parts)})"


def plain_name(name: str) -> str:
    """Return the name that `named` was given."""
    return name.partition(" (")[0]


def _settings(method: str, own: Experiment, asked: Experiment) -> dict[str, str]:
    """Return the settings that make it another method, as JSON by dotted path."""
    if is_users_own(method, asked):
        return _own_settings(asked)
    changed = dict(text.split("=", 1) for text in changes(own, asked))
    changed = {path: value for path, value in changed.items() if not path.startswith("method.")}
    preset = PUBLISHED_EVALUATION if asked.evaluation.protocol == "published" else {}
    is_matched_alike = method_of(method, own) == method_of(method, asked)
    return {
        path: value
        for path, value in changed.items()
        if path not in _QUESTION and path not in preset and not (is_matched_alike and path.startswith(_OF_MATCHING))
    }


def _own_settings(asked: Experiment) -> dict[str, str]:
    """Return the settings of the user's own method that differ from its defaults, as JSON by dotted path."""
    section = asked.method
    default = type(section)().model_dump(mode="json")
    values = section.model_dump(mode="json")
    return {f"method.{name}": json.dumps(value) for name, value in values.items() if value != default[name]}


def _value(text: str) -> str:
    value = json.loads(text)
    return value if isinstance(value, str) else text

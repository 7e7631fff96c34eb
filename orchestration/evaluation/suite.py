"""Read a suite: a YAML file that lists which checkpoint is evaluated on which split.

- {run: ssv2, dataset: ssv2_100_otam}
- run: runs/kinetics/checkpoints/last.pt     # cross-domain: trained on one data set, asked about another
  dataset: hmdb51
  partition: test
  settings: {evaluation.shots: [1, 5]}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from hcl.config.paths import setting_of
from hcl.config.strict_yaml import read_yaml
from hcl.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """Describe one pair of a suite.

    Attributes:
        run: a run's folder or name, or a checkpoint of a run.
        partition: the partition; None: the run's `evaluation.partition`.
        settings: overrides of evaluation settings, by dotted path.
    """

    run: Path
    dataset: str
    partition: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def read_suite(path: Path) -> list[Entry]:
    """Return the entries of a suite file, in its order. Raises ConfigError, which names the entry and the field."""
    content = read_yaml(path, str(path))
    if not isinstance(content, list) or not content:
        raise ConfigError("holds no list of pairs", where=str(path), remedy="start each with `- run: NAME`")
    return [_entry(content_of_entry, f"{path}: entry {number}") for number, content_of_entry in enumerate(content, 1)]


def _entry(content: Any, where: str) -> Entry:
    if not isinstance(content, dict):
        raise ConfigError(f"is {content!r}, expected run and dataset", where=where, remedy=_REMEDY)
    if unknown := sorted(map(str, content.keys() - _FIELDS)):
        problem = f"unknown field {unknown[0]!r}{did_you_mean(unknown[0], _FIELDS)}"
        raise ConfigError(problem, where=where, remedy=_REMEDY)
    for name in ("run", "dataset"):
        if not isinstance(content.get(name), str) or not content[name]:
            raise ConfigError(f"expected a text, got {content.get(name)!r}", where=f"{where}: {name}", remedy=_REMEDY)
    partition = content.get("partition")
    allowed = get_args(setting_of("evaluation.partition").annotation)
    if partition not in (None, *allowed):
        problem = f"got {partition!r}{did_you_mean(str(partition), allowed)}"
        raise ConfigError(problem, where=f"{where}: partition", remedy=f"one of {', '.join(allowed)}")
    settings = content.get("settings") or {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise ConfigError(
            f"expected settings by path, got {settings!r}", where=f"{where}: settings", remedy="{evaluation.shots: [1]}"
        )
    return Entry(Path(content["run"]), content["dataset"], partition, settings)


_FIELDS = ("run", "dataset", "partition", "settings")
_REMEDY = "an entry has run, dataset and, optionally, partition and settings"

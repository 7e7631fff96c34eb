"""A suite: which checkpoint is evaluated on which split, as a YAML file.

- {run: ssv2, dataset: ssv2_100_otam}
- run: runs/kinetics/checkpoints/last.pt     # cross-domain: trained on one data set, asked about another
  dataset: hmdb51
  partition: test
  settings: {evaluation.shots: [1, 5]}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcl.config.strict_yaml import read_yaml
from hcl.config.values import check_value
from hcl.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """One pair of a suite.

    Attributes:
        run: a run's folder or name, or a checkpoint of a run.
        partition: None: what the run's `evaluation.partition` says.
        settings: overrides by dotted path, of the evaluation only.
    """

    run: Path
    dataset: str
    partition: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def read_suite(path: Path) -> list[Entry]:
    """The entries of a suite file, in its order. Raises ConfigError naming the entry and the field."""
    content = read_yaml(path, str(path))
    if not isinstance(content, list) or not content:
        raise ConfigError("holds no list of pairs", where=str(path), remedy="begin each with `- run: NAME`")
    return [_entry(one, f"{path}: entry {number}") for number, one in enumerate(content, 1)]


def _entry(content: Any, where: str) -> Entry:
    if not isinstance(content, dict):
        raise ConfigError(f"is {content!r}, expected run and dataset", where=where, remedy=_REMEDY)
    if unknown := content.keys() - {"run", "dataset", "partition", "settings"}:
        raise ConfigError(f"unknown field {min(map(str, unknown))!r}", where=where, remedy=_REMEDY)
    for name in ("run", "dataset"):
        if not isinstance(content.get(name), str) or not content[name]:
            raise ConfigError(f"expected a text, got {content.get(name)!r}", where=f"{where}: {name}", remedy=_REMEDY)
    partition = content.get("partition")
    if partition is not None:
        partition = check_value("evaluation.partition", partition, where)
    settings = content.get("settings") or {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise ConfigError(
            f"expected settings by path, got {settings!r}", where=f"{where}: settings", remedy="{evaluation.shots: [1]}"
        )
    return Entry(Path(content["run"]), content["dataset"], partition, settings)


_REMEDY = "an entry has run, dataset and, where wanted, partition and settings"

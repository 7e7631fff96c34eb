"""Describe what a setting names: a backbone, regime, method or augmentation, ours or one of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hcl.config.section import NoSettings, Section

Sources = Mapping[str, str]
"""The text of extension files by absolute path, so that a process elsewhere needs no such file."""


@dataclass(frozen=True)
class Own:
    """Describe an entry of this package: where its class is, and what is known of it without loading that module.

    Attributes:
        reference: `module:attribute`.
        argument: passed to the class.
        takes_argument: it is a family, whose names continue after a colon.
    """

    reference: str
    traits: Any = None
    settings: type[Section] = NoSettings
    argument: str | None = None
    takes_argument: bool = False


@dataclass(frozen=True)
class Definition:
    """Hold what a setting names.

    Attributes:
        reference: the setting's value; a file is named by its absolute path.
        title: a short name, for tables and messages.
        traits: what configuration has to know of it (`hcl.config.regimes.Traits`, `hcl.config.backbones.Grid`).
        settings: the class of its own section.
        digest: identifies the code of an extension; empty for this package's own, whose version is recorded.
        source: the text of an extension file, by absolute path.
    """

    kind: str
    reference: str
    title: str
    load: Callable[[], Any] = field(compare=False)
    traits: Any = field(default=None, compare=False)
    settings: type[Section] = field(default=NoSettings, compare=False)
    digest: str = ""
    source: Sources = field(default_factory=dict, compare=False)

    @property
    def identity(self) -> str:
        """Return the name and, for an extension, the digest of its code in brackets; not the name of its file."""
        return f"{self.title} ({self.digest})" if self.digest else self.reference

    @cached_property
    def implementation(self) -> Any:
        """Return the instance that `hcl.assembly` works with. Raises ConfigError where it cannot be made."""
        return self.load()


@dataclass(frozen=True)
class Named:
    """Mark a setting that names something of a kind; `hcl.config.values` describes what it accepts."""

    kind: str


def is_file(reference: str) -> bool:
    """Return true for `FILE.py:CLASS`."""
    return reference.rpartition(":")[0].endswith(".py")


def portable(reference: str) -> str:
    """Return a reference with the name of its file alone; everything else as it is."""
    return Path(reference).name if is_file(reference) else reference

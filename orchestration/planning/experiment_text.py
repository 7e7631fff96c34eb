"""Write a proposed experiment as YAML whose comments give the reason for each value."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from orchestration.planning.settings_proposal import Choice, ProposedSettings


def experiment_text(settings: ProposedSettings, heading: Sequence[str], commands: Sequence[Sequence[str]]) -> str:
    """Return the YAML of an experiment.

    Args:
        heading: lines of the comment at the top.
        commands: words of the commands to run, for that comment.
    """
    lines = [_comment(line) for line in heading]
    lines += ["#", *(_comment(f"  {shlex.join(command)}") for command in commands), "#"]
    lines += [_comment(f"CAUTION: {warning}.") for warning in settings.warnings]
    lines += [_comment(f"Values that are not named here are those of `base` (hcl config show {settings.base})."), ""]
    lines += [f"base: {settings.base} # {settings.reason}"]
    sections: dict[str, list[Choice]] = {}
    for choice in settings.choices:
        section, _, _ = choice.path.rpartition(".")
        sections.setdefault(section, []).append(choice)
    for section, choices in sections.items():
        lines += [f"{section}:"] if section else []
        for choice in choices:
            name = choice.path.rpartition(".")[2]
            indent = "  " if section else ""
            lines.append(f"{indent}{name}: {json.dumps(choice.value, ensure_ascii=False)} # {choice.reason}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """Return a text as one comment line, whatever characters the names in it have."""
    return "# " + "".join(char if char.isprintable() else "?" for char in text)

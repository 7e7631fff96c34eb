"""Write a resolved experiment as a YAML file, with the extension files that it names beside it, and read it back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hcl.config.experiment import Experiment
from hcl.config.extension_code import text_digest
from hcl.config.extensions import SETTINGS
from hcl.config.resolve import resolve
from hcl.config.strict_yaml import dump_yaml
from hcl.files.atomic import write_atomically


def to_yaml(experiment: Experiment, files: Mapping[str, str] | None = None) -> str:
    """Return every setting as YAML.

    Args:
        files: the names of copies of the extension files, by the files' absolute path; the YAML names these instead.
    """
    content = experiment.model_dump(mode="json")
    for kind, path in SETTINGS.items():
        section, setting = path.split(".")
        place, _, name = content[section][setting].rpartition(":")
        if files and place in files:
            content[section][setting] = f"./{files[place]}:{name}"
        if not content[kind]:
            del content[kind]
    return dump_yaml(content)


def write_experiment(path: Path, experiment: Experiment) -> Path:
    """Write an experiment and, beside it, copies of its extension files, so that the folder can be used anywhere."""
    files: dict[str, str] = {}
    for place, text in experiment.sources.items():
        name = Path(place).name
        if name in files.values():
            name = f"{Path(place).stem}_{text_digest(text)}.py"
        files[place] = name
        write_atomically(path.parent / name, text.encode())
    return write_atomically(path, to_yaml(experiment, files).encode())


def load_resolved(path: str | Path) -> Experiment:
    """Read the experiment of a run from its experiment.yaml."""
    return resolve(Path(path)).experiment

"""Check a command of this program that becomes a job: its options, the files that it reads, where its results go."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from hcl.config.definitions import is_file
from hcl.config.extensions import SETTINGS, absolute
from hcl.config.paths import flatten
from hcl.config.strict_yaml import read_yaml
from hcl.errors import ConfigError
from orchestration.storage.data_roots import DEFAULT
from orchestration.storage.places import ELSEWHERE

_LOCAL = ("submit", "jobs", "cluster")  # commands that manage a cluster instead of running on it
_KEPT = {
    "data": "--data", "runs": "--runs", "to": "--to", "warm_start": "--warm-start", "cache_dir": "--cache-dir",
}  # fmt: skip
"""Options that name folders outside the job's own."""
_FILES = "submitted"  # folder in the package for files that the command names


@dataclass(frozen=True)
class JobCommand:
    """Hold a command that has passed all checks that need no cluster.

    Args:
        words: the command as the job runs it, with files by their path in the package.
        files: these files by their path in the package.
        folders: folders outside the job's own, by option.
    """

    words: tuple[str, ...]
    files: dict[str, Path]
    folders: dict[str, Path]

    @property
    def shown(self) -> str:
        return shlex.join(["hcl", *self.words])

    def entrypoint(self, python: str, *, installed: bool) -> str:
        """Return the job's shell command, which runs the packed program by `python`, or the installed one."""
        program = ["hcl"] if installed else [python, "-m", "orchestration"]
        return shlex.join([*program, *self.words])

    def new_id(self) -> str:
        """Return a unique job id that names the command."""
        named = re.sub(r"[^A-Za-z0-9_]+", "-", "-".join(Path(word).stem for word in self.words[:2])).strip("-")
        return f"hcl-{named[:40]}-{secrets.token_hex(4)}"


def check_command(group: TyperGroup, words: Sequence[str], *, stays_here: bool = False) -> JobCommand:
    """Parse a command as the job would, and find the files that it needs from here.

    Args:
        group: the complete command line.
        stays_here: whether the job runs in this folder, which its nodes see, so that relative paths keep their meaning.

    Raises:
        ConfigError: if the command does not exist or is no job, has an address, or a folder would be lost.
    """
    words = [*words][1:] if [*words][:1] == ["hcl"] else [*words]
    if not words:
        raise ConfigError("no command is given", where="-- COMMAND", remedy="hcl submit -- sweep EXPERIMENT ...")
    if words[0] in _LOCAL:
        raise ConfigError(f"hcl {words[0]} is no job", where="-- COMMAND", remedy=f"run it here: hcl {words[0]}")
    parsed = _parse(group, words)
    if parsed.params.get("address"):
        raise ConfigError(
            "a job uses the cluster that it runs on",
            where="--address",
            remedy="leave it out, or give it to hcl submit before --:  hcl submit --address http://HOST:8265 -- ...",
        )
    options = {**parsed.params, "data": parsed.params["data"] or DEFAULT} if "data" in parsed.params else parsed.params
    folders = {option: Path(folder) for name, option in _KEPT.items() if (folder := options.get(name))}
    if not stays_here:
        for option, folder in folders.items():
            if not folder.is_absolute():
                raise ConfigError(
                    f"{str(folder)!r} would lie in the job's temporary folder",
                    where=option,
                    remedy=f"give {option} an absolute path on storage that every node of the cluster sees",
                )
        _check_folders(parsed)
        _check_storage(parsed)
    packed: list[str] = []
    files: dict[str, Path] = {}
    for word in words:
        option, is_equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        path = Path(value)
        if path.suffix in (".yaml", ".yml") and os.path.isfile(path):
            chain = _with_bases(path)
            needed = [*chain, *_extension_files(chain)]
            root = Path(os.path.commonpath([file.parent for file in needed]))
            place = f"{_FILES}/{len(packed)}"
            files |= {f"{place}/{file.relative_to(root)}": file for file in needed}
            word = f"{option}{is_equals}{place}/{chain[0].relative_to(root)}"
        elif file := _extension_file(value):
            setting, _, reference = value.partition("=")
            place = f"{_FILES}/{len(packed)}/{file.name}"
            files[place] = file
            word = f"{option}{is_equals}{setting}={place}:{reference.rpartition(':')[2]}"
        packed.append(word)
    return JobCommand(tuple(packed), files, folders)


def _extension_file(word: str) -> Path | None:
    """Return the file of the user's own code that `SETTING=FILE.py:CLASS` names; None for every other word."""
    setting, _, reference = word.partition("=")
    if setting not in SETTINGS.values() or not is_file(reference):
        return None
    path = Path(absolute(reference, Path()).rpartition(":")[0])
    return path if path.is_file() else None


def _extension_files(chain: Sequence[Path]) -> list[Path]:
    """Return the files of the user's own code that settings files name; the job's command reports missing ones."""
    found = []
    for path in chain:
        try:
            content = read_yaml(path, str(path))
            values = flatten({key: value for key, value in content.items() if key != "base"}, str(path))
        except (ConfigError, AttributeError):  # the job's command reports what is wrong with it
            continue
        named = [absolute(values.get(setting), path.parent) for setting in SETTINGS.values()]
        found += [Path(one.rpartition(":")[0]) for one in named if isinstance(one, str) and is_file(one)]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _check_folders(parsed: typer.Context) -> None:
    """Raise ConfigError for a default of this machine (a variable or hcl.toml) that the job would not have."""
    for name in ("data", "runs"):
        if _is_from_environment(parsed, name):
            raise ConfigError(
                f"{parsed.params[name]} is the default here (hcl.toml or HCL_{name.upper()}), but not in the job",
                where=f"--{name}",
                remedy=f"give --{name} in the submitted command, a folder that every node of the cluster sees",
            )


def _is_from_environment(parsed: typer.Context, name: str) -> bool:
    source = parsed.get_parameter_source(name)
    return source is not None and source.name == "ENVIRONMENT"


def _check_storage(parsed: typer.Context) -> None:
    """Raise ConfigError for a study's storage that the job could not reach."""
    storage = parsed.params.get("storage")
    if not storage:
        return
    if _is_from_environment(parsed, "storage"):
        raise ConfigError(
            "is set here, but not in the job",
            where="HCL_STORAGE",
            remedy="unset it here and set it on the cluster's nodes, or use --storage without a password, which "
            "~/.pgpass there may hold",
        )
    path = storage.removeprefix("sqlite:///")
    if ("://" not in storage or path != storage) and not Path(path).is_absolute():
        raise ConfigError(
            f"{storage!r} would lie in the job's temporary folder",
            where="--storage",
            remedy="give an absolute path on storage that every node of the cluster sees (sqlite:////shared/study.db)",
        )


def _parse(group: TyperGroup, words: list[str]) -> typer.Context:
    """Return the context of the innermost command without running it.

    Typer itself reports unknown commands and options.
    """
    command: Any = group
    context = typer.Context(group, info_name="hcl", obj=ELSEWHERE)
    rest = words
    while isinstance(command, TyperGroup):
        if not rest:
            raise ConfigError(f"{context.command_path} needs a subcommand", where="-- COMMAND", remedy="see its --help")
        name, command, rest = command.resolve_command(context, rest)
        if isinstance(command, TyperGroup):
            context = typer.Context(command, info_name=name, parent=context)
    return command.make_context(name, list(rest), parent=context)


def _with_bases(path: Path) -> list[Path]:
    """Return a settings file and the files of its `base` chain; the job's command reports problems in them."""
    chain: list[Path] = []
    next_file: Path | None = Path(os.path.abspath(path))
    while next_file is not None and os.path.isfile(next_file) and next_file not in chain:
        chain.append(next_file)
        base: Any = None
        try:
            content = read_yaml(next_file, str(next_file))
            base = content.get("base") if isinstance(content, dict) else None
        except ConfigError:
            break
        is_file = isinstance(base, str) and ("/" in base or base.endswith((".yaml", ".yml")))
        next_file = Path(os.path.normpath(next_file.parent / base)) if is_file else None
    return chain

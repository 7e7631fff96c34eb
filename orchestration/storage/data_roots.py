"""Remember the data root of a run or a study in its folder, for later commands in other working folders.

The file names a folder of this machine, so it is no record: nothing exports it, and no digest depends on it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.markup import escape

from hcl.errors import ConfigError
from hcl.files.json_files import write_json
from orchestration.console import notes
from orchestration.runtime.mounts import uri_of
from orchestration.storage.buckets import URI
from orchestration.storage.places import check_place

DATA_ROOT = "data_root.json"
DEFAULT = Path("data")


def remember_data(folder: Path, root: Path) -> None:
    """Write the absolute data root of a run or a study into its folder. Raises StorageError."""
    root_text = uri_of(root) or str(root.absolute())
    if remembered_data(folder) != root_text:
        write_json(folder / DATA_ROOT, {"data": root_text})


def remembered_data(folder: Path) -> str:
    """Return the data root that a run, a trial's study or a study remembers; empty if it does not or it is damaged."""
    folder = folder.absolute()
    for place in (folder, folder.parent.parent) if folder.parent.name == "trials" else (folder,):
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            root = json.loads((place / DATA_ROOT).read_bytes())["data"]
            if isinstance(root, str) and (Path(root).is_absolute() or URI.match(root)):
                return root
    return ""


def data_of(folders: Sequence[Path], given: Path | None) -> Path:
    """Return the data root for a command on runs: the given one, or the one that the runs remember, or the default.

    A note on standard error names a remembered root if it is not the default. A root that is gone is named there, too.

    Args:
        given: the value of --data, of HCL_DATA or of hcl.toml; None without any.

    Raises:
        ConfigError: if the runs remember different roots.
        StorageError: if the root is a bucket that cannot be mounted.
    """
    if given is not None:
        return given
    roots = {root: folder for folder in folders if (root := remembered_data(folder))}
    there = {root: folder for root, folder in roots.items() if URI.match(root) or Path(root).is_dir()}
    for root in roots.keys() - there.keys():
        _note(f"{roots[root].name} was trained with data in {root}, which is not there; {DEFAULT} is used (--data)")
    if len(there) > 1:
        (first, of_first), (second, of_second), *_ = there.items()
        raise ConfigError(
            f"{of_first.name} was trained with data in {first}, {of_second.name} with data in {second}",
            where="--data",
            remedy=f"name the root that holds the data of this command, such as --data {shlex.quote(first)}",
        )
    if not there:
        return DEFAULT
    root = next(iter(there))
    if root != str(DEFAULT.absolute()):
        _note(f"data: {root}, as {there[root].name} was trained (--data names another root)")
    return check_place(Path(root), "--data")


def _note(text: str) -> None:
    notes.print(f"[yellow]note[/] {escape(text)}", soft_wrap=True, highlight=False)

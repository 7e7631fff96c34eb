"""Whose a study in a shared storage is: of the folder that began it, and of one command at a time.

Studies of one name in one storage are one study to Optuna, whatever folders and hosts they come from. So the study
there and its folder hold the same identity, and a study of another folder is neither gone on with nor removed. A study
whose journal lies in its folder needs none of this.
"""

from __future__ import annotations

import os
import shlex
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

import results
from hcl.config.strict_yaml import dump_yaml, read_yaml
from hcl.errors import ConfigError, StorageError
from hcl.files.atomic import write_atomically
from orchestration.storage.locks import held
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.database_claims import database_claim
from orchestration.sweeps.storage.frozen_trials import directions_of
from orchestration.sweeps.storage.optuna_storage import file_of, open_storage
from orchestration.sweeps.study import IDENTITIES, Study
from orchestration.training.train import STUDY

_OWNER = "hcl_owner"
"""Optuna's user attribute of a study: its identity, and the folder and host that it belongs to."""


@contextmanager
def claimed(study: Study) -> Iterator[None]:
    """Keep a shared storage's study of this name to this command for the duration of a block.

    Raises StorageError where another command has it, from whatever folder and host.
    """
    if study.storage is None:
        yield
        return
    name, shown = study.experiment.name, without_password(study.storage) or ""
    if path := file_of(study.storage):
        with held(path.parent / f".{path.name}.{name}.lock", what=f"study {name} in {path.name}"):
            yield
    else:
        with database_claim(open_storage(study.folder, study.storage), name, where=shown):
            yield


def check_owner(study: Study, *, may_be_lost: bool = False) -> None:
    """Raise for a study of this name in a shared storage that is not this folder's.

    Args:
        may_be_lost: the storage need not hold what the folder has trials of.
    Raises:
        ConfigError: another folder has begun it; both are named.
        StorageError: the storage does not hold it any more.
    """
    if study.storage is None:
        return
    storage = open_storage(study.folder, study.storage)
    study_id = _id_of(storage, study.experiment.name)
    if study_id is None:
        if not may_be_lost:
            _check_not_lost(study)
    elif not _is_ours(study, storage, study_id):
        raise _foreign(study, _owner(storage, study_id))


def take_possession(study: Study) -> None:
    """Note in a shared storage and in the study's folder that they belong together; `check_owner` goes before.

    A folder that has been moved or is worked on from another host gets another identity, so that a copy of it that was
    left behind is not taken for it.
    """
    if study.storage is None:
        return
    storage = open_storage(study.folder, study.storage)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = optuna.create_study(
        storage=storage, study_name=study.experiment.name, directions=directions_of(study.space), load_if_exists=True
    )
    owner, place = _owner(storage, known._study_id), _place(study)
    if owner.get("id") in _identities(study.folder) and {**owner, **place} == owner:
        return
    identity = uuid.uuid4().hex
    _note(study.folder, [identity, *_identities(study.folder)[:1]])
    storage.set_study_user_attr(known._study_id, _OWNER, {"id": identity, **place})
    _note(study.folder, [identity])


def forget(study: Study) -> None:
    """Remove this folder's study from a shared storage; `check_owner` goes before."""
    if study.storage is not None:
        storage = open_storage(study.folder, study.storage)
        with suppress(KeyError):
            optuna.delete_study(study_name=study.experiment.name, storage=storage)


def _is_ours(study: Study, storage: BaseStorage, study_id: int) -> bool:
    owner, known = _owner(storage, study_id), _identities(study.folder)
    described = _described(study.folder)
    if not owner:  # of a version that noted none, or of a command that was killed as it began
        is_older = not known and described.get("storage") == without_password(study.storage)
        return is_older or not storage.get_all_trials(study_id, deepcopy=False)
    if owner.get("id") in known:
        return not _is_copy(study.folder, owner)
    return not described and {**owner, **_place(study)} == owner


def _is_copy(folder: Path, owner: dict[str, Any]) -> bool:
    """Return whether the folder that a study belongs to is still there, beside this one."""
    other = Path(str(owner.get("folder")))
    if owner.get("id") not in _identities(other):
        return False
    with suppress(OSError):
        return not other.samefile(folder)
    return False


def _check_not_lost(study: Study) -> None:
    """Raise StorageError where a folder has trials that its storage knows nothing of: they would all be run again."""
    with suppress(results.RecordError):
        if trials := results.read_trials(study.folder):
            raise StorageError(
                f"does not hold study {study.experiment.name}, of which {study.folder} has {len(trials)} trials",
                where=without_password(study.storage),
                remedy="give the --storage that it was begun with (a relative path counts from the current folder) or "
                "bring that back; or begin anew with --restart",
            )


def _foreign(study: Study, owner: dict[str, Any]) -> ConfigError:
    name, shown = study.experiment.name, without_password(study.storage) or ""
    whose = f"{owner.get('folder')} on {owner.get('host')}" if owner else "another folder"
    removal = f"optuna delete-study --study-name {shlex.quote(name)} --storage {shlex.quote(shown)}"
    removal += "" if "://" in shown else " --storage-class JournalFileBackend"
    return ConfigError(
        f"holds a study {name} that belongs to {whose}, and not to {study.folder} on {socket.gethostname()}",
        where=shown,
        remedy="give this study another name (--set name=...), or the --runs of the other one to go on with that; "
        f"if its folder is gone for good: {removal}",
    )


def _id_of(storage: BaseStorage, name: str) -> int | None:
    with suppress(KeyError):
        return storage.get_study_id_from_name(name)
    return None


def _owner(storage: BaseStorage, study_id: int) -> dict[str, Any]:
    owner = storage.get_study_user_attrs(study_id).get(_OWNER)
    return owner if isinstance(owner, dict) else {}


def _place(study: Study) -> dict[str, str]:
    return {"folder": os.fspath(study.folder), "host": socket.gethostname()}


def _identities(folder: Path) -> list[str]:
    """Return what a study's folder says that it is; none where it is of a version that noted none."""
    noted = _described(folder).get(IDENTITIES)
    return [one for one in noted if isinstance(one, str)] if isinstance(noted, list) else []


def _described(folder: Path) -> dict[str, Any]:
    """Return what a folder says of its study; nothing where there is none."""
    path = folder / STUDY
    content = read_yaml(path, str(path)) if path.exists() else None
    return content if isinstance(content, dict) else {}


def _note(folder: Path, identities: list[str]) -> None:
    write_atomically(folder / STUDY, dump_yaml({**_described(folder), IDENTITIES: identities}).encode())

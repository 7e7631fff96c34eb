"""Claim a study in a database on a server, where no file can be locked, so that only one command works on it.

A claim is an empty study beside the study, with a number in its name. A database accepts a name only once, so only one
of two commands that make the same claim succeeds. The holder changes its claim regularly while it lives. A claim that
stays unchanged is void, and the next command takes the next number.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from hcl.errors import HCLError, StorageError
from orchestration.storage.claims import BEAT_S, GRACE_S, QUIET_S, signature

_HOLDER, _BEAT = "holder", "beat"


@contextmanager
def database_claim(
    storage: BaseStorage, name: str, *, where: str, beat_s: float = BEAT_S, quiet_s: float = QUIET_S
) -> Iterator[None]:
    """Claim a study for the duration of a block.

    A host that was cut off for longer than `quiet_s` may find that another command has taken over. Its main thread is
    then interrupted, and its process ends if that does not help.

    Raises StorageError if another command holds the claim, or has taken this one over.
    """
    claim = _take(storage, name, where, quiet_s)
    done, lost = threading.Event(), threading.Event()

    def beat() -> None:
        for count in itertools.count(1):
            if done.wait(beat_s):
                return
            try:
                storage.set_study_user_attr(claim, _BEAT, count)
            except KeyError:  # another command has removed it
                break
            except HCLError:  # an unreachable database; the study's own calls report it
                continue
        lost.set()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if not done.wait(GRACE_S):
            os._exit(1)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if lost.is_set():
            raise StorageError(
                f"study {name} was taken over: this host could not write there for a while",
                where=where,
                remedy="check which command runs it; repeat this command after that has ended",
            ) from error
        raise
    finally:
        done.set()
        thread.join(beat_s)
        with suppress(KeyError, HCLError):
            storage.delete_study(claim)


def _take(storage: BaseStorage, name: str, where: str, quiet_s: float) -> int:
    """Make the next claim and return its id in the storage. Raises StorageError."""
    before = _claims(storage, name)
    for number in sorted(before):
        _wait_until_void(storage, before[number], name, where, quiet_s)
    next_number = max(before, default=0) + 1
    try:
        claim = storage.create_new_study([StudyDirection.MINIMIZE], _name(name, next_number))
    except DuplicatedStudyError as error:
        raise _under_way(name, "another command that has just started", where) from error
    storage.set_study_user_attr(claim, _HOLDER, signature())
    if others := set(_claims(storage, name)) - set(before) - {next_number}:
        storage.delete_study(claim)
        raise _under_way(name, f"another command that has just started (claim {min(others)})", where)
    for void in before.values():
        with suppress(KeyError):
            storage.delete_study(void)
    return claim


def _claims(storage: BaseStorage, name: str) -> dict[int, int]:
    """Return the claims of a study: their ids in the storage by number."""
    pattern = re.compile(re.escape(_name(name, 0)[:-1]) + "([0-9]{1,9})")
    matches = [(pattern.fullmatch(study.study_name), study._study_id) for study in storage.get_all_studies()]
    return {int(match[1]): study_id for match, study_id in matches if match}


def _name(study: str, number: int) -> str:
    return f"{study} claim {number}"


def _wait_until_void(storage: BaseStorage, claim: int, name: str, where: str, quiet_s: float) -> None:
    """Watch a claim until it is void. Raises StorageError as soon as it changes."""
    seen, since = _content(storage, claim), time.monotonic()
    while seen is not None and time.monotonic() - since <= quiet_s:
        time.sleep(min(0.5, quiet_s / 10))
        now = _content(storage, claim)
        if now is None:
            return
        if now != seen:
            raise _under_way(name, _holder(now), where)


def _content(storage: BaseStorage, claim: int) -> dict[str, object] | None:
    """Return a claim's attributes; None if the claim is gone."""
    try:
        return dict(storage.get_study_user_attrs(claim))
    except KeyError:
        return None


def _holder(content: dict[str, object]) -> str:
    return str(content.get(_HOLDER, "another command"))


def _under_way(name: str, holder: str, where: str) -> StorageError:
    return StorageError(
        f"study {name} is already running, by {holder}", where=where, remedy="wait until it has ended, or stop it"
    )

"""Claim files among hosts that share no locks: the holder keeps changing the file's text while it lives.

No clocks are compared: a claim that another host has left is watched, and is void once it stays unchanged.
"""

from __future__ import annotations

import getpass
import itertools
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import results
from hcl.errors import StorageError
from hcl.files.disk_errors import storing

BEAT_S = 5.0
QUIET_S = 20.0
"""A claim that has not changed for this time is void."""
GRACE_S = 60.0
"""How long a process that has lost its claim may take to end."""
_SETTLE_S = 3.0  # time until a host sees another's writes


def signature() -> str:
    """Return a description of this process for people and for other hosts."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def details() -> str:
    """Return the user of this process and the present time, as a line that follows the signature."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"user {user} since {results.now()}"


def is_free(path: Path, until: float) -> bool:
    """Return whether no other host claims a file; wait for its holder up to `until`, in `time.monotonic` time.

    A claim of this host is void, because its locks already decide.
    """
    text, since = _text(path), time.monotonic()
    while text and not text.partition("\n")[0].endswith(f" on {socket.gethostname()}"):
        if time.monotonic() - since > QUIET_S:
            return True
        time.sleep(0.5)
        if (now := _text(path)) != text:
            text, since = now, time.monotonic()
            if text and since > until:
                return False
    return True


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim a file for the duration of a block; yield False if another host claimed it at the same time and later.

    A host that was cut off for longer than QUIET_S may find that another has taken over. It then stops: the block is
    interrupted in the main thread; in another one, such as in a worker, the process ends.

    Raises StorageError if the file cannot be written, or was taken over.
    """
    mine = f"{signature()}\n{uuid.uuid4().hex}\n{details()}\n"
    done, lost = threading.Event(), threading.Event()
    is_main = threading.current_thread() is threading.main_thread()

    def beat() -> None:
        last = time.monotonic()
        for number in itertools.count(1):
            if done.wait(BEAT_S):
                return
            with suppress(OSError):  # the network may be gone for a while
                text = path.read_text() if path.exists() else ""
                if not text.startswith(mine) and (text or time.monotonic() - last > QUIET_S):
                    break  # another host has claimed it, and may have ended since
                path.write_text(f"{mine}{number}\n")
                last = time.monotonic()
        lost.set()
        if is_main:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            done.wait(GRACE_S)
        if not done.is_set():
            os._exit(1)

    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_text(mine)  # in place: a bucket does not rename
        except OSError:
            path.unlink(missing_ok=True)
            raise
    time.sleep(_SETTLE_S)
    if not _text(path).startswith(mine):
        yield False
        return
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield True
    except KeyboardInterrupt as error:
        if lost.is_set():
            raise StorageError(
                f"was taken over by {_text(path).partition(chr(10))[0]}: this host could not write there for a while",
                where=str(path),
                remedy="check which command runs there; repeat this command after that has ended",
            ) from error
        raise
    finally:
        done.set()
        thread.join()
        if not lost.is_set():
            path.unlink(missing_ok=True)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""

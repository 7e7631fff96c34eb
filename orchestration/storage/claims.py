"""Who works, among hosts that no lock joins: a file whose text changes while its holder lives.

No clock is compared with another: a claim that another host has left is watched, and is void once it stays the same.
"""

from __future__ import annotations

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

from hcl.errors import StorageError
from hcl.files.disk_errors import storing

BEAT_S = 5.0
QUIET_S = 20.0
"""A claim that has not changed for so long is nobody's."""
GRACE_S = 60.0
"""How long what has lost its claim may take to end."""
_SETTLE_S = 3.0  # until a host sees what another has written


def signature() -> str:
    """Of this process, for people and for other hosts."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def is_free(path: Path, until: float) -> bool:
    """Whether no other host claims a file; waits for one that does up to `until`, of `time.monotonic`.

    What this host has left there is void: its locks tell.
    """
    said, since = _text(path), time.monotonic()
    while said and not said.partition("\n")[0].endswith(f" on {socket.gethostname()}"):
        if time.monotonic() - since > QUIET_S:
            return True
        time.sleep(0.5)
        if (now := _text(path)) != said:
            said, since = now, time.monotonic()
            if said and since > until:
                return False
    return True


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim a file for the duration of a block; False where another host did so at the same time and was later.

    A host that was cut off for longer than QUIET_S may find that another has taken over. It stops then: the block is
    interrupted in the main thread, and elsewhere, such as in a worker, the process ends.

    Raises StorageError where it cannot be written, or was taken over.
    """
    mine = f"{signature()}\n{uuid.uuid4().hex}\n"
    done, lost = threading.Event(), threading.Event()
    is_main = threading.current_thread() is threading.main_thread()

    def beat() -> None:
        last = time.monotonic()
        for number in itertools.count(1):
            if done.wait(BEAT_S):
                return
            with suppress(OSError):  # a network that is gone for a while
                said = path.read_text() if path.exists() else ""
                if not said.startswith(mine) and (said or time.monotonic() - last > QUIET_S):
                    break  # another's, or another's that has ended since
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
                remedy="look at what runs there; repeat the command once that has ended",
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

"""How a command ends by a signal: in order at the first one, at once at a second Ctrl-C.

A first signal becomes a KeyboardInterrupt in the main thread, so that whatever holds a lock, a Ray or a folder lets go
of it on the way out. The command's exit status is 128 and the signal's number, as a shell would give it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 60.0
"""How long an orderly end may take; the process is ended then."""

INTERRUPTED = 130
"""Typer's exit status of a command that ends by KeyboardInterrupt."""

AGAIN = "stopped; repeat the command to go on where it was"


class Interrupts:
    """The signals that a command has received, and what is told about it."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.hint = AGAIN
        self.gentle_end: Callable[[], bool] | None = None
        self._pid, self._over = os.getpid(), threading.Event()

    @property
    def exit_code(self) -> int:
        """Return 128 and the number of the first signal; that of Ctrl-C where none was received."""
        return 128 + (self.received[0] if self.received else signal.SIGINT)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: interrupt the main thread, or end at once if that has been asked for already."""
        if os.getpid() != self._pid:  # a fork of ours, such as a data loader's process, that is told to end
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received.append(number)
        if len(self.received) > 1:
            if number == signal.SIGINT:
                self.end_at_once()
            return  # a terminal that closes says so twice
        threading.Thread(target=self._end_later, name="end of the command", daemon=True).start()
        if self.gentle_end is None or not self.gentle_end():
            raise KeyboardInterrupt

    def end_at_once(self) -> None:
        """End the process without waiting for anything; Ray's processes end with it."""
        with suppress(OSError, ValueError):  # a terminal that is gone
            cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # which a progress bar may have hidden
            os.write(sys.stderr.fileno(), f"{cursor}{self.hint}\n".encode())
        os._exit(self.exit_code)

    def close(self) -> None:
        """Note that the command has ended."""
        self._over.set()

    def _end_later(self) -> None:
        if not self._over.wait(GRACE_S):
            self.end_at_once()


_current: Interrupts | None = None


@contextmanager
def orderly_ends() -> Iterator[Interrupts]:
    """Handle signals for the duration of a block, which is a whole command, in the main thread.

    A signal that was ignored before, as under nohup, stays ignored.
    """
    global _current
    interrupts, before = Interrupts(), {number: signal.getsignal(number) for number in HANDLED}
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    _current = interrupts
    _install(interrupts)
    try:
        yield interrupts
    finally:
        _current = None
        interrupts.close()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Handle signals after the block as before it. Within it others, such as `ray.init`, install handlers of their own,
    also below Python, where a later one of ours replaces them."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in HANDLED} if is_main and _current else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def resumed_by(hint: str) -> Iterator[None]:
    """Tell how to go on, in one line, where the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if _current is not None and _current.hint == AGAIN:  # the innermost block knows best
            _current.hint = hint
        raise


@contextmanager
def ended_by(end: Callable[[], bool]) -> Iterator[bool]:
    """Have a first signal call `end` instead of interrupting the block; yields False outside of a command.

    Args:
        end: asks what runs in the block to end; False where it cannot be asked now.
    """
    if _current is None:
        yield False
        return
    _current.gentle_end = end
    try:
        yield True
    finally:
        _current.gentle_end = None


def _install(interrupts: Interrupts) -> None:
    for number in HANDLED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupts.handle)

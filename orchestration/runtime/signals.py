"""End a command by a signal: in order at the first one, at once at a second Ctrl-C.

A first signal becomes a KeyboardInterrupt in the main thread, so that locks, Ray and folders are released on the way
out. The command's exit status is 128 plus the signal's number, as in a shell.
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
"""How long an orderly end may take; then the process is killed."""

INTERRUPTED = 130
"""Typer's exit status of a command that ends by KeyboardInterrupt."""

AGAIN = "stopped; repeat the command to resume"


class Interrupts:
    """Hold the signals that a command has received, and the hint to print."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.hint = AGAIN
        self.gentle_end: Callable[[], bool] | None = None
        self._pid, self._over = os.getpid(), threading.Event()

    @property
    def exit_code(self) -> int:
        """Return 128 plus the number of the first signal, or of Ctrl-C if none was received."""
        return 128 + (self.received[0] if self.received else signal.SIGINT)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: interrupt the main thread, or end at once at a second Ctrl-C."""
        if os.getpid() != self._pid:  # a fork, such as a data loader's process, that was signalled
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received.append(number)
        if len(self.received) > 1:
            if number == signal.SIGINT:
                self.end_at_once()
            return  # a closing terminal sends its signal twice
        threading.Thread(target=self._end_later, name="end of the command", daemon=True).start()
        if self.gentle_end is None or not self.gentle_end():
            raise KeyboardInterrupt

    def end_at_once(self) -> None:
        """End the process without waiting; Ray's processes end with it."""
        with suppress(OSError, ValueError):  # the terminal may be gone
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
    """Handle signals for the duration of a block, which is a whole command in the main thread.

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
    """Restore the signal handlers after the block.

    Within it others, such as `ray.init`, install handlers of their own, also below Python, where setting ours again
    replaces them.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in HANDLED} if is_main and _current else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def resumed_by(hint: str) -> Iterator[None]:
    """Set the line that tells how to resume if the block is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if _current is not None and _current.hint == AGAIN:  # the innermost block's hint is the most precise
            _current.hint = hint
        raise


@contextmanager
def ended_by(end: Callable[[], bool]) -> Iterator[bool]:
    """Make a first signal call `end` instead of interrupting the block; yield False outside of a command.

    Args:
        end: asks the code in the block to stop; returns False if that is not possible now.
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

"""A terminal's alternate screen that is drawn again and again, and its keys.

Runs on the login node, in the main thread. Whatever happens but SIGKILL, the terminal is as it was
afterwards: on an error, Ctrl-C, SIGTERM, SIGHUP, and while the process is stopped by Ctrl-Z. Does
not know what is drawn. Called by the command ``watch``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

LEAVE_KEYS = b"qQ\x03\x04"
_ENDING = (signal.SIGTERM, signal.SIGHUP)

Draw = Callable[[int, int], RenderableType]


def is_fit_for_screens(console: Console) -> bool:
    """Tell whether standard output is a terminal that understands escape sequences."""
    return console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()


class LiveTerminal:
    """The alternate screen of a terminal; a context manager."""

    def __init__(self, console: Console):
        """Prepare; nothing changes before it is entered.

        Args:
            console: The terminal, for which ``is_fit_for_screens`` is true.
        """
        self._console = console
        self._live: Live | None = None
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._mode: list[Any] | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._is_ended = self._is_suspended = False
        self._wake_read, self._wake_write = -1, -1
        self._old_wakeup = -1

    def __enter__(self) -> LiveTerminal:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (*_ENDING, signal.SIGTSTP, signal.SIGWINCH):
            self._before[number] = signal.signal(number, self._note)
        try:
            self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def wake(self) -> None:
        """End a wait at once; from another thread."""
        with contextlib.suppress(OSError):  # full: it wakes all the same; closed: nobody waits
            os.write(self._wake_write, b"\0")

    def draw(self, draw: Draw) -> None:
        """Draw the screen in the size that the terminal has now.

        Args:
            draw: Makes what is shown, for so many columns and lines.
        """
        assert self._live is not None
        size = self._console.size
        self._live.update(draw(size.width, size.height), refresh=True)

    def wait(self, seconds: float) -> bool:
        """Wait for a key, a new size, ``wake``, or so many seconds.

        Returns:
            Whether to leave: somebody typed q, or a signal says so.
        """
        watched = [self._wake_read] + ([] if self._keys is None else [self._keys])
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._wake_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        if self._is_suspended:
            self._suspend()
        is_typed = self._keys is not None and self._keys in ready and self._is_leaving()
        return is_typed or self._is_ended

    def _is_leaving(self) -> bool:
        assert self._keys is not None
        try:
            typed = os.read(self._keys, 256)
        except OSError:
            typed = b""
        if not typed:
            self._keys = None  # nobody types there any more
        return any(key in LEAVE_KEYS for key in typed)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_ended |= number in _ENDING
        self._is_suspended |= number == signal.SIGTSTP

    def _open(self) -> None:
        if self._keys is not None and _is_in_front(self._keys):
            self._mode = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
            # Ctrl-C comes as a key: else make, which runs us, would be interrupted, and say so.
            mode = termios.tcgetattr(self._keys)
            mode[6][termios.VINTR] = b"\0"
            termios.tcsetattr(self._keys, termios.TCSANOW, mode)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stderr=False
        )
        self._live.start()

    def _close(self) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._live.stop()
            self._live = None
        if self._mode is not None and self._keys is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._mode)
            self._mode = None

    def _suspend(self) -> None:
        """Stop, as Ctrl-Z wants, with the terminal as it was; go on where somebody types fg."""
        self._is_suspended = False
        self._close()
        os.kill(0, signal.SIGSTOP)  # the whole job, as the terminal would: make, too
        self._open()


def _is_in_front(terminal: int) -> bool:
    """Whether this process may change the terminal: in the background it would be stopped."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # not the terminal of this session
        return False

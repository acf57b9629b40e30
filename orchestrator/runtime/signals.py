"""Signals as events of a loop: handlers only write a byte, the loop does the work.

Runs on the compute node, in the supervising process; the program has its own (``session``).
"""

from __future__ import annotations

import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

# Each of these asks the trial to checkpoint and leave. Slurm sends the user signal (where the
# site enabled it) or SIGTERM at the start of the grace period; INT and HUP come from a terminal.
STOP_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SignalPipe:
    """Receives stop signals and SIGCHLD, also those that come before anybody waits."""

    def __init__(self) -> None:
        """Install the handlers; call it before anything slow."""
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        os.set_inheritable(self._read_fd, False)
        os.set_inheritable(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, _do_nothing)

    def wait(self, timeout_s: float) -> list[int]:
        """Wait for signals.

        Returns:
            The numbers of those that came, in order, repeats included; empty after ``timeout_s``.
        """
        select.select([self._read_fd], [], [], max(0.0, timeout_s))
        try:
            return list(os.read(self._read_fd, 512))
        except BlockingIOError:
            return []


def _do_nothing(signum: int, frame: FrameType | None) -> None:
    """Stand as a handler, so that the signal is not fatal; the wake-up pipe carries its number."""


def signal_name(number: int) -> str:
    """Name a signal, such as ``SIGTERM``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def exit_words(code: int) -> str:
    """Say how a process ended, by ``Program.poll``: ``exit code 3`` or ``SIGKILL``."""
    return f"exit code {code}" if code >= 0 else signal_name(-code)

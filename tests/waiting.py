"""Waiting for something to become true, with a bound and the last thing seen in the error.

The bounds only end a test that would hang: a machine may stop any process for seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T],
    *,
    timeout_s: float = 120.0,
    on_timeout: Callable[[], object] = lambda: None,
    poll_s: float = 0.05,
) -> T:
    """Return the predicate's first true value.

    Raises:
        TimeoutError: It stayed false; the text holds what ``on_timeout`` returned.
    """
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true within {timeout_s} s; last seen: {on_timeout()!r}")
        time.sleep(poll_s)
    return value


def await_file(path: Path, process: Any) -> None:
    """Wait for a file that a process makes."""
    wait_until(path.exists, on_timeout=process.poll)


def await_pid(path: Path, process: Any) -> int:
    """Wait for a pid that a shell writes: its file is there before its content."""

    def read() -> int | None:
        text = path.read_text() if path.exists() else ""
        return int(text) if text.endswith("\n") else None

    return wait_until(read, on_timeout=process.poll)


def is_running(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words.rpartition(")")[2].split()[0] not in "ZX"


def await_stop(pid: int) -> None:
    """Wait until a child that was sent SIGSTOP has stopped: kill(2) does not wait for it."""
    found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert found is not None
    assert found.si_code == os.CLD_STOPPED, "it ended instead"

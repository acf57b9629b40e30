"""Waiting for something to become true, with a bound and the last thing seen in the error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T],
    *,
    timeout_s: float = 30.0,
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

"""Runs a sweep's check of its trials, bounded in time and in what it may write. Login node."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from orchestrator.domain.plain_text import one_line

MAX_BYTES = 2**26
_CHUNK = 2**16


@dataclass(frozen=True)
class CheckRun:
    """How a check ended."""

    output: str
    """What it has written on standard output, up to ``MAX_BYTES``."""
    failure: str = ""
    """Why its answers may not be all, in words; empty if it ended well."""


def run_check(
    argv: Sequence[str], questions: str, folder: str, env: Mapping[str, str], timeout_s: float
) -> CheckRun:
    """Run a check; whatever it does, this ends, and nothing that it started stays.

    Args:
        argv: Its words.
        questions: What it reads on standard input.
        folder: Where it starts.
        env: Its environment.
        timeout_s: How long it may take.
    """
    with tempfile.TemporaryFile() as asked:  # a pipe would block where the check reads nothing
        asked.write(questions.encode("utf-8", "surrogatepass"))
        asked.seek(0)
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=dict(env),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return CheckRun("", f"did not start: {error}")
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            return _follow(process, process.stdout, process.stderr, timeout_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _follow(
    process: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes], timeout_s: float
) -> CheckRun:
    deadline = time.monotonic() + timeout_s
    said = {stdout.fileno(): bytearray(), stderr.fileno(): bytearray()}
    failure = ""
    with selectors.DefaultSelector() as selector:
        for fd in said:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and not failure:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                failure = f"was cut off after {timeout_s:g} s"
            for key, _ in selector.select(max(0.0, left_s)):
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fd)
                said[key.fd] += data
                if len(said[key.fd]) > MAX_BYTES:
                    failure = f"was cut off after {MAX_BYTES // 2**20} MB of output"
    output = said[stdout.fileno()].decode("utf-8", "replace")
    if not failure:
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            failure = f"was cut off after {timeout_s:g} s"
        else:
            failure = f"ended with exit code {code}" if code > 0 else ""
            failure = f"was killed by signal {-code}" if code < 0 else failure
    if not failure:
        return CheckRun(output)
    lines = said[stderr.fileno()].decode("utf-8", "replace").strip().splitlines()
    return CheckRun(output, failure + (f": {one_line(lines[-1], 200)}" if lines else ""))

"""The commit: folding what a program reported into the one result of its trial.

Runs on the compute node, by the attempt that holds the claim, once the program ended well. What a
full disk or an absent file server refuses is tried again for a while: the program's work is done,
and nothing but this file is missing.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from orchestrator.contract import records
from orchestrator.contract.file_errors import explain, may_pass
from orchestrator.runtime import durable
from orchestrator.runtime.claim import Superseded, previous_ends, utc_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, BinaryIO

    from orchestrator.contract.paths import TrialPaths
    from orchestrator.runtime.claim import Claim

# How long a result waits for a disk to have room, or a server to come back.
RETRY_S = 900.0
RETRY_POLL_S = 5.0


class CommitFailed(Exception):
    """The result could not be written; the text says why. Nothing of it is there."""


def commit_when_possible(
    claim: Claim,
    end: Mapping[str, Any],
    wait: Callable[[float], bool],
    say: Callable[[str], None],
) -> bool:
    """Publish the trial's result; while the disk is full or the file server away, try again.

    Args:
        claim: The holder's claim.
        end: The end of this attempt, as ``Claim.ended`` describes it.
        wait: Waits so many seconds; False to give up (a stop signal, a newer attempt).
        say: Takes a line for the log.

    Returns:
        As ``commit_result``.

    Raises:
        CommitFailed: It could not be written, however often it was tried.
    """
    retry_s = float(os.environ.get("ORCHESTRATOR_COMMIT_RETRY_S", RETRY_S))
    deadline = time.monotonic() + retry_s
    told = ""
    while True:
        try:
            return commit_result(claim, end)
        except OSError as error:
            if not os.path.isdir(claim.trial.root) and not may_pass(error):
                reason = f"{claim.trial.root} is gone: the sweep was moved or removed"
                raise CommitFailed(reason) from None
            reason = explain(error)
            if not may_pass(error):
                raise CommitFailed(reason) from None
        if told != reason:
            told = reason
            say(f"{claim.trial.name}: the result cannot be written yet: {reason}")
        if time.monotonic() >= deadline or not wait(min(RETRY_POLL_S, retry_s)):
            raise CommitFailed(reason)


def commit_result(claim: Claim, end: Mapping[str, Any]) -> bool:
    """Publish the trial's result by ``link(2)``.

    Args:
        claim: The holder's claim.
        end: The end of this attempt, as ``Claim.ended`` describes it.

    Returns:
        True if this attempt's result is now the trial's; False if another was there first.

    Raises:
        Superseded: A newer attempt has begun: what was read may hold reports of both.
        OSError: The metrics could not be read, or the result not be written.
    """
    metrics, n_reports, last_step, problems = read_metrics(claim.trial)
    if claim.has_successor():  # in this order: what was read is ours alone if there is none now
        raise Superseded("a newer attempt holds the trial")
    result = {
        "trial": claim.trial.name,
        "attempt": claim.number,
        "committed_at": utc_now(),
        "metrics": metrics,
        "n_reports": n_reports,
        "last_step": last_step,
        "problems": problems,
        "attempts": [*previous_ends(claim.trial, claim.number), dict(end)],
    }
    is_ours = durable.publish(claim.trial.result, records.dump_record(result))
    return is_ours


def read_metrics(trial: TrialPaths) -> tuple[dict[str, Any], int, int | None, list[str]]:
    """Fold a trial's metrics file; no file means no metrics. See ``records.fold_metrics``.

    It is read line by line: the job's memory is the program's, not ours. Of a file larger than
    ``MAX_METRICS_BYTES`` the end is read, where the last values stand.

    Raises:
        OSError: It is there and the file server does not give it: not the same as no metrics.
    """
    try:
        fd = os.open(trial.metrics, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}, 0, None, []
    except OSError as error:
        if may_pass(error):
            raise
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return {}, 0, None, ["a link, pipe or socket, not a file"]
        return {}, 0, None, [f"cannot be read: {error.strerror}"]
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return {}, 0, None, ["not a regular file"]
        first: list[str] = []
        with open(fd, "rb", closefd=False) as file:
            is_whole = status.st_size <= records.MAX_METRICS_BYTES
            if not is_whole:
                file.seek(status.st_size - records.MAX_METRICS_BYTES)
                file.readline(records.MAX_METRICS_LINE_BYTES)
                read = records.MAX_METRICS_BYTES
                first = [f"{status.st_size} bytes; only the last {read} were read"]
            metrics, n_reports, last_step, problems = records.fold_metrics(
                _lines(file), is_from_start=is_whole
            )
        return metrics, n_reports, last_step, first + problems
    finally:
        os.close(fd)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines; of one that is too long only as much as shows that it is."""
    left = records.MAX_METRICS_BYTES  # it may grow while it is read
    while left > 0 and (line := file.readline(records.MAX_METRICS_LINE_BYTES + 1)):
        left -= len(line)
        yield line.removesuffix(b"\n")
        while left > 0 and line and not line.endswith(b"\n"):
            line = file.readline(records.MAX_METRICS_LINE_BYTES + 1)
            left -= len(line)

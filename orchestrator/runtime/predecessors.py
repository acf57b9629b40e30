"""Waiting for earlier attempts of a trial, which may live: until they are dead, or have stood down.

Runs on the compute node, around a claim, where a trial has earlier attempts. Before the claim
``find_life`` tells whether the last one lives, so that this one leaves. After the claim
``wait_for`` gives those that this one supersedes the time to see it and to end their programs.
Who claims, and what a claim is, stands in ``runtime.claim``.
"""

from __future__ import annotations

import os
import time

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.records import SUPERSEDED, read_record
from orchestrator.runtime import job
from orchestrator.runtime.heartbeat import server_time
from orchestrator.runtime.orphans import end_orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from orchestrator.contract.paths import TrialPaths
    from orchestrator.runtime.claim import Claim
    from orchestrator.runtime.heartbeat import Times

_TASK_KEYS = ("array_job_id", "array_task_id", "job_id", "token")


def find_life(
    trial: TrialPaths,
    number: int,
    mine: Mapping[str, Any],
    times: Times,
    say: Callable[[str], None],
) -> str | None:
    """Return how attempt ``number`` is known to live; None once it cannot hold the trial any more.

    The same Slurm task with a lower restart count was ended by Slurm itself, or lives on on a node
    that Slurm gave up: it is superseded, see ``wait_for``. A process of this host can be looked up.
    Otherwise the heartbeat decides, and a fresh one is watched: if it moves the holder lives. Ages
    are taken on the file server's clock, so the nodes' need not agree.

    Args:
        trial: The trial.
        number: Its last attempt so far.
        mine: The Slurm job that asks, as ``job.describe_job`` gives it.
        times: How old a heartbeat may be.
        say: Takes a line for the log.

    Raises:
        OSError: The trial's files cannot be read.
    """
    path = trial.attempt(number)
    try:
        record = read_record(path)
    except CorruptRecord as error:
        say(f"attempt {number}: {error}; passing it over")
        return None
    if record.get("outcome") is not None:
        return None
    same_task = mine.get("job_id") is not None and (
        # With the token: a controller that lost its state gives the same ids again.
        [record.get(key) for key in _TASK_KEYS] == [mine.get(key) for key in _TASK_KEYS]
    )
    if same_task and mine["restart_count"] > record.get("restart_count", 0):
        return None
    where = f"attempt {number} on {record.get('node')}"
    alive = job.is_alive_here(record)
    if alive is False:
        return None
    if alive is True:
        return f"{where} is running (process {record.get('pid')})"
    first = os.stat(path).st_mtime
    age_s = server_time(trial) - first
    if age_s > times.stale_s:
        return None
    say(f"{where} has no end and its heartbeat is {max(0.0, age_s):.0f} s old; watching it")
    deadline = time.monotonic() + times.stale_s - max(0.0, age_s)
    while time.monotonic() < deadline:
        time.sleep(1.0)
        has_moved = os.stat(path).st_mtime != first  # before the reading: its end moves it, too
        if os.path.exists(trial.result) or "outcome" in read_record(path):
            return None
        if has_moved:
            return f"{where} is running: its heartbeat moves"
    return None


def wait_for(claim: Claim, numbers: Sequence[int], say: Callable[[str], None]) -> None:
    """Let the attempts that ``claim`` supersedes end themselves; it beats meanwhile.

    What they left running on this host is ended then. All of it stops, too, once the trial is
    known to be another's: ``claim.is_passed``.

    Args:
        claim: The newer one, published already.
        numbers: All before it, ascending. Nearly always only the last is looked at; it may have
            gone, though, while it still waited for the one before it.
        say: Takes a line for the log.
    """
    for number in reversed(numbers):
        _await_stand_down(claim, number, say)
        if claim.is_passed or _has_waited(claim.trial, number):
            break
    if not claim.is_passed:
        root, grace_s = claim.trial.root, claim.times.end_grace_s
        end_orphans(root, claim.number, grace_s, say, claim.beat_if_due)


def _await_stand_down(claim: Claim, number: int, say: Callable[[str], None]) -> None:
    """Let attempt ``number``, which the claim supersedes, see that and stop; go on if it is dead.

    Slurm starts a task again elsewhere when a node does not answer; the copy there may well be
    alive, and two at once would mix their metrics. It looks for a newer claim at heartbeats: if
    none comes in that time it is dead or frozen, and will look first of all when it thaws
    (``Beats.looks``). The wait ends, too, once our own heartbeat says that the trial is another's.
    """
    times, path = claim.times, claim.trial.attempt(number)
    try:
        record = read_record(path)
        first = os.stat(path)
    except (OSError, CorruptRecord):
        return
    if "outcome" in record or job.is_alive_here(record) is False:
        return
    if server_time(claim.trial) - first.st_mtime > times.stale_s:
        return
    beat_s = times.stopping_beat_s if "signal" in record else times.heartbeat_s
    say(f"attempt {number} on {record.get('node')} has no end; giving it {beat_s:.0f} s to show up")
    deadline = time.monotonic() + 1.5 * beat_s
    has_moved = False
    while time.monotonic() < deadline and claim.beat_if_due():
        time.sleep(min(0.2, beat_s))
        try:
            if "outcome" in read_record(path) or job.is_alive_here(record) is False:
                return
            moved = os.stat(path).st_mtime_ns != first.st_mtime_ns
        except (OSError, CorruptRecord):
            return
        if moved and not has_moved:
            has_moved = True
            say(f"attempt {number} lives; waiting for it to end its program")
            # It has seen our claim, or, after an early heartbeat, does within a regular one.
            deadline = time.monotonic() + 2 * beat_s + 1.5 * times.end_grace_s


def _has_waited(trial: TrialPaths, number: int) -> bool:
    """Tell whether attempt ``number`` is known to have seen those before it end.

    It waits for that before its program starts. One that ended without a word may have been killed
    before, and one that was superseded without a program left before.
    """
    try:
        record = read_record(trial.attempt(number))
    except (OSError, CorruptRecord):
        return False
    outcome = record.get("outcome")
    return outcome is not None and (outcome != SUPERSEDED or record.get("exit_code") is not None)

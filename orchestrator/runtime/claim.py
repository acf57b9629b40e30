"""The claim: which attempt holds a trial, and how an older one learns that it does not.

Runs on the compute node. Attempt n holds the trial from the moment ``attempts/<n>.json`` exists
until ``attempts/<n+1>.json`` does. Claims are published by ``link(2)``, so two nodes cannot take
the same number; the holder touches its claim as a heartbeat and looks for a successor then. It
touches it from the claim on, first often and then at doubling distances (``Beats``), since of a
holder that is killed without a word the last heartbeat is what tells how long it lived. While its
program runs the early ones do no more than that: thousands of tasks may start at once.
A claim is a fencing token for a trial, not a lock: a holder that hangs is passed over.
"""

from __future__ import annotations

import os
import time

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.records import dump_record, read_record
from orchestrator.runtime import durable, failpoint, job
from orchestrator.runtime.heartbeat import Beats, server_time
from orchestrator.runtime.progress import measure_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from orchestrator.contract.paths import TrialPaths
    from orchestrator.runtime.heartbeat import Times


class TrialHeldElsewhere(Exception):
    """Another live process holds the trial; this one has nothing to do."""


class Superseded(Exception):
    """A newer attempt holds the trial; what this one has to say does not count any more."""


class Claim:
    """The claim of one attempt, held by this process."""

    def __init__(self, trial: TrialPaths, number: int, record: dict[str, Any], times: Times):
        """Wrap a claim that ``take_claim`` published."""
        self.trial, self.number, self.record, self.times = trial, number, record, times
        self._started = time.monotonic()
        self.beats = Beats(self._started, times)
        """When its heartbeats are due."""
        self.waited_s = 0.0
        """How long it waited, before its program, for an earlier attempt to end; 0: hardly."""
        self.is_passed = False
        """Whether another attempt took the trial or committed while it waited."""

    def has_waited(self) -> None:
        """Take note that the wait for earlier attempts is over, and of what it brought."""
        # One may have committed between two beats of ours, and ended at that.
        self.is_passed = self.is_passed or os.path.exists(self.trial.result)
        waited_s = time.monotonic() - self._started
        self.waited_s = waited_s if waited_s >= self.times.worth_telling_s else 0.0

    def beat_if_due(self) -> bool:
        """Beat if it is time to; False once it is known that the trial is another's."""
        now = time.monotonic()
        if now >= self.beats.next_at:
            self.beats.took_place(now)
            try:
                self.is_passed = not self.beat()
            except FileNotFoundError:
                self.is_passed = True
            except OSError:
                pass  # a file server that is away for a while: what follows will tell
        return not self.is_passed

    def touch(self) -> None:
        """Touch the claim and no more: one operation on the file server, where ``beat`` has eight.

        Raises:
            FileNotFoundError: The trial's directory is gone.
        """
        os.utime(self.trial.attempt(self.number))

    def beat(self) -> bool:
        """Touch the claim, and tell whether this attempt still holds the trial.

        Returns:
            False once a newer attempt exists or a result is committed.

        Raises:
            FileNotFoundError: The trial's directory is gone.
        """
        self.touch()
        return not (self.has_successor() or os.path.exists(self.trial.result))

    def has_successor(self) -> bool:
        """Tell whether a newer attempt holds the trial.

        The directory is touched first: an NFS client that has seen a name absent may go on
        believing so for a minute, until it learns that the directory has changed.

        Raises:
            FileNotFoundError: The trial's directory is gone.
        """
        os.utime(self.trial.attempts)
        numbers = attempt_numbers(self.trial)
        return bool(numbers) and numbers[-1] > self.number

    def note_stop(self, name: str) -> None:
        """Write into the claim that this attempt was told to stop, and when.

        It may be killed before it can write its end; then its last heartbeat tells how long it was
        given.
        """
        self.record.update(signal=name, told_unix=server_time(self.trial))
        durable.replace(self.trial.attempt(self.number), dump_record(self.record))

    def ended(self, outcome: str, **details: Any) -> dict[str, Any]:
        """Describe the end of this attempt as it stands in records; writes nothing."""
        return {
            **self.record,
            "ended_at": utc_now(),
            "wall_s": round(time.monotonic() - self._started, 3),
            "outcome": outcome,
            **details,
        }

    def write_end(self, end: Mapping[str, Any]) -> None:
        """Replace the claim by ``end``. The file keeps its meaning: this attempt took place."""
        self.record = dict(end)
        durable.replace(self.trial.attempt(self.number), dump_record(self.record))


def make_folder(path: str) -> None:
    """Make a private folder, but never those above it: a sweep that was moved stays moved.

    Raises:
        OSError: It is not there and cannot be made.
    """
    try:
        os.mkdir(path, mode=0o700)
    except FileExistsError:
        pass


def utc_now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def attempt_numbers(trial: TrialPaths) -> list[int]:
    """Numbers of the attempts so far, ascending; temporary and foreign files are passed over."""
    try:
        names = os.listdir(trial.attempts)
    except FileNotFoundError:
        return []
    return sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit())


def previous_ends(trial: TrialPaths, before: int) -> list[dict[str, Any]]:
    """Read the records of the attempts before number ``before``, oldest first.

    An unreadable record is replaced by one that says so: an attempt is never forgotten. An attempt
    that was killed without a word gets ``wall_s`` up to its last heartbeat and ``estimated``, since
    it lived at least so long; if it had been told to stop, ``stopping_s`` up to there too.
    """
    return [*previous_ends_backwards(trial, before)][::-1]


def previous_ends_backwards(trial: TrialPaths, before: int) -> Iterator[dict[str, Any]]:
    """Read the same records newest first, each only when it is asked for."""
    for number in reversed(attempt_numbers(trial)):
        if number >= before:
            continue
        path = trial.attempt(number)
        try:
            record = read_record(path)
        except (OSError, CorruptRecord) as error:
            yield {"attempt": number, "outcome": None, "cause": f"no record: {error}"}
            continue
        if "outcome" not in record:
            started = record.get("claimed_unix", record.get("started_unix"))
            beat = os.stat(path).st_mtime
            if isinstance(started, float):
                record["wall_s"] = round(max(0.0, beat - started), 3)
            record.update(outcome=None, estimated=True, cause="killed without a word")
            told = record.get("told_unix")
            if isinstance(told, float):
                stopping_s = round(max(0.0, beat - told), 3)
                record["stopping_s"] = stopping_s
                record["cause"] = (
                    f"killed {stopping_s:.0f} s after {record.get('signal')}, "
                    "while its program was still running"
                )
        yield record


def take_claim(
    trial: TrialPaths,
    details: Mapping[str, Any],
    environ: Mapping[str, str],
    times: Times,
    say: Callable[[str], None],
) -> Claim:
    """Claim the next attempt of a trial.

    Args:
        trial: Its files.
        details: What to record beside the identity: ``layout``, ``resources``.
        environ: The process environment, for the Slurm job.
        times: How often to beat, and how long to wait for earlier attempts.
        say: Takes a line for the log.

    Raises:
        TrialHeldElsewhere: An earlier attempt is alive.
        OSError: The attempts directory cannot be written.
    """
    make_folder(trial.attempts)
    failpoint.reach("claim.mkdir.after")
    mine = job.describe_job(environ)
    while True:
        numbers = attempt_numbers(trial)
        if numbers:
            # Lazy, here and below: most attempts are the first of their trial.
            from orchestrator.runtime import predecessors

            life = predecessors.find_life(trial, numbers[-1], mine, times, say)
            if life is not None:
                raise TrialHeldElsewhere(life)
        if os.path.exists(trial.result):
            raise TrialHeldElsewhere("the trial was committed meanwhile")
        number = (numbers[-1] if numbers else 0) + 1
        record = {
            "trial": trial.name,
            "attempt": number,
            **job.describe_process(),
            **mine,
            "started_at": utc_now(),
            "started_unix": time.time(),
            "progress_before": measure_progress(trial),
            **_look_around(trial),
            **details,
        }
        if durable.publish(trial.attempt(number), dump_record(record)):
            claim = Claim(trial, number, record, times)  # from here on its time counts
            failpoint.reach("claim.publish.after")
            if numbers:
                predecessors.wait_for(claim, numbers, say)
                claim.has_waited()
            return claim


def _look_around(trial: TrialPaths) -> dict[str, Any]:
    """Tell what an attempt finds: when it claims, and the newest checkpoint's and report's time.

    All on the file server's clock, since nodes' clocks need not agree. An entry that is being
    written, by its name, is none: it starts with a dot or ends in ``.tmp``.
    """
    claimed = server_time(trial)
    newest: float | None = None
    try:
        with os.scandir(trial.checkpoints) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not entry.name.endswith(".tmp"):
                    written = entry.stat(follow_symlinks=False).st_mtime
                    newest = written if newest is None else max(newest, written)
    except OSError:
        pass  # none yet, or rotated away while we looked
    found = None
    if newest is not None:
        found = {"mtime": round(newest, 3), "age_s": round(claimed - newest, 3)}
    reported: float | None = None
    try:
        reported = round(os.stat(trial.metrics).st_mtime, 3)
    except OSError:
        pass  # nothing was reported yet
    return {
        "claimed_unix": round(claimed, 3),
        "resumes_from": found,
        "reported_unix": reported,
    }

"""The claim: which attempt holds a trial, and how an older one learns that it does not.

Runs on the compute node. Attempt n holds the trial from the moment ``attempts/<n>.json`` exists
until ``attempts/<n+1>.json`` does. Claims are published by ``link(2)``, so two nodes cannot take
the same number; the holder touches its claim as a heartbeat and looks for a successor then. It does
so from the claim on, first often and then at doubling distances (``Beats``), since of a holder that
is killed without a word the last heartbeat is what tells how long it lived.
A claim is a fencing token for a trial, not a lock: a holder that hangs is passed over.
"""

from __future__ import annotations

import os
import time

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.records import SUPERSEDED, dump_record, read_record
from orchestrator.runtime import durable, failpoint, job
from orchestrator.runtime.orphans import end_orphans
from orchestrator.runtime.progress import measure_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from orchestrator.contract.paths import TrialPaths

HEARTBEAT_S = float(os.environ.get("ORCHESTRATOR_HEARTBEAT_S", 30.0))
# The first heartbeat comes so soon; the next ones at doubling distances, up to HEARTBEAT_S. So of
# one that is killed half of its life or more is known, from this first one on.
FIRST_BEAT_S = float(os.environ.get("ORCHESTRATOR_FIRST_BEAT_S", 1.0))
# A holder whose heartbeat is older than this is taken for dead: three beats missed.
STALE_S = float(os.environ.get("ORCHESTRATOR_STALE_S", 100.0))
# Once told to stop, a holder beats so often: what it was given can be read from its last beat.
STOPPING_BEAT_S = 1.0
# A shorter wait for an earlier attempt is no part of what a start-up takes.
WAIT_WORTH_TELLING_S = 1.0
_TASK_KEYS = ("array_job_id", "array_task_id", "job_id", "token")
# What a superseded holder's program gets to end after SIGTERM, before SIGKILL.
END_GRACE_S = 10.0


class TrialHeldElsewhere(Exception):
    """Another live process holds the trial; this one has nothing to do."""


class Superseded(Exception):
    """A newer attempt holds the trial; what this one has to say does not count any more."""


class Beats:
    """When heartbeats are due."""

    def __init__(self, now: float):
        """Begin at ``now``, on the monotonic clock."""
        self._gap_s = min(FIRST_BEAT_S, HEARTBEAT_S)
        self.next_at = now + self._gap_s
        """When the next one is due."""

    @property
    def is_settled(self) -> bool:
        """Whether they have nearly come to their lasting distance."""
        return 2 * self._gap_s >= HEARTBEAT_S

    def took_place(self, now: float) -> None:
        """Take note that one took place."""
        self._gap_s = min(2 * self._gap_s, HEARTBEAT_S)
        self.next_at = now + self._gap_s


class Claim:
    """The claim of one attempt, held by this process."""

    def __init__(self, trial: TrialPaths, number: int, record: dict[str, Any]):
        """Wrap a claim that ``take_claim`` published."""
        self.trial, self.number, self.record = trial, number, record
        self._started = time.monotonic()
        self.beats = Beats(self._started)
        """When its heartbeats are due."""
        self.waited_s = 0.0
        """How long it waited, before its program, for an earlier attempt to end; 0: hardly."""
        self.is_passed = False
        """Whether another attempt took the trial or committed while it waited."""

    def wait_for(self, numbers: Sequence[int], say: Callable[[str], None]) -> None:
        """Let the attempts that this one supersedes end themselves, beating meanwhile.

        Args:
            numbers: All before this one, ascending. Nearly always only the last is looked at; it
                may have gone, though, while it still waited for the one before it.
            say: Takes a line for the log.
        """
        for number in reversed(numbers):
            _await_stand_down(self.trial, number, self._beat_if_due, say)
            if self.is_passed or _has_waited(self.trial, number):
                break
        if not self.is_passed:
            end_orphans(self.trial.root, self.number, END_GRACE_S, say, self._beat_if_due)
        # It may have committed between two beats of ours, and ended at that.
        self.is_passed = self.is_passed or os.path.exists(self.trial.result)
        waited_s = time.monotonic() - self._started
        self.waited_s = waited_s if waited_s >= WAIT_WORTH_TELLING_S else 0.0

    def _beat_if_due(self) -> bool:
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

    def beat(self) -> bool:
        """Touch the claim, and tell whether this attempt still holds the trial.

        Returns:
            False once a newer attempt exists or a result is committed.

        Raises:
            FileNotFoundError: The trial's directory is gone.
        """
        os.utime(self.trial.attempt(self.number))
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


def server_time(trial: TrialPaths) -> float:
    """The time on the file server's clock: nodes' clocks need not agree with it."""
    os.utime(trial.attempts)  # without times: NFS stamps it with the server's clock
    return os.stat(trial.attempts).st_mtime


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
    say: Callable[[str], None],
) -> Claim:
    """Claim the next attempt of a trial.

    Args:
        trial: Its files.
        details: What to record beside the identity: ``layout``, ``resources``.
        environ: The process environment, for the Slurm job.
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
            _await_death(trial, numbers[-1], mine, say)
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
            claim = Claim(trial, number, record)  # from here on its time counts
            failpoint.reach("claim.publish.after")
            if numbers:
                claim.wait_for(numbers, say)
            return claim


def _look_around(trial: TrialPaths) -> dict[str, Any]:
    """Tell what an attempt finds: when it claims, and the newest checkpoint's and report's time.

    All on the file server's clock, since nodes' clocks need not agree. An entry that is being
    written, by its name, is none: it starts with a dot or ends in ``.tmp``.
    """
    os.utime(trial.attempts)  # without times: NFS stamps it with the server's clock
    claimed = os.stat(trial.attempts).st_mtime
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


def _await_death(
    trial: TrialPaths, number: int, mine: Mapping[str, Any], say: Callable[[str], None]
) -> None:
    """Return once attempt ``number`` cannot hold the trial any more; raise if it is alive.

    The same Slurm task with a lower restart count was ended by Slurm itself, or lives on on a node
    that Slurm gave up: it is superseded, see ``_await_stand_down``. A process of this host can be
    looked up. Otherwise the heartbeat decides, and a fresh one is watched: if it moves the holder
    lives. Ages are taken on the file server's clock, so the nodes' need not agree.
    """
    path = trial.attempt(number)
    try:
        record = read_record(path)
    except CorruptRecord as error:
        say(f"attempt {number}: {error}; passing it over")
        return
    if record.get("outcome") is not None:
        return
    same_task = mine.get("job_id") is not None and (
        # With the token: a controller that lost its state gives the same ids again.
        [record.get(key) for key in _TASK_KEYS] == [mine.get(key) for key in _TASK_KEYS]
    )
    if same_task and mine["restart_count"] > record.get("restart_count", 0):
        return
    where = f"attempt {number} on {record.get('node')}"
    alive = job.is_alive_here(record)
    if alive is False:
        return
    if alive is True:
        raise TrialHeldElsewhere(f"{where} is running (process {record.get('pid')})")
    first = os.stat(path).st_mtime
    age_s = server_time(trial) - first
    if age_s > STALE_S:
        return
    say(f"{where} has no end and its heartbeat is {max(0.0, age_s):.0f} s old; watching it")
    deadline = time.monotonic() + STALE_S - max(0.0, age_s)
    while time.monotonic() < deadline:
        time.sleep(1.0)
        has_moved = os.stat(path).st_mtime != first  # before the reading: its end moves it, too
        if os.path.exists(trial.result) or "outcome" in read_record(path):
            return
        if has_moved:
            raise TrialHeldElsewhere(f"{where} is running: its heartbeat moves")


def _await_stand_down(
    trial: TrialPaths,
    number: int,
    keep_on: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    """Let attempt ``number``, which this one supersedes, see that and stop; go on if it is dead.

    Slurm starts a task again elsewhere when a node does not answer; the copy there may well be
    alive, and two at once would mix their metrics. It looks for a newer claim at each heartbeat:
    if none comes in that time it is dead or frozen, and will look first of all when it thaws. The
    wait ends, too, once ``keep_on`` (our own heartbeat) says that the trial is another's.
    """
    path = trial.attempt(number)
    try:
        record = read_record(path)
        first = os.stat(path)
    except (OSError, CorruptRecord):
        return
    if "outcome" in record or job.is_alive_here(record) is False:
        return
    if server_time(trial) - first.st_mtime > STALE_S:
        return
    beat_s = STOPPING_BEAT_S if "signal" in record else HEARTBEAT_S
    say(f"attempt {number} on {record.get('node')} has no end; giving it {beat_s:.0f} s to show up")
    deadline = time.monotonic() + 1.5 * beat_s
    has_moved = False
    while time.monotonic() < deadline and keep_on():
        time.sleep(min(0.2, beat_s))
        try:
            if "outcome" in read_record(path) or job.is_alive_here(record) is False:
                return
            moved = os.stat(path).st_mtime_ns != first.st_mtime_ns
        except (OSError, CorruptRecord):
            return
        if moved and not has_moved:
            has_moved = True  # and so it has seen our claim
            say(f"attempt {number} lives; waiting for it to end its program")
            deadline = time.monotonic() + beat_s + 1.5 * END_GRACE_S


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

"""The journal: what we decided, append-only, one writer at a time. Runs on the login node.

Kinds of entry, each with ``at`` (UTC):

``intent``     ``token, executor, cluster, trials, by, partition, gpus, throttle, after``: on disk
               before sbatch is called; ``held``: what the array waits for, held by Slurm
``submitted``  ``token, job_id``: the receipt
``adopted``    ``token, job_id``: the receipt was lost; the job was found by its token
``refused``    ``token, reason``: the cluster said no; the trials are free again
``abandoned``  ``token, reason``: it was settled that no job of this token exists
``code``       ``commit, dirty``: what code the trials submitted next run
``retried``    ``trial, attempt, cause, reason, changes``: it goes again; its intent follows
``gave_up``    ``trial, attempt, token, cause, reason``: failed for good, unless a person asks
``cancelled``  ``trial, token``: seen in Slurm; written since Slurm forgets it
``preempted``  ``trial, token``: Slurm says so of its newest attempt; written since Slurm forgets it
``released``   ``trial, token, reason``: its array task was taken out of a hold
``stopped``    ``trial, token, reason``: we cancelled its array task, to replace it
``moved``      ``trial, token, from, partition, reason``: it goes on in another partition
``throttled``  ``token, throttle, sure``: the most tasks of the array that may run at once, from now
               on; ``sure`` once Slurm has done it
``behind``     ``token, after``: the arrays, by Slurm's id, whose end it waits for, from now on
``confirming`` ``trials, seeds``: asked for on fresh seeds; by id, the trial that each is to confirm
``excluded``   ``node, reason``: no array submitted later runs there
``readmitted`` ``node``: it gets another chance
``paused``     ``reason, arrays``: the rest of the sweep is held back
``resumed``    ``arrays``: and let go
``opened``     ``closed, reason, pardoned``: the closed gate is to be opened, see ``runtime.gate``;
               the failed attempts of ``pardoned``, by trial, go again

A writer that was killed leaves at most one cut line, which readers pass over and the next writer
ends. Whoever holds the lock may write; see ``sweep_lock``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.adapters import sweep_lock
from orchestrator.adapters.regular_file import UnusableFile, open_own, read_file
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.file_errors import naming
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, parse_record
from orchestrator.domain.cause import Cause
from orchestrator.runtime import durable, failpoint, job
from orchestrator.runtime.claim import utc_now

# An intent of ten thousand trials takes 200 kB.
MAX_JOURNAL_BYTES = 2**31


@dataclass
class Submission:
    """One array (or one local run) and what is known of it."""

    token: str
    """The job's name in Slurm; unique."""
    executor: str
    """``slurm`` or ``local``."""
    trials: list[str]
    """Trial directory names by array index."""
    at: str
    """When the intent was written, UTC."""
    cluster: str = ""
    """Slurm's ``ClusterName``; empty for a local run. Only that cluster can tell of the job."""
    job_id: str | None = None
    """Slurm's id of the array; None before the receipt."""
    by: Mapping[str, Any] = field(default_factory=dict)
    """The process that wrote the intent; see ``job.describe_process``."""
    partition: str = ""
    """The profile it was submitted to; empty in older journals."""
    gpus: int = 0
    """GPUs of each of its tasks, on all nodes."""
    throttle: int | None = None
    """Most of its tasks that may run at once, as it was decided last; None: no limit."""
    is_throttle_sure: bool = True
    """Whether Slurm has done it; if not, its own may be smaller."""
    after: tuple[str, ...] = ()
    """Arrays, by Slurm's id, whose end it waits for."""
    dead: str | None = None
    """Why there is no such job: refused or abandoned; None otherwise."""

    @property
    def is_settled(self) -> bool:
        """Whether it is known that the job was accepted, or that it was not."""
        return self.executor == "local" or self.job_id is not None or self.dead is not None


class GaveUp(NamedTuple):
    """A trial that is failed for good."""

    attempt: int
    """Its newest attempt then; 0 if it had none."""
    token: str
    """Its newest submission then."""
    reason: str
    """Why, in words."""


class Pause(NamedTuple):
    """A sweep whose rest is held back."""

    reason: str
    """Why, in words."""
    arrays: tuple[str, ...]
    """What was held, as scontrol wants it: ``7_[0,2,3]``."""


@dataclass
class JournalState:
    """The journal folded: every submission, in order."""

    submissions: dict[str, Submission] = field(default_factory=dict)
    """By token, oldest first."""
    problems: list[str] = field(default_factory=list)
    """Lines that could not be read."""
    changes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What a trial was last submitted with, as ``Changes`` writes it; by trial."""
    partitions: dict[str, str] = field(default_factory=dict)
    """The profile that a trial belongs to: of its newest submission or move; by trial."""
    forgiven: dict[str, int] = field(default_factory=dict)
    """Attempts up to this number do not count, since a person asked for more; by trial."""
    forgiven_starts: dict[str, int] = field(default_factory=dict)
    """And so many submissions do not count; by trial."""
    gave_up: dict[str, GaveUp] = field(default_factory=dict)
    """Trials that are failed for good."""
    cancelled: set[tuple[str, str]] = field(default_factory=set)
    """(token, trial) that a person cancelled in Slurm."""
    preempted: set[tuple[str, str]] = field(default_factory=set)
    """(token, trial) that Slurm ended by preemption."""
    stopped: set[tuple[str, str]] = field(default_factory=set)
    """(token, trial) that we cancelled, to replace them."""
    n_releases: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often the array task of (token, trial) was taken out of a hold."""
    excluded: dict[str, str] = field(default_factory=dict)
    """Nodes that new arrays avoid, and why."""
    pardoned: dict[str, int] = field(default_factory=dict)
    """Failed attempts that closed the gate, which was opened since; by trial."""
    paused: Pause | None = None
    """Why the rest of the sweep is held back; None if it is not."""
    _tokens: dict[str, list[str]] = field(default_factory=dict)

    def add(self, submission: Submission) -> None:
        """Add the newest submission."""
        self.submissions[submission.token] = submission
        for trial in submission.trials:
            self._tokens.setdefault(trial, []).append(submission.token)

    def submissions_of(self, trial: str) -> list[Submission]:
        """Return the submissions of a trial that may exist, oldest first."""
        submissions = (self.submissions[token] for token in self._tokens.get(trial, ()))
        return [submission for submission in submissions if submission.dead is None]

    def last_submission_of(self) -> dict[str, tuple[Submission, int]]:
        """Map each trial to its newest submission that may exist, and its index there."""
        last: dict[str, tuple[Submission, int]] = {}
        for submission in self.submissions.values():
            if submission.dead is None:
                for index, trial in enumerate(submission.trials):
                    last[trial] = (submission, index)
        return last


def read_journal(sweep: SweepPaths) -> JournalState:
    """Fold the journal of a sweep; an absent one is an empty one.

    Raises:
        CorruptRecord: It is there and cannot be read: not the same as nothing submitted.
    """
    state = JournalState()
    entries, state.problems = read_entries(sweep)
    for number, entry in entries:
        try:
            _apply(state, entry)
        except (KeyError, TypeError, ValueError) as error:
            state.problems.append(f"journal line {number}: {error!s}")
    return state


def read_entries(sweep: SweepPaths) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Return the entries of a journal with their line numbers, and what could not be read."""
    entries: list[tuple[int, dict[str, Any]]] = []
    problems: list[str] = []
    try:
        data, _ = read_file(sweep.journal, MAX_JOURNAL_BYTES)
    except FileNotFoundError:
        return entries, problems
    except UnusableFile as error:
        raise CorruptRecord(f"{sweep.journal}: {error}; what was submitted is unknown") from None
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entries.append((number, parse_record(line, f"{sweep.journal}:{number}")))
        except CorruptRecord as error:
            problems.append(f"journal line {number}: {error!s}")
    return entries, problems


def _apply(state: JournalState, entry: dict[str, Any]) -> None:
    kind, token = entry["kind"], entry.get("token", "")
    if kind == "intent":
        trials, cluster = list(entry["trials"]), entry.get("cluster", "")
        by = dict(entry.get("by", {}))
        submission = Submission(token, entry["executor"], trials, entry["at"], cluster, by=by)
        _apply_placement(state, submission, entry)
        state.add(submission)
    elif kind in ("submitted", "adopted"):
        state.submissions[token].job_id = entry["job_id"]
    elif kind in ("refused", "abandoned"):
        state.submissions[token].dead = entry["reason"]
    elif kind in _DECISIONS:
        _DECISIONS[kind](state, entry)


def _apply_placement(state: JournalState, submission: Submission, entry: dict[str, Any]) -> None:
    submission.partition = str(entry.get("partition", ""))
    submission.gpus = int(entry.get("gpus", 0))
    submission.throttle = entry.get("throttle")
    submission.after = tuple(entry.get("after", ()))
    if submission.partition:
        state.partitions.update(dict.fromkeys(submission.trials, submission.partition))


def _apply_throttled(state: JournalState, entry: dict[str, Any]) -> None:
    submission = state.submissions[entry["token"]]
    submission.throttle, submission.is_throttle_sure = entry["throttle"], entry["sure"]


def _apply_behind(state: JournalState, entry: dict[str, Any]) -> None:
    state.submissions[entry["token"]].after = tuple(entry["after"])


def _apply_retried(state: JournalState, entry: dict[str, Any]) -> None:
    trial = entry["trial"]
    state.changes[trial] = dict(entry["changes"])
    if entry["cause"] == Cause.ASKED.value:
        state.forgiven[trial] = int(entry["attempt"])
        state.forgiven_starts[trial] = len(state.submissions_of(trial))
        state.gave_up.pop(trial, None)


def _apply_gave_up(state: JournalState, entry: dict[str, Any]) -> None:
    given_up = GaveUp(int(entry["attempt"]), entry["token"], entry["reason"])
    state.gave_up[entry["trial"]] = given_up


def _apply_released(state: JournalState, entry: dict[str, Any]) -> None:
    key = (entry["token"], entry["trial"])
    state.n_releases[key] = state.n_releases.get(key, 0) + 1


def _apply_paused(state: JournalState, entry: dict[str, Any]) -> None:
    state.paused = Pause(entry["reason"], tuple(entry["arrays"]))


def _apply_resumed(state: JournalState, entry: dict[str, Any]) -> None:
    state.paused = None


def _apply_opened(state: JournalState, entry: dict[str, Any]) -> None:
    for trial, attempt in dict(entry["pardoned"]).items():
        state.pardoned[trial] = state.forgiven[trial] = int(attempt)
        state.forgiven_starts[trial] = len(state.submissions_of(trial))
        state.gave_up.pop(trial, None)


_DECISIONS: dict[str, Callable[[JournalState, dict[str, Any]], object]] = {
    "retried": _apply_retried,
    "gave_up": _apply_gave_up,
    "cancelled": lambda state, entry: state.cancelled.add((entry["token"], entry["trial"])),
    "preempted": lambda state, entry: state.preempted.add((entry["token"], entry["trial"])),
    "stopped": lambda state, entry: state.stopped.add((entry["token"], entry["trial"])),
    "moved": lambda state, entry: state.partitions.update({entry["trial"]: entry["partition"]}),
    "throttled": _apply_throttled,
    "behind": _apply_behind,
    "released": _apply_released,
    "excluded": lambda state, entry: state.excluded.update({entry["node"]: entry["reason"]}),
    "readmitted": lambda state, entry: state.excluded.pop(entry["node"], None),
    "paused": _apply_paused,
    "resumed": _apply_resumed,
    "opened": _apply_opened,
}


class JournalWriter:
    """Appends entries; got from ``lock``."""

    def __init__(self, sweep: SweepPaths, now_s: float):
        """Open the journal and end a line that a killed writer cut short.

        Args:
            sweep: Whose journal.
            now_s: The time on the file server's clock, seconds since the epoch.

        Raises:
            CorruptRecord: Something else than a file stands in its place.
            OSError: It cannot be opened or written.
        """
        self.sweep = sweep
        self._is_cut = False
        self._began_at = time.monotonic()
        self._began_s = now_s
        with naming(sweep.journal):
            self._fd = open_own(sweep.journal)
            try:
                status = os.fstat(self._fd)
                # Before our own first write: two login nodes' clocks need not agree, so nobody's
                # ``at`` tells how long ago an earlier writer wrote its last entry.
                self._quiet_s = max(0.0, now_s - status.st_mtime)
                if status.st_size and os.pread(self._fd, 1, status.st_size - 1) != b"\n":
                    failpoint.reach("journal.mend.before")
                    os.write(self._fd, b"\n")
                    failpoint.reach("journal.mend.after")
                elif not status.st_size:
                    durable.sync_directory(sweep.root)
            except OSError:
                os.close(self._fd)
                raise

    def quiet_s(self) -> float:
        """Return for how long no earlier writer wrote, at least, by the file server's clock."""
        return self._quiet_s + time.monotonic() - self._began_at

    def server_now_s(self) -> float:
        """Return the time on the file server's clock, seconds since the epoch."""
        return self._began_s + time.monotonic() - self._began_at

    def write(self, kind: str, **fields: Any) -> None:
        """Append one entry and bring it to disk before returning.

        An intent also names this process, see ``Submission.by``.

        Raises:
            OSError: It could not be written (disk full, quota): nothing may be done that the
                entry was to announce. The cut line is passed over by readers.
        """
        self.write_all([(kind, fields)])

    def write_all(self, entries: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Append entries, each a kind and its fields, and bring them to disk; see ``write``."""
        lines = b"".join(_line(kind, fields) for kind, fields in entries)
        if not lines:
            return
        failpoint.reach("journal.write.before")
        with naming(self.sweep.journal):
            if self._is_cut:
                durable.write_all(self._fd, b"\n", "journal.write.half")
            self._is_cut = True
            durable.write_all(self._fd, lines, "journal.write.half")
            self._is_cut = False
            failpoint.reach("journal.fsync.before")
            os.fsync(self._fd)
        failpoint.reach("journal.fsync.after")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _line(kind: str, fields: Mapping[str, Any]) -> bytes:
    by = {"by": job.describe_process()} if kind == "intent" else {}
    return dump_record({"at": utc_now(), "kind": kind, **fields, **by})


@contextlib.contextmanager
def lock(sweep: SweepPaths, wait_s: float = sweep_lock.WAIT_S) -> Iterator[JournalWriter]:
    """Become the one writer of a sweep's journal.

    Raises:
        SweepLocked: Another process holds the sweep; see ``sweep_lock.hold``.
    """
    with sweep_lock.hold(sweep, wait_s) as now_s:
        with contextlib.closing(JournalWriter(sweep, now_s)) as writer:
            yield writer

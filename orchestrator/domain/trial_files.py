"""What compute nodes wrote about a trial, as values.

Pure. ``adapters.trial_dir`` makes them from files; cost, ranking and retry decisions read them.
Named tuples, not frozen dataclasses: ten thousand of them are made at every look at a sweep, and a
frozen dataclass takes five times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Attempt(NamedTuple):
    """One execution of a trial on a node; what its record does not say is None."""

    number: int
    """1, 2, ... within the trial."""
    node: str | None = None
    """Host name of the node."""
    started_at: datetime | None = None
    """Start, UTC, on the node's clock."""
    ended_at: datetime | None = None
    """End, UTC, on the node's clock; None while it runs, or when it was killed without a word."""
    wall_s: float | None = None
    """Seconds from the claim to the end, on a monotonic clock; see ``is_estimate``."""
    outcome: str | None = None
    """One of the outcomes in ``contract.records``; None without an end."""
    exit_code: int | None = None
    """The program's exit code; negative for a death by signal."""
    cause: str | None = None
    """Why it ended, in words. Foreign text: show it through ``plain_text``."""
    requeue: str | None = None
    """What became of its request to be requeued."""
    token: str | None = None
    """The array it belonged to."""
    array_task_id: int | None = None
    """Index in that array."""
    job_id: str | None = None
    """Slurm's job id."""
    resources: Mapping[str, Any] = _NOTHING
    """``partition, gpus, cpus, nodes, price_per_hour, currency``, as the claim has them."""
    heartbeat_at: float | None = None
    """Last heartbeat as a Unix time on the file server's clock; None once it has ended."""
    is_estimate: bool = False
    """Whether ``wall_s`` ends at the last heartbeat, the attempt having died without a word: it
    lived at least so long."""
    kind: str | None = None
    """Of a failed attempt, one of the kinds in ``runtime.cause``: ``cuda_oom``, ``stuck``, ..."""
    fingerprint: str | None = None
    """Of a failed attempt: the same for the same failure of another trial."""
    signal: str | None = None
    """Name of the stop signal that it was told by; None if it was not told to stop."""
    progress_before: Sequence[int] | None = None
    """What the trial had to show when it started: see ``runtime.progress.measure_progress``."""
    progress: Sequence[int] | None = None
    """And when it ended, where its record says so."""
    claimed_at: float | None = None
    """The claim as a Unix time on the file server's clock; None in records of older versions."""
    resumes_from: float | None = None
    """Its newest checkpoint then, on the same clock; None if there was none."""
    start_up_s: float | None = None
    """Seconds before its work began; None if unknown."""
    reported_at: float | None = None
    """When ``metrics.jsonl`` was last written to, as its claim found it; None: not known, or never.
    On the file server's clock."""


class TrialFiles(NamedTuple):
    """The files of one trial, read and checked."""

    name: str
    """Directory name, ``<number>-<hash>``; stays text."""
    number: int
    """The readable number."""
    id: str
    """The hash."""
    params: Mapping[str, Any] | None = None
    """``params.json``; None when it cannot be used."""
    result: Mapping[str, Any] | None = None
    """``result.json`` without its ``attempts``; None without one that can be used."""
    is_committed: bool = False
    """Whether ``result.json`` is there, whether or not it can be used."""
    attempts: tuple[Attempt, ...] = ()
    """By number."""
    metrics: Mapping[str, Any] = _NOTHING
    """Last value of each metric: the result's, or what was reported so far."""
    last_step: int | None = None
    """Last step reported; None without a curve."""
    problems: tuple[str, ...] = ()
    """What could not be used, each starting with the file's name."""

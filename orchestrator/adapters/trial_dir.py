"""Reading what compute nodes wrote into trial directories.

Runs on the login node; writes only a cache. The files come from half-killed processes and foreign
programs, so whatever cannot be used is named in ``problems`` and passed over; nothing here crashes
on a file or waits for one (a FIFO is opened without blocking, links are not followed, sizes are
checked before reading).

What was read of trials at rest is kept in a cache; see ``ingest_cache``. Called by the use cases.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.adapters.ingest_cache import (
    Entry,
    is_current,
    load_cache,
    remember_trial,
    update_cache,
)
from orchestrator.adapters.regular_file import UnusableFile, name_kind, read_file
from orchestrator.contract.errors import CorruptRecord, OrchestratorError, UserError
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import (
    MAX_RECORD_BYTES,
    fold_metrics,
    parse_record,
)
from orchestrator.domain.attempt_record import make_attempt
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.trial_files import Attempt, TrialFiles

# Of a running trial's metrics only the end is read: it is shown, never ranked.
LIVE_METRICS_BYTES = 2**20
# A trial that was requeued more often is broken, and its directory a trap.
MAX_ATTEMPTS = 1000
_TRIAL_NAME = re.compile(r"([0-9]{1,12})-([0-9a-f]{4,64})")
_ATTEMPT_NAME = re.compile(r"([1-9][0-9]{0,8})\.json")


@dataclass(frozen=True)
class Scan:
    """Every trial of a sweep, as its files say."""

    trials: list[TrialFiles]
    """In number order."""
    problems: list[str]
    """What is wrong with the sweep's directory itself; a trial's own problems stand with it."""
    stamp: str | None = None
    """Digest of what was read, if every trial is at rest: the same stamp, the same trials."""

    def find(self, name: str) -> TrialFiles:
        """Return the trial of a name that is known to be here."""
        return self._by_name[name]

    @functools.cached_property
    def _by_name(self) -> dict[str, TrialFiles]:
        return {trial.name: trial for trial in self.trials}


def list_trials(sweep: SweepPaths) -> list[str]:
    """List the directory names of a sweep's trials in number order; empty before the first.

    Entries that are no trials are passed over; ``scan_sweep`` names them.

    Raises:
        UserError: There is no such sweep.
        OrchestratorError: The directory cannot be read.
    """
    return [name for _, name, _ in _list_entries(sweep)[0]]


def is_trial_name(name: str) -> bool:
    """Tell whether a directory of that name would be a trial's."""
    return _TRIAL_NAME.fullmatch(name) is not None


def read_trial(paths: TrialPaths) -> TrialFiles:
    """Read one trial's files, without the cache. See ``Scan`` for a whole sweep."""
    return _read_trial(paths)


def scan_trials(sweep: SweepPaths) -> list[TrialFiles]:
    """Read every trial of a sweep in number order; see ``scan_sweep``."""
    return scan_sweep(sweep).trials


def scan_sweep(sweep: SweepPaths) -> Scan:
    """Read every trial of a sweep, those at rest from the cache, and bring the cache up to date.

    Raises:
        UserError: There is no such sweep.
        OrchestratorError: The trials' directory cannot be read.
    """
    with without_gc():
        entries, problems = _list_entries(sweep)
        cache = load_cache(f"{sweep.cache}/trials.jsonl")
        cached = cache.entries
        now_ns = time.time_ns()
        trials: list[TrialFiles] = []
        recalled: list[str] = []
        fresh: dict[str, Entry] = {}
        for _, name, mtime_ns in entries:
            hit = cached.get(name)
            if hit is not None and is_current(hit, mtime_ns, sweep):
                trials.append(hit.trial)
                recalled.append(name)
                continue
            trial = _read_trial(sweep.trial(name))
            trials.append(trial)
            entry = remember_trial(trial, mtime_ns, now_ns, sweep)
            if entry is not None:
                fresh[name] = entry
        if fresh or len(recalled) < len(cached) or cache.is_damaged:
            update_cache(cache, recalled, fresh)
        stamp = cache.stamp(len(trials))
    return Scan(trials, problems, stamp)


def tail_log(paths: TrialPaths, n_lines: int, max_bytes: int = 64 * 1024) -> list[str]:
    """Return the last lines of a trial's log, fit for a terminal.

    Args:
        paths: The trial.
        n_lines: At most so many lines.
        max_bytes: At most so much of the log's end is read.

    Returns:
        Lines without control characters; empty without a log.

    Raises:
        CorruptRecord: The log is there and cannot be read.
    """
    try:
        data, status = read_file(paths.log, max_bytes, tail=True)
    except FileNotFoundError:
        return []
    except UnusableFile as error:
        raise CorruptRecord(f"{paths.log}: {error}") from None
    text = data.decode("utf-8", "replace")
    if status.st_size > len(data):
        text = text.partition("\n")[2] or text  # the first line may be cut
    lines = [line.rstrip() for line in strip_controls(text).rstrip("\n").split("\n")]
    return lines[-n_lines:] if n_lines > 0 and lines != [""] else []


def _list_entries(sweep: SweepPaths) -> tuple[list[tuple[int, str, int]], list[str]]:
    """List (number, name, mtime in nanoseconds) of the trials, and name what else lies there."""
    entries: list[tuple[int, str, int]] = []
    problems: list[str] = []
    try:
        with os.scandir(sweep.trials) as found:
            for entry in found:
                name = entry.name
                match = _TRIAL_NAME.fullmatch(name)
                if match is None:
                    if not name.startswith(".") and not name.endswith(".tmp"):
                        problems.append(f"trials/{name}: not a trial's directory name; passed over")
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # removed since it was listed
                except OSError:
                    # Unknown is not absent: it is read without the cache, and says what is wrong.
                    entries.append((int(match[1]), name, -1))
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    problems.append(f"trials/{name}: {name_kind(status.st_mode)}; passed over")
                    continue
                entries.append((int(match[1]), name, status.st_mtime_ns))
    except FileNotFoundError:
        if not os.path.isdir(sweep.root):
            raise UserError(f"{sweep.root}: there is no such sweep") from None
        return [], []
    except OSError as error:
        raise OrchestratorError(f"{sweep.trials}: cannot be read: {error.strerror}") from None
    entries.sort()
    return entries, sorted(problems)


def _read_trial(paths: TrialPaths) -> TrialFiles:
    name = paths.name
    match = _TRIAL_NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name!r} is not a trial's name; they look like 00042-3fa9c1d2e0")
    problems: list[str] = []
    params, _ = _read_json(paths.params, "params.json", problems)
    if params is None and not problems:
        problems.append("params.json: there is no such file")
    n_problems = len(problems)
    result, _ = _read_json(paths.result, "result.json", problems)
    is_committed = result is not None or len(problems) > n_problems
    if result is not None and result.get("trial", name) != name:
        problems.append(f"result.json: of another trial, {str(result['trial'])[:80]!r}")
        result = None
    metrics: Any = {}
    if result is not None:
        metrics = result.get("metrics")
        if not isinstance(metrics, dict):
            problems.append("result.json: metrics is not an object")
            metrics = {}
    ends = result.pop("attempts", None) if result is not None else None
    attempts = _read_attempts(paths, ends, problems)
    last_step = result.get("last_step") if result is not None else None
    if not is_committed and attempts:
        metrics, last_step = _read_live_metrics(paths, problems)
    return TrialFiles(
        name=name,
        number=int(match[1]),
        id=match[2],
        params=params,
        result=result,
        is_committed=is_committed,
        attempts=attempts,
        metrics=metrics,
        last_step=last_step if type(last_step) is int else None,
        problems=tuple(problems),
    )


def _read_attempts(paths: TrialPaths, ends: object, problems: list[str]) -> tuple[Attempt, ...]:
    """Collect the attempts: their ends as the result has them, the others from their records."""
    committed: dict[int, dict[str, Any]] = {}
    for end in ends if isinstance(ends, list) else ():
        if isinstance(end, dict) and type(number := end.get("attempt")) is int and number > 0:
            committed[number] = end
    numbers = set(committed)
    try:
        for file_name in os.listdir(paths.attempts):
            if match := _ATTEMPT_NAME.fullmatch(file_name):
                numbers.add(int(match[1]))
            elif not file_name.startswith(".") and not file_name.endswith(".tmp"):
                problems.append(f"attempts/{file_name[:80]}: not an attempt's record; passed over")
    except FileNotFoundError:
        pass  # not started yet, or tidied away since the result has them
    except OSError as error:
        problems.append(f"attempts: cannot be read: {error.strerror}")
    if len(numbers) > MAX_ATTEMPTS:
        problems.append(f"attempts: {len(numbers)} of them; only the last {MAX_ATTEMPTS} are read")
    attempts = []
    for number in sorted(numbers)[-MAX_ATTEMPTS:]:
        record = committed.get(number)
        heartbeat_at = None
        if record is None or record.get("outcome") is None:
            found, mtime = _read_json(paths.attempt(number), f"attempts/{number}.json", problems)
            # Of a killed attempt the result has its length, its own record nothing.
            if record is None or (found is not None and found.get("outcome") is not None):
                record = found
                if found is None or found.get("outcome") is None:
                    heartbeat_at = mtime
        attempts.append(make_attempt(number, record or {}, heartbeat_at, problems))
    return tuple(attempts)


def _read_live_metrics(paths: TrialPaths, problems: list[str]) -> tuple[dict[str, Any], int | None]:
    """Fold what a trial reported so far; of a long file only its end, whole lines only."""
    try:
        data, status = read_file(paths.metrics, LIVE_METRICS_BYTES, tail=True)
    except FileNotFoundError:
        return {}, None
    except UnusableFile as error:
        problems.append(f"metrics.jsonl: {error}")
        return {}, None
    is_whole = status.st_size <= len(data)
    if not is_whole:
        data = data.partition(b"\n")[2]
    data = data[: data.rfind(b"\n") + 1]  # the last line may be being written
    metrics, _, last_step, wrong = fold_metrics(data.split(b"\n"), is_from_start=is_whole)
    problems.extend(f"metrics.jsonl: {text}" for text in wrong)
    return metrics, last_step


def _read_json(
    path: str, label: str, problems: list[str]
) -> tuple[dict[str, Any] | None, float | None]:
    """Read a record and its mtime; an unusable one is named, an absent one is not."""
    try:
        data, status = read_file(path, MAX_RECORD_BYTES)
    except FileNotFoundError:
        return None, None
    except UnusableFile as error:
        problems.append(f"{label}: {error}")
        return None, None
    try:
        return parse_record(data, label), status.st_mtime
    except CorruptRecord as error:
        problems.append(str(error))
        return None, status.st_mtime


@contextlib.contextmanager
def without_gc() -> Iterator[None]:
    """Keep the collector off while many containers are made that all stay: it halves the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

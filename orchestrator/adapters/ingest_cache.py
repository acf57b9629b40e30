"""The ingest cache: what was read of trials at rest, so that a finished trial is read once.

Knows the cache's format and when an entry may be trusted; reads no trial's files itself. Called by
``trial_dir.scan_sweep``; runs on the login node.

The cache costs one ``stat`` a trial in the order of the directory, which NFS (READDIRPLUS) and
Lustre (statahead) answer from what listing the directory fetched:

- a committed trial is at rest for ever, while the mtime of its directory is the same: a result
  that somebody removed, or a directory made anew, is seen;
- any other trial is at rest if no attempt of it is without an end, while the mtimes of its
  directory and of ``attempts/`` are the same and older than ``SETTLE_S`` (on file systems that
  keep whole seconds a second change within one would not be seen). Of one that never started
  only its directory is asked, whose mtime changes when ``attempts/`` is made.

The file, ``.cache/trials.jsonl``, is a row of segments, each a header and its entries, one a line:

    {"format": 3, "entries": 2, "bytes": 810, "sha256": "...", "resources": [{"gpus": 1, ...}]}
    ["00000-3fa9c1d2e0", ...],
    ["00001-61d08904dc", ...]

What is new is appended as one more segment, in one write, so that fifty new results in ten
thousand cost fifty lines; the last entry of a trial counts. A segment whose digest is wrong (half
written, or mixed with another's) ends what is used; then, when trials have vanished, or when much
of the file is out of date, it is written anew. ``resources``, alike in most attempts, stand once a
segment. The cache may be deleted at any time; one of another format is ignored. It holds JSON and
nothing that could run. An attempt that lost the race for the commit counts if its record was there
when the trial was read; no attempt starts after a commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.attempt_record import RESOURCES_FIELD, make_attempt
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime import durable

CACHE_FORMAT = 3
# Older than what file systems and clocks blur, and than an NFS client's attribute cache.
SETTLE_S = 60.0
# More segments are merged into one: each costs a header, and entries that it replaces stay.
MAX_SEGMENTS = 64
_MAX_BYTES = 2**31
_ATTEMPTS = 5  # place of the attempts in an entry
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOG = logging.getLogger(__name__)

Entry = list[Any]


@dataclass
class Cache:
    """The cache as it was read, and as ``update_cache`` left it."""

    path: str
    """Its file."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """The newest entry of each trial, by its name."""
    digests: list[str] = field(default_factory=list)
    """Of the segments in use, oldest first."""
    n_lines: int = 0
    """Entries in these segments; more than there are trials if some are out of date."""
    is_whole: bool = False
    """Whether the whole file could be used, so that it may be appended to."""
    is_damaged: bool = False
    """Whether it is there and could not."""

    def stamp(self, n_trials: int) -> str | None:
        """Return the digest of a cache that holds exactly ``n_trials`` trials, else None."""
        if len(self.entries) != n_trials:
            return None
        return hashlib.sha256("".join(self.digests).encode("ascii")).hexdigest()


def load_cache(path: str) -> Cache:
    """Read the cache, as far as it can be used."""
    cache = Cache(path)
    try:
        data, _ = read_file(path, _MAX_BYTES)
    except FileNotFoundError:
        return cache
    except UnusableFile as error:
        _LOG.info("%s is ignored: %s", path, error)
        cache.is_damaged = True
        return cache
    start = 0
    try:
        while start < len(data):
            start = _read_segment(data, start, cache)
        cache.is_whole = True
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        _LOG.info("%s is ignored from byte %d on: %s", path, start, error)
        cache.is_damaged = True
    return cache


def _read_segment(data: bytes, start: int, cache: Cache) -> int:
    """Take over the segment at ``start`` and return where the next one starts."""
    end = data.index(b"\n", start, start + 2**24) + 1
    header = json.loads(data[start:end])
    if header["format"] != CACHE_FORMAT:
        raise ValueError("of another format")
    body = memoryview(data)[end : end + header["bytes"]]
    if len(body) != header["bytes"] or hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ValueError("a segment is not as it was written")
    resources = header["resources"]
    entries = json.loads(f"[{str(body, 'ascii')}]")
    for entry in entries:
        for attempt in entry[_ATTEMPTS]:
            attempt[RESOURCES_FIELD] = resources[attempt[RESOURCES_FIELD]]
    cache.entries.update({entry[0]: entry for entry in entries})
    cache.digests.append(header["sha256"])
    cache.n_lines += len(entries)
    return end + len(body)


def recall_trial(entry: Entry, mtime_ns: int, sweep: SweepPaths) -> TrialFiles | None:
    """Make a trial from its cache entry, or return None if it is of no use any more."""
    try:
        name, then_ns, attempts_then_ns, params, result, attempts, metrics, step, problems = entry
        if then_ns != mtime_ns or not isinstance(params, (dict, type(None))):
            return None
        if result is not None:
            metrics = result.get("metrics", {})
            if not isinstance(metrics, dict):
                metrics = {}
        else:
            # Without attempts/ then, its making has changed the mtime of the trial's directory.
            if attempts_then_ns:
                if os.lstat(sweep.trial(name).attempts).st_mtime_ns != attempts_then_ns:
                    return None
            elif attempts_then_ns is None or attempts:
                return None
        number, _, trial_id = name.partition("-")
        return TrialFiles(
            name,
            int(number),
            trial_id,
            params,
            result,
            result is not None,
            tuple(map(make_attempt, attempts)),
            metrics,
            step,
            tuple(problems),
        )
    except (TypeError, ValueError, AttributeError, IndexError, OSError):
        return None


def remember_trial(
    trial: TrialFiles, attempts: list[list[Any]], mtime_ns: int, now_ns: int, sweep: SweepPaths
) -> Entry | None:
    """Return the cache's entry for a trial at rest, None for any other."""
    attempts_mtime_ns: int | None = None
    if trial.is_committed:
        if trial.result is None:
            return None  # somebody may repair it in place
        winner = trial.result.get("attempt")
        last = winner if type(winner) is int else 0
        if any(a.outcome is None and a.number >= last for a in trial.attempts):
            return None
    else:
        if trial.problems or any(attempt.outcome is None for attempt in trial.attempts):
            return None
        try:
            attempts_mtime_ns = os.lstat(sweep.trial(trial.name).attempts).st_mtime_ns
        except FileNotFoundError:
            attempts_mtime_ns = 0
        except OSError:
            return None
        if max(mtime_ns, attempts_mtime_ns) > now_ns - SETTLE_S * 1e9:
            return None
    return [
        trial.name,
        mtime_ns,
        attempts_mtime_ns,
        trial.params,
        trial.result,
        attempts,
        None if trial.result is not None else trial.metrics,
        trial.last_step,
        list(trial.problems),
    ]


def update_cache(cache: Cache, names: Iterable[str], fresh: Mapping[str, Entry]) -> None:
    """Bring the cache up to date, on disk too if it can be written.

    Args:
        cache: What ``load_cache`` returned.
        names: The trials whose entries stay.
        fresh: New entries by trial name, as ``remember_trial`` makes them.
    """
    kept = {name: cache.entries[name] for name in names if name in cache.entries}
    is_same = len(kept) == len(cache.entries)
    cache.entries = {**kept, **fresh}
    n_old = cache.n_lines + len(fresh) - len(cache.entries)
    if not is_same or not cache.is_whole or _is_worn(cache, n_old):
        cache.entries = dict(sorted(cache.entries.items()))
        text, digest = _segment(cache, cache.entries)
        cache.digests, cache.n_lines = [digest], len(cache.entries)
        _save(cache.path, text)
    elif fresh:
        text, digest = _segment(cache, fresh)
        cache.digests.append(digest)
        cache.n_lines += len(fresh)
        _append(cache.path, text)


def _is_worn(cache: Cache, n_old: int) -> bool:
    return len(cache.digests) >= MAX_SEGMENTS or n_old > 1000 + len(cache.entries) // 4


def _segment(cache: Cache, entries: Mapping[str, Entry]) -> tuple[bytes, str]:
    """Write entries as a segment; those that cannot be written are taken out of the cache."""
    resources: dict[str, int] = {}
    lines: list[str] = []
    for name, entry in list(entries.items()):
        try:
            attempts = []
            for attempt in entry[_ATTEMPTS]:
                spelled = _ENCODER.encode(attempt[RESOURCES_FIELD])
                number = resources.setdefault(spelled, len(resources))
                attempts.append(
                    [*attempt[:RESOURCES_FIELD], number, *attempt[RESOURCES_FIELD + 1 :]]
                )
            line = [*entry[:_ATTEMPTS], attempts, *entry[_ATTEMPTS + 1 :]]
            lines.append(_ENCODER.encode(line))
        except (ValueError, RecursionError):
            del cache.entries[name]  # too deep: read again each time
    body = (",\n".join(lines) + "\n").encode("ascii")
    digest = hashlib.sha256(body).hexdigest()
    header = f'{{"format": {CACHE_FORMAT}, "entries": {len(lines)}, "bytes": {len(body)}, '
    header += f'"sha256": "{digest}", "resources": [{", ".join(resources)}]}}\n'
    return header.encode("ascii") + body, digest


def _save(path: str, text: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        durable.replace(path, text)
    except OSError as error:
        _LOG.info("%s was not written: %s", path, error.strerror)


def _append(path: str, text: bytes) -> None:
    """Append a segment; one that is cut short, by a full disk or a kill, is found by its digest."""
    try:
        fd = os.open(path, _APPEND)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.write(fd, text)
        finally:
            os.close(fd)
    except OSError as error:
        _LOG.info("%s was not written: %s", path, error.strerror)

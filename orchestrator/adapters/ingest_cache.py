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

    {"format": 4, "entries": 2, "bytes": 810, "strict_bytes": 810, "sha256": "..."}
    [1795315090486388314, null, ["00000-3fa9c1d2e0", 0, "3fa9c1d2e0", {"lr": 0.001}, ...]]
    [1795315090487800925, null, ["00001-61d08904dc", 1, "61d08904dc", {"lr": 0.01}, ...]]

An entry has the fields of ``Entry``, and in it those of ``TrialFiles`` and ``Attempt``; a result's
metrics stand once, as the trial's. msgspec makes these from JSON in a third of the time that the
standard library takes to make lists. It knows no NaN and no integers beyond 64 bits: entries that
it would not give back as they were stand last in their segment, after ``strict_bytes``, as the
standard library writes and reads them.

What is new is appended as one more segment, in one write, so that fifty new results in ten
thousand cost fifty lines; the last entry of a trial counts. A segment whose digest is wrong (half
written, or mixed with another's) ends what is used; then, when trials have vanished, or when much
of the file is out of date, it is written anew. The cache may be deleted at any time; one of another
format is ignored. It holds JSON and nothing that could run. An attempt that lost the race for the
commit counts if its record was there when the trial was read; no attempt starts after a commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast

import msgspec

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime import durable

CACHE_FORMAT = 4
# Older than what file systems and clocks blur, and than an NFS client's attribute cache.
SETTLE_S = 60.0
# More segments are merged into one: each costs a header, and entries that it replaces stay.
MAX_SEGMENTS = 64
_MAX_BYTES = 2**31
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOG = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A trial at rest."""

    mtime_ns: int
    """Of its directory, when it was read."""
    attempts_mtime_ns: int | None
    """Of its ``attempts/``; 0 if there was none, None if it need not be asked."""
    trial: TrialFiles
    """What was read."""


_STRICT = msgspec.json.Decoder(Entry)
_STRICT_ENCODER = msgspec.json.Encoder()
_LOOSE_ENCODER = json.JSONEncoder(separators=(",", ":"), default=datetime.isoformat)


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
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
        _LOG.info("%s is ignored from byte %d on: %s", path, start, error)
        cache.is_damaged = True
    return cache


def _read_segment(data: bytes, start: int, cache: Cache) -> int:
    """Take over the segment at ``start`` and return where the next one starts."""
    end = data.index(b"\n", start, start + 1000) + 1
    header = json.loads(data[start:end])
    if header["format"] != CACHE_FORMAT:
        raise ValueError("of another format")
    body = memoryview(data)[end : end + header["bytes"]]
    if len(body) != header["bytes"] or hashlib.sha256(body).hexdigest() != header["sha256"]:
        raise ValueError("a segment is not as it was written")
    entries = _STRICT.decode_lines(body[: header["strict_bytes"]])
    for line in bytes(body[header["strict_bytes"] :]).splitlines():
        entries.append(msgspec.convert(json.loads(line), Entry))
    for entry in entries:
        trial = entry.trial
        if trial.metrics and trial.result is not None:
            cast(dict[str, Any], trial.result)["metrics"] = trial.metrics
        cache.entries[trial.name] = entry
    cache.digests.append(header["sha256"])
    cache.n_lines += len(entries)
    return end + len(body)


def is_current(entry: Entry, mtime_ns: int, sweep: SweepPaths) -> bool:
    """Tell whether an entry still holds, by the mtime of the trial's directory."""
    if entry.mtime_ns != mtime_ns:
        return False
    trial = entry.trial
    if trial.result is not None:
        return True
    if not entry.attempts_mtime_ns:
        # Without attempts/ then, its making has changed the mtime of the trial's directory.
        return entry.attempts_mtime_ns == 0 and not trial.attempts
    try:
        return os.lstat(sweep.trial(trial.name).attempts).st_mtime_ns == entry.attempts_mtime_ns
    except OSError:
        return False


def remember_trial(
    trial: TrialFiles, mtime_ns: int, now_ns: int, sweep: SweepPaths
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
    return Entry(mtime_ns, attempts_mtime_ns, trial)


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
    strict: list[bytes] = []
    loose: list[bytes] = []
    for name, entry in list(entries.items()):
        try:
            line = _spell_strictly(entry := _without_metrics(entry))
            if line is not None:
                strict.append(line)
            else:
                loose.append(_LOOSE_ENCODER.encode(entry).encode("ascii"))
        except RecursionError:
            del cache.entries[name]  # too deep: read again each time
    body = b"".join(line + b"\n" for line in (*strict, *loose))
    digest = hashlib.sha256(body).hexdigest()
    header = {
        "format": CACHE_FORMAT,
        "entries": len(strict) + len(loose),
        "bytes": len(body),
        "strict_bytes": sum(map(len, strict)) + len(strict),
        "sha256": digest,
    }
    return json.dumps(header).encode("ascii") + b"\n" + body, digest


def _without_metrics(entry: Entry) -> Entry:
    """Return the entry without the metrics of its result, which are the trial's own."""
    trial = entry.trial
    if trial.result is None or not trial.metrics:
        return entry
    result = {key: value for key, value in trial.result.items() if key != "metrics"}
    return entry._replace(trial=trial._replace(result=result))


def _spell_strictly(entry: Entry) -> bytes | None:
    """Spell an entry as a line that comes back as it is; None if it does not."""
    try:
        line = _STRICT_ENCODER.encode(entry)
        return line if _STRICT.decode(line) == entry else None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None


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

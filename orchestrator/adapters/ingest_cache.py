"""The ingest cache: what was read of trials at rest, so that a finished trial is read once.

Knows the cache's format and when an entry may be trusted; reads no trial's files itself. Called by
``trial_dir.scan_sweep``; runs on the login node.

The cache costs one ``stat`` a trial in the order of the directory, which NFS (READDIRPLUS) and
Lustre (statahead) answer from what listing the directory fetched:

- a committed trial is at rest for ever, while the mtime of its directory is the same: a result
  that somebody removed, or a directory made anew, is seen;
- any other trial is at rest if no attempt of it is without an end, while the mtimes of its
  directory and of ``attempts/`` are the same and older than ``SETTLE_S`` (on file systems that
  keep whole seconds a second change within one would not be seen).

The cache may be deleted at any time; a corrupt one, or one of another format, is ignored. An
attempt that lost the race for the commit counts if its record was there when the trial was read;
no attempt starts after a commit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.attempt_record import make_attempt
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime import durable

CACHE_FORMAT = 2
# Older than what file systems and clocks blur, and than an NFS client's attribute cache.
SETTLE_S = 60.0
_EMPTY_CACHE = b"[\n]\n"
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_LOG = logging.getLogger(__name__)


def load_cache(path: str) -> tuple[dict[str, list[Any]], bytes]:
    """Read the cache: its entries by trial name, and its text; both empty if it cannot be used."""
    try:
        data, _ = read_file(path, 2**31)
        document = json.loads(data)
        entries = document["trials"]
        cached = {entry[0]: entry for entry in entries}
        if document["format"] == CACHE_FORMAT and data.count(b"\n") == len(cached) + 2:
            return cached, data
        _LOG.info("%s is ignored: of another format", path)
    except FileNotFoundError:
        pass
    except (UnusableFile, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        _LOG.info("%s is ignored: %s", path, error)
    return {}, _EMPTY_CACHE


def recall_trial(entry: list[Any], mtime_ns: int, sweep: SweepPaths) -> TrialFiles | None:
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
            try:
                attempts_ns = os.lstat(sweep.trial(name).attempts).st_mtime_ns
            except FileNotFoundError:
                attempts_ns = 0
            if attempts_ns != attempts_then_ns:
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
) -> str | None:
    """Return the cache's line for a trial at rest, None for any other."""
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
    entry = [
        trial.name,
        mtime_ns,
        attempts_mtime_ns,
        trial.params,
        trial.result,
        attempts,
        None if trial.result is not None else trial.metrics,
        trial.last_step,
        trial.problems,
    ]
    try:
        return _ENCODER.encode(entry)
    except (ValueError, RecursionError):
        return None  # too deep: read again each time


def update_cache(
    path: str,
    cached: Mapping[str, list[Any]],
    cached_text: bytes,
    recalled: set[str],
    fresh: dict[str, str],
) -> bytes:
    """Write the cache if it can be written, and return its text.

    Args:
        path: Its file.
        cached: What ``load_cache`` returned.
        cached_text: The text it returned.
        recalled: Names of the trials whose entries stay.
        fresh: New lines by trial name, as ``remember_trial`` makes them.
    """
    # One entry a line: those that did not change are written back as they are.
    lines = zip(cached, cached_text.decode("ascii").split("\n")[1:-2], strict=True)
    keep = {name: line.rstrip(",") for name, line in lines if name in recalled}
    return _save_cache(path, keep | fresh)


def stamp_cache(cached_text: bytes, n_trials: int) -> str | None:
    """Return the digest of a cache that holds all of ``n_trials`` trials, else None."""
    n_cached = cached_text.count(b"\n") - 2
    return hashlib.sha256(cached_text).hexdigest() if n_cached == n_trials else None


def _save_cache(path: str, lines: dict[str, str]) -> bytes:
    """Write the lines in the order of their names, if they can be written; return the text."""
    ordered = ",\n".join(line for _, line in sorted(lines.items()))
    text = f'{{"format": {CACHE_FORMAT}, "trials": [\n{ordered}\n]}}\n'.encode("ascii")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        durable.replace(path, text)
    except OSError as error:
        _LOG.info("%s was not written: %s", path, error.strerror)
    return text

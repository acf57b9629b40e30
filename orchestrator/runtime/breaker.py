"""The circuit breaker: trials that fail alike, while none gets anywhere, close the sweep's gate.

Runs on the compute node, imported only when an attempt failed or marks of failures lie there. Each
attempt that failed by an error without progress leaves ``gate/failures/<fingerprint>/<trial>``; the
first that finds enough of one fingerprint looks whether anybody gets somewhere, which costs a look
at every trial, and leaves ``gate/going_well`` if so: then nobody looks again.

As on the login node (``domain.history.common_failures``): while all failures are on one node and
others run elsewhere it may be the node, and a trial that has run for twice as long as any of the
failed ones is going well.
"""

from __future__ import annotations

import os

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import TrialPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.runtime import durable
from orchestrator.runtime.claim import attempt_numbers, make_folder
from orchestrator.runtime.gate import gate_of
from orchestrator.runtime.heartbeat import read_times, server_time
from orchestrator.runtime.progress import measure_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Kinds of ``runtime.cause`` that another trial of the same program may share.
KINDS = ("error", "import_error", "cannot_start")
# A trial that just started seems to have lived for as long as its claim took to write.
MIN_LEAD_S = 2.0


def note_failure(sweep_root: str, end: Mapping[str, Any]) -> bool:
    """Leave a mark of an attempt that failed without having got anywhere.

    Args:
        sweep_root: The sweep's folder.
        end: The attempt's record.

    Returns:
        Whether it is such a failure.

    Raises:
        OSError: The mark cannot be written.
    """
    kind, fingerprint = end.get("kind"), end.get("fingerprint")
    if kind not in KINDS or not isinstance(fingerprint, str) or not fingerprint.isalnum():
        return False
    paths = gate_of(sweep_root)
    for folder in (paths.root, paths.failures, f"{paths.failures}/{fingerprint}"):
        make_folder(folder)
    kept = {key: end.get(key) for key in ("attempt", "node", "wall_s", "cause")}
    durable.replace(f"{paths.failures}/{fingerprint}/{end['trial']}", dump_record(kept))
    return True


def note_going_well(sweep_root: str) -> None:
    """Leave the mark that some trial got somewhere, once; without a gate there is no need.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate_of(sweep_root)
    if not os.path.exists(paths.going_well):
        make_folder(paths.root)
        try:
            os.close(os.open(paths.going_well, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass


def find_common_failure(sweep_root: str, same_failure: int) -> tuple[str, dict[str, Any]] | None:
    """Tell whether the sweep as a whole is broken.

    Args:
        sweep_root: The sweep's folder.
        same_failure: So many trials that fail alike are enough; 0: never.

    Returns:
        The reason in words, and for ``closed.json``: ``fingerprint``, ``trials`` (the failed
        attempt by name) and ``trial`` (one of them); None while it is not broken.
    """
    paths = gate_of(sweep_root)
    if not same_failure or os.path.exists(paths.going_well):
        return None
    found = _most_common(paths.failures, same_failure)
    if found is None:
        return None
    fingerprint, names = found
    marks = {}
    for name in names:
        try:
            marks[name] = read_record(f"{paths.failures}/{fingerprint}/{name}")
        except (OSError, CorruptRecord):
            continue  # forgiven meanwhile, or somebody's file
    if len(marks) < same_failure or _goes_well(sweep_root, marks):
        return None
    first = min(marks)
    words = str(marks[first].get("cause") or "")
    reason = f"{len(marks)} trials failed the same way, and none made progress: {words}"
    attempts = {name: mark.get("attempt") for name, mark in marks.items()}
    return reason, {"fingerprint": fingerprint, "trial": first, "trials": attempts}


def forgive(sweep_root: str) -> None:
    """Remove all marks of failures; whatever fails from now on counts anew."""
    folder = gate_of(sweep_root).failures
    for fingerprint in _list(folder):
        for name in os.listdir(f"{folder}/{fingerprint}"):
            os.unlink(f"{folder}/{fingerprint}/{name}")


def _most_common(folder: str, enough: int) -> tuple[str, list[str]] | None:
    groups = [(fingerprint, _list(f"{folder}/{fingerprint}")) for fingerprint in _list(folder)]
    worst = max(groups, key=lambda group: (len(group[1]), group[0]), default=None)
    return worst if worst is not None and len(worst[1]) >= enough else None


def _list(folder: str) -> list[str]:
    """Names in a folder, ours only; empty where there is none."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _goes_well(sweep_root: str, failed: Mapping[str, Mapping[str, Any]]) -> bool:
    """Look at every trial for one that gets somewhere; of those, leave a lasting mark."""
    longest_s = max((_seconds(mark.get("wall_s")) for mark in failed.values()), default=0.0)
    failed_on = {mark.get("node") for mark in failed.values()}
    others_on, stale_s = set(), read_times(os.environ).stale_s
    for name in _list(sweep_root + "/trials"):
        trial = TrialPaths(f"{sweep_root}/trials/{name}")
        numbers = attempt_numbers(trial)
        if not numbers:
            continue
        if os.path.exists(trial.result) or measure_progress(trial)[:2] != [0, 0]:
            note_going_well(sweep_root)
            return True
        if name in failed:
            continue
        path = trial.attempt(numbers[-1])
        try:
            record, beat = read_record(path), os.stat(path).st_mtime
            is_live = "outcome" not in record and server_time(trial) - beat < stale_s
        except (OSError, CorruptRecord):
            continue
        if is_live:
            others_on.add(record.get("node"))
            lived_s = beat - _seconds(record.get("claimed_unix"))
            if lived_s > 2 * longest_s + MIN_LEAD_S:
                return True
    return len(failed_on) == 1 and bool(others_on - failed_on)


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0

"""The gate of a sweep: whether new attempts may start, and what closes it.

Read and written on compute nodes by attempts, and on the login node by the holder of the sweep's
lock. Closed means that ``gate/closed.json`` exists: no attempt starts its program, running ones go
on. It is published by ``link(2)``, so the first who closes gives the reason. A sweep with nothing
to look at has no ``gate/rules.json``, and its attempts pay one failed open.

What it does not do: speak to Slurm (``runtime.gate_queue`` does), decide that a sweep fails alike
(``runtime.breaker``) or has spent its budget (``runtime.spend``), or forgive (``usecases.release``
does).
"""

from __future__ import annotations

import os

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import GatePaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.runtime import durable
from orchestrator.runtime.claim import make_folder, utc_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# The kinds of ``closed.json``.
FAILURES = "failures"
BUDGET = "budget"
CANARY = "canary"
UNREADABLE = "unreadable"  # something lies there that nobody can read: closed all the same


def gate_of(sweep_root: str) -> GatePaths:
    """Name the files of a sweep's gate."""
    return GatePaths(sweep_root + "/gate")


def read_rules(sweep_root: str) -> dict[str, Any] | None:
    """Read what attempts have to look at; None: nothing, and nobody needs to look further.

    Rules that cannot be read are no rules, but the gate is still looked at: an empty object.
    """
    try:
        return read_record(gate_of(sweep_root).rules)
    except FileNotFoundError:
        return None
    except (OSError, CorruptRecord):
        return {}


def write_rules(sweep_root: str, rules: Mapping[str, Any]) -> None:
    """Write what attempts have to look at; without anything there is no file.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate_of(sweep_root)
    kept = {key: value for key, value in rules.items() if value}
    if kept:
        make_folder(paths.root)
        durable.replace(paths.rules, dump_record(kept))
        return
    try:
        os.unlink(paths.rules)
    except FileNotFoundError:
        pass


def read_closed(sweep_root: str) -> dict[str, Any] | None:
    """Read why the gate is closed: ``kind, reason, at, by, detail``; None while it is open.

    What cannot be read closes it too: unknown is not absent.
    """
    path = gate_of(sweep_root).closed
    try:
        record = read_record(path)
    except FileNotFoundError:
        return None
    except (OSError, CorruptRecord) as error:
        record = {"kind": UNREADABLE, "reason": f"the gate's record is unreadable: {error}"}
    kind, reason, detail = record.get("kind"), record.get("reason"), record.get("detail")
    return {
        **record,
        "kind": kind if isinstance(kind, str) else UNREADABLE,
        "reason": reason if isinstance(reason, str) else "nobody says why",
        "detail": detail if isinstance(detail, dict) else {},
    }


def close(sweep_root: str, kind: str, reason: str, by: str, detail: Mapping[str, Any]) -> bool:
    """Close the gate, unless it is.

    Args:
        sweep_root: The sweep's folder.
        kind: ``failures``, ``budget`` or ``canary``.
        reason: One line for people.
        by: The trial whose attempt closes it, or ``submit``.
        detail: What whoever opens it needs to know.

    Returns:
        Whether this call closed it; whoever did holds what waits, see ``gate_queue.hold_waiting``.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate_of(sweep_root)
    make_folder(paths.root)
    record = {"kind": kind, "reason": reason, "at": utc_now(), "by": by, "detail": dict(detail)}
    return durable.publish(paths.closed, dump_record(record))


def open_again(sweep_root: str) -> bool:
    """Open the gate; what closed it is kept as ``opened-<n>.json``.

    Returns:
        Whether it was closed.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate_of(sweep_root)
    number = 1
    while os.path.lexists(paths.opened(number)):
        number += 1
    try:
        os.rename(paths.closed, paths.opened(number))
    except FileNotFoundError:
        return False
    durable.sync_directory(paths.root)
    return True


def note_held(sweep_root: str, name: str, tasks: Iterable[str]) -> None:
    """Write down which array tasks (``7_4``, ``7_[0,2-5]``) the gate holds, before it does.

    Args:
        sweep_root: The sweep's folder.
        name: Who holds them; a file's name, one for each holder, so that no two write one file.
        tasks: As scontrol wants them.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate_of(sweep_root)
    make_folder(paths.root)
    make_folder(paths.held)
    durable.replace(f"{paths.held}/{name}", "".join(f"{task}\n" for task in tasks).encode("ascii"))


def note_left(sweep_root: str, trial: str, token: str) -> None:
    """Write down that a trial's task of this token ends itself at the closed gate.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate_of(sweep_root)
    make_folder(paths.root)
    make_folder(paths.left)
    durable.replace(f"{paths.left}/{trial}", f"{token}\n".encode("utf-8", "replace"))


def read_held(sweep_root: str) -> dict[str, list[str]]:
    """Read what the gate holds, by the name of who held it."""
    texts = _read_marks(gate_of(sweep_root).held)
    return {name: text.split() for name, text in texts.items()}


def read_left(sweep_root: str) -> dict[str, str]:
    """Read which trials' tasks ended themselves at the gate: the token by trial."""
    return {name: text.strip() for name, text in _read_marks(gate_of(sweep_root).left).items()}


def forget_held(sweep_root: str, names: Iterable[str]) -> None:
    """Remove notes of ``note_held`` whose tasks were released."""
    for name in names:
        try:
            os.unlink(f"{gate_of(sweep_root).held}/{name}")
        except OSError:
            pass  # gone, or kept: a task that is not held is not released twice


def _read_marks(folder: str) -> dict[str, str]:
    """Read small files of a folder; temporary, foreign and unreadable ones are passed over."""
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    marks = {}
    for name in names:
        if name.startswith("."):
            continue
        try:
            fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                marks[name] = file.read(2**20).decode("utf-8", "replace")
        except OSError:
            continue
    return marks

"""What a sweep has spent, summed up on the compute node, and whether its budget has room.

Only sweeps with a budget pay for it. Each node has a ledger, ``gate/spend/<node>.jsonl``, to which
its attempts append a line with one write (one node is one client of the file server). A line's
``is`` tells what it says:

``wants``   ``trial, id, at``: an attempt asks for room; others that ask count it
``leaves``  ``id``: and got none
``starts``  ``trial, attempt, id, at, price_per_hour, currency, gpus``: it claimed its trial
``ends``    ``trial, attempt, wall_s, outcome``: as in its record

``at`` is on the file server's clock. An attempt without an end counts up to its record's end, or
its last heartbeat. Lines that cannot be read are passed over and counted: a cut line of a full
disk, or somebody's file. What two copies of one trial cost both counts.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import TrialPaths
from orchestrator.contract.records import dump_record, parse_record, read_record
from orchestrator.runtime import durable, job
from orchestrator.runtime.claim import make_folder
from orchestrator.runtime.gate import gate_of
from orchestrator.runtime.heartbeat import read_times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HOUR_S = 3600.0
MAX_LEDGER_BYTES = 2**28
# What asked for room so long ago and neither started nor left has died.
WANT_S = 600.0
# Sums of many attempts are not exact, and a budget that is met to the cent is met.
TOLERANCE = 1e-9


class Amount(NamedTuple):
    """Money and GPU-hours."""

    cost: float = 0.0
    """In the budget's currency."""
    gpu_hours: float = 0.0
    """GPU-hours."""

    def plus(self, other: Amount) -> Amount:
        """Add up."""
        return Amount(self.cost + other.cost, self.gpu_hours + other.gpu_hours)

    def less(self, other: Amount) -> Amount:
        """Subtract, down to nothing."""
        return Amount(max(0.0, self.cost - other.cost), max(0.0, self.gpu_hours - other.gpu_hours))


class Tally(NamedTuple):
    """What a sweep spent, and what its running attempts will."""

    spent: Amount
    """All attempts so far, lost work included; running ones up to their last heartbeat."""
    by_trial: Mapping[str, Amount]
    """The same by trial."""
    running: frozenset[str]
    """Trials with a living attempt, and those that were granted room a moment ago."""
    mean: Amount | None
    """Of a committed trial, all its attempts; None before the first."""
    n_bad_lines: int
    """Lines that could not be used."""

    def rest_of(self, trial: str) -> Amount:
        """What a trial will still cost; nothing before anything was measured."""
        if self.mean is None:
            return Amount()
        return self.mean.less(self.by_trial.get(trial, Amount()))

    def expected(self) -> Amount:
        """What the running trials will still cost."""
        total = Amount()
        for trial in sorted(self.running):
            total = total.plus(self.rest_of(trial))
        return total


class _Entry:
    """One attempt in the ledgers."""

    def __init__(self, start: Mapping[str, Any]):
        self.start = start
        self.end: Mapping[str, Any] | None = None


def append(sweep_root: str, line: Mapping[str, Any]) -> None:
    """Append one line to this node's ledger and bring it to disk.

    Raises:
        OSError: It could not be written; a cut line is passed over by readers.
    """
    fd = _open_ledger(sweep_root)
    try:
        size = os.fstat(fd).st_size
        cut = size and os.pread(fd, 1, size - 1) != b"\n"
        durable.write_all(fd, (b"\n" if cut else b"") + dump_record(dict(line)))
        os.fsync(fd)
    finally:
        os.close(fd)


def server_now(sweep_root: str) -> float:
    """The time on the file server's clock.

    Raises:
        OSError: The ledger cannot be opened.
    """
    fd = _open_ledger(sweep_root)
    try:
        os.utime(fd)
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)


def tally(sweep_root: str, currency: str, now: float, before: tuple[float, str] | None) -> Tally:
    """Sum up all ledgers.

    Args:
        sweep_root: The sweep's folder.
        currency: The budget's; money in others does not count.
        now: The time on the file server's clock.
        before: Of an attempt that asks for room, when it asked and its id: of those that ask at
            the same time, the earlier ones count as running.
    """
    entries, wants, n_bad = _read_ledgers(sweep_root)
    newest: dict[str, int] = {}
    for trial, attempt in entries:
        newest[trial] = max(attempt, newest.get(trial, 0))
    running = {
        trial
        for want, (at, trial) in wants.items()
        if before is not None and (at, want) < before and now - at < WANT_S
    }
    by_trial: dict[str, Amount] = {}
    committed: set[str] = set()
    for (trial, attempt), entry in sorted(entries.items()):
        wall_s, outcome, is_live = _settle(sweep_root, trial, attempt, entry, now)
        if is_live and attempt == newest[trial]:
            running.add(trial)
        if outcome == "committed":
            committed.add(trial)
        amount = price(entry.start, wall_s, currency)
        by_trial[trial] = by_trial.get(trial, Amount()).plus(amount)
    spent = Amount()
    for amount in by_trial.values():
        spent = spent.plus(amount)
    mean = None
    if committed:
        total = Amount()
        for trial in sorted(committed):
            total = total.plus(by_trial[trial])
        mean = Amount(total.cost / len(committed), total.gpu_hours / len(committed))
    return Tally(spent, by_trial, frozenset(running), mean, n_bad)


def price(resources: Mapping[str, Any], wall_s: float, currency: str) -> Amount:
    """What an allocation costs: see ``domain.cost``, whose sums these are."""
    hours = wall_s / HOUR_S
    rate = _number(resources.get("price_per_hour")) if resources.get("currency") == currency else 0
    return Amount(rate * hours, _number(resources.get("gpus")) * hours)


def show_amount(amount: float) -> str:
    """Show an amount with two decimals, or with two digits of what is less than a tenth."""
    return f"{amount:.2g}" if 0 < amount < 0.1 else f"{amount:.2f}"


def show_pair(spent: float, limit: float) -> str:
    """Show ``spent of limit`` so that a budget that is passed does not read as kept."""
    words = show_amount(spent), show_amount(limit)
    for digits in range(3, 7):
        if words[0] == words[1] and abs(spent - limit) > limit * TOLERANCE:
            words = f"{spent:.{digits}f}", f"{limit:.{digits}f}"
    return " of ".join(words)


def over_budget(budget: Mapping[str, Any], found: Tally, trial: str | None) -> str | None:
    """Say why a trial may not start; None while there is room for it.

    Before any trial was committed only what was spent counts; afterwards what the running ones
    and this one will still cost on the mean of the committed ones counts too.

    Args:
        budget: The rule: ``cost`` with ``currency``, ``gpu_hours``, or both.
        found: The sums.
        trial: The trial that asks; None: no trial asks, only what was spent counts.
    """
    expected = found.expected() if trial is not None else Amount()
    mine = found.rest_of(trial) if trial is not None else Amount()
    for key, unit in (("cost", str(budget.get("currency", ""))), ("gpu_hours", "GPU-hours")):
        limit = _number(budget.get(key))
        if not limit:
            continue
        spent, rest, own = (getattr(part, key) for part in (found.spent, expected, mine))
        words = f"{show_pair(spent, limit)} {unit} are spent"
        if spent >= limit * (1 - TOLERANCE):
            return f"budget: {words}"
        if spent + rest + own > limit * (1 + TOLERANCE):
            if rest:
                words += f", the running trials will take about {show_amount(rest)} more"
            return f"budget: {words}, and the next one needs about {show_amount(own)}"
    return None


def _settle(
    sweep_root: str, trial: str, attempt: int, entry: _Entry, now: float
) -> tuple[float, object, bool]:
    """How long an attempt took, how it ended, and whether it lives."""
    if entry.end is not None:
        return _number(entry.end.get("wall_s")), entry.end.get("outcome"), False
    path = TrialPaths(f"{sweep_root}/trials/{trial}").attempt(attempt)
    try:
        record, beat = read_record(path), os.stat(path).st_mtime
    except (OSError, CorruptRecord):
        return 0.0, None, False  # removed, or nobody's: nothing is known
    if record.get("outcome") is not None:
        return _number(record.get("wall_s")), record["outcome"], False
    is_live = now - beat < read_times(os.environ).stale_s
    return max(0.0, beat - _number(entry.start.get("at"))), None, is_live


def _read_ledgers(
    sweep_root: str,
) -> tuple[dict[tuple[str, int], _Entry], dict[str, tuple[float, str]], int]:
    """Read all lines: attempts by (trial, number), open wants by id, and how many were no lines."""
    folder = gate_of(sweep_root).spend
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl"))
    except FileNotFoundError:
        names = []
    entries: dict[tuple[str, int], _Entry] = {}
    wants: dict[str, tuple[float, str]] = {}
    answered: set[object] = set()
    n_bad = 0
    for name in names:
        for data in _read(f"{folder}/{name}").splitlines():
            try:
                line = parse_record(data, name) if data.strip() else {}
            except CorruptRecord:
                n_bad += 1
                continue
            n_bad += not _fold(line, entries, wants, answered) if line else 0
    return entries, {want: asked for want, asked in wants.items() if want not in answered}, n_bad


def _fold(
    line: Mapping[str, Any],
    entries: dict[tuple[str, int], _Entry],
    wants: dict[str, tuple[float, str]],
    answered: set[object],
) -> bool:
    """Take up one line; False if it is none of ours. A start always stands before its end."""
    kind, trial, attempt, want = (line.get(key) for key in ("is", "trial", "attempt", "id"))
    is_trial = isinstance(trial, str) and trial and "/" not in trial and not trial.startswith(".")
    if kind == "leaves" and isinstance(want, str):
        answered.add(want)
    elif kind == "wants" and is_trial and isinstance(want, str):
        wants[want] = (_number(line.get("at")), str(trial))
    elif kind == "starts" and is_trial and type(attempt) is int:
        answered.add(want if isinstance(want, str) else None)
        entries.setdefault((str(trial), attempt), _Entry(line))
    elif kind == "ends" and (trial, attempt) in entries:
        entries[str(trial), int(str(attempt))].end = line
    else:
        return False
    return True


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return file.read(MAX_LEDGER_BYTES)
    except OSError:
        return b""


def _open_ledger(sweep_root: str) -> int:
    paths = gate_of(sweep_root)
    make_folder(paths.root)
    make_folder(paths.spend)
    node = str(job.describe_process()["node"]).replace("/", "_").lstrip(".") or "node"
    how = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(f"{paths.spend}/{node}.jsonl", how, 0o600)


def _number(value: object) -> float:
    """Read an amount: a finite number of at least 0; else nothing."""
    if type(value) is not int and type(value) is not float:
        return 0.0
    return float(value) if 0 <= value < 1e12 else 0.0

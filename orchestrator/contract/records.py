"""How records are written to and read from JSON, on login and compute nodes alike.

Reading is strict, since these files come from half-killed processes and foreign programs: a size
limit, no duplicate keys, an object at the top, and a reason in words for whatever is refused.
Numbers that JSON cannot hold are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``, so
that every JSON parser can read our records; programs may report the bare ``NaN`` of Python.

The records, as they stand on disk:

``attempts/<n>.json``
    ``trial, attempt, node, host, boot_id, pid_namespace, pid, started_at, layout`` and, under
    Slurm, ``job_id, array_job_id, array_task_id, restart_count, token``; ``resources``
    (``partition, gpus, cpus, nodes, price_per_hour, currency`` and, where it is known,
    ``on_demand_price_per_hour, on_demand_currency``), ``progress_before`` (what the trial had to
    show at the start: see ``orchestrator.runtime.progress``), ``claimed_unix`` (the claim's time on
    the file server's clock) and ``resumes_from`` (what lay in ``checkpoints/`` then: ``mtime`` of
    the newest entry on that clock and its ``age_s``, or null) and ``reported_unix`` (the mtime of
    ``metrics.jsonl`` then, or null). One that is told to stop adds at
    once ``signal`` and ``told_unix`` (the file server's time), and its end ``stopping_s``: how long
    it took from there. The end adds ``ended_at, wall_s, start_up_s`` (null if unknown), ``outcome,
    exit_code, signal, cause, requeue, progress`` and, of a failure, ``kind`` and ``fingerprint``
    (see ``orchestrator.runtime.cause``). The file's mtime is the attempt's last heartbeat: the
    first comes a second after the claim, the others at doubling distances, up to 30 s.
``result.json``
    ``trial, attempt, committed_at, metrics`` (last value of each key), ``n_reports``,
    ``last_step`` (null without a curve), ``problems`` (lines that could not be used) and
    ``attempts``: the end of every attempt so far, oldest first, as above without its identity.
``loss_rate.json``
    ``losses, observed_s``: attempts lost without a word, and the time of all, in node-seconds.
``journal.jsonl``
    One object a line with ``at`` and ``kind``; see ``orchestrator.adapters.journal``.

``metrics.jsonl`` is the program's, and is read line by line, as UTF-8. What becomes of the odd:

=====================================  ============================================================
a line                                 its fate
=====================================  ============================================================
not JSON (torn, mixed with another's)  passed over
not an object; over 1 MiB; too deep    passed over
a key twice in one object              passed over: which value is meant is not known
not UTF-8, NUL bytes, UTF-16           passed over; NULs around a line, of a crash, are dropped
a byte order mark at the start         dropped
without its newline, at the end        used if it is whole
NaN, Infinity, 1e400                   kept: not a number, or infinite; never ranked
nan, -nan, inf, as C and awk print     taken for NaN and Infinity: it diverged all the same
text ("0.5"), true, null, list, object kept as they are; as the objective, never ranked
a value over 64 KiB as JSON            left out, the others of its line are kept
a name over 1,000 characters           left out likewise
the 1,001st name, and more             left out; the names before it go on
=====================================  ============================================================

Each kind of problem is named once a file, with its first line and how many there are.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat

from orchestrator.contract.errors import CorruptRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# A record is a few kilobytes; a metrics file of a long curve some megabytes.
MAX_RECORD_BYTES = 16 * 2**20
MAX_METRICS_BYTES = 256 * 2**20
MAX_METRICS_LINE_BYTES = 2**20
# A program that reports a new key each step would make a table of a million columns.
MAX_METRICS = 1000
# A result has to stay readable, and the memory of the node is the program's.
MAX_METRIC_BYTES = 2**16
MAX_METRICS_BYTES_KEPT = 2**22
MAX_METRIC_NAME_CHARS = 1000
# JSON nested deeper is no metric, and what walks through it must not run out of stack.
MAX_METRIC_DEPTH = 64
# The words in ``outcome`` of an attempt. Plain strings: the compute node builds no tables.
COMMITTED = "committed"
REFUSED = "refused"  # finished, but another attempt had committed first
PREEMPTED = "preempted"  # told to stop, or checkpointed and asked to be run again
FAILED = "failed"
# The cause of a PREEMPTED attempt that a canary's check told to stop; it goes on in the same job.
STOPPED_BY_CANARY = "canary: told to stop, to see it resume"
# In place of a signal's name: of an attempt that was told to stop since the budget is spent.
STOPPED_BY_BUDGET = "the spent budget"
# As ``requeue`` of an attempt in resubmit mode: Slurm said that it was preempting the job.
PREEMPTED_BY_SLURM = "not asked for: Slurm preempts the job"
SUPERSEDED = "superseded"  # stopped itself: a newer attempt holds the trial

# A string, or a number of C's printf that is none of JSON's, with its sign.
_BARE = re.compile(
    r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)'  # an open one goes to the end: each character is seen once
    r"|(?<![\w.])([+-]?)(nan(?:\([^()]*\))?|inf(?:inity)?)(?!\w)",
    re.IGNORECASE | re.DOTALL,
)
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def dump_record(record: dict[str, Any]) -> bytes:
    """Write a record as one line of standard JSON, non-finite numbers as strings."""
    try:
        text = json.dumps(record, allow_nan=False, separators=(", ", ": "))
    except ValueError:
        text = json.dumps(_spell_non_finite(record), allow_nan=False, separators=(", ", ": "))
    return text.encode("ascii") + b"\n"


def parse_record(data: bytes, source: str) -> dict[str, Any]:
    """Read one JSON object.

    Args:
        data: The file's bytes.
        source: What to call it in an error, usually its path.

    Raises:
        CorruptRecord: Not JSON, not an object, duplicate keys, too large or too deep.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise CorruptRecord(f"{source}: {len(data)} bytes, more than {MAX_RECORD_BYTES} allowed")
    if not data.strip(b"\0 \t\r\n"):
        raise CorruptRecord(f"{source}: empty")
    try:
        # As json.loads does it, without a new decoder for each of ten thousand records.
        value = _DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except RecursionError:
        raise CorruptRecord(f"{source}: nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, too many digits
        raise CorruptRecord(f"{source}: {error}") from None
    if not isinstance(value, dict):
        raise CorruptRecord(f"{source}: a {type(value).__name__}, not an object")
    return value


def read_record(path: str) -> dict[str, Any]:
    """Read the JSON object in a file.

    A link is not followed and a pipe not waited for: anything may lie where a record should.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptRecord: It is no regular file, or see ``parse_record``.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise CorruptRecord(f"{path}: a link, pipe or socket, not a file") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise CorruptRecord(f"{path}: not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    finally:
        os.close(fd)
    return parse_record(data, path)


def metric_value(value: object) -> float | None:
    """Read a metric from a result record: a number, or one of the spelled non-finite values.

    Returns:
        The number, NaN and infinities included; None for what is not a number.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str):
        return _NON_FINITE.get(value)
    return None


class UnusableLine(ValueError):
    """A line of a metrics file that cannot be used.

    ``kind`` is the same for all lines with the same fault; the text may tell more of this one.
    """

    def __init__(self, kind: str, text: str = "") -> None:
        """Name the fault."""
        super().__init__(text or kind)
        self.kind = kind


def _decode(text: str) -> Any:
    """Decode a line, also one with ``nan`` or ``-inf`` for a value, as ``printf`` spells them."""
    try:
        return _LINE_DECODER.decode(text)
    except UnusableLine:
        raise
    except ValueError:
        spelled = _BARE.sub(_spell_bare, text)
        if spelled == text:
            raise
        return _LINE_DECODER.decode(spelled)


def _spell_bare(found: re.Match[str]) -> str:
    sign, word = found[1], found[2]
    if word is None:
        return found[0]  # a string
    return "NaN" if word[0] in "nN" else ("-Infinity" if sign == "-" else "Infinity")


def parse_metrics_line(line: bytes) -> dict[str, Any]:
    """Read one line that a program appended to its metrics file.

    Raises:
        ValueError: With the reason, when the line cannot be used; an ``UnusableLine``.
    """
    if len(line) > MAX_METRICS_LINE_BYTES:
        raise UnusableLine(
            "longer than a line may be", f"line of more than {MAX_METRICS_LINE_BYTES} bytes"
        )
    line = line.strip(b"\0 \t\r\n")
    if not line:
        raise UnusableLine("NUL bytes", "nothing but NUL bytes")
    try:
        value = _decode(line.decode("utf-8"))
    except UnusableLine:
        raise
    except RecursionError:
        raise UnusableLine("nested too deeply") from None
    except UnicodeDecodeError:
        raise UnusableLine("not UTF-8") from None
    except ValueError as error:
        if b"\0" in line:
            raise UnusableLine("NUL bytes", "not JSON: it holds NUL bytes") from None
        words, _, _ = str(error).partition("; use sys.")  # advice that no program's author can take
        raise UnusableLine("not JSON", f"not JSON: {words}") from None
    if not isinstance(value, dict):
        raise UnusableLine("not an object", f"a {type(value).__name__}, not an object")
    if (line.count(b"[") + line.count(b"{")) > MAX_METRIC_DEPTH and _depth(
        value
    ) > MAX_METRIC_DEPTH:
        raise UnusableLine("nested too deeply")
    return value


def fold_metrics(
    lines: Iterable[bytes], *, is_from_start: bool = True
) -> tuple[dict[str, Any], int, int | None, list[str]]:
    """Fold a metrics file into the last value of each key.

    Args:
        lines: Its lines.
        is_from_start: Whether they are the file's first; else they are not counted.

    Returns:
        The last value of each key but ``step``; how many lines could be used; the last step, or
        None without one; and what was wrong, each kind once. A last line without its newline is
        used if it is whole and named if it is cut short.
    """
    metrics: dict[str, Any] = {}
    n_reports = 0
    last_step: int | None = None
    faults = _Faults(is_from_start)
    for number, line in enumerate(lines, start=1):
        if number == 1 and is_from_start:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                return {}, 0, None, ["line 1: UTF-16, not UTF-8; nothing was read"]
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            values = parse_metrics_line(line)
        except UnusableLine as fault:
            faults.add(number, fault.kind, str(fault))
            continue
        n_reports += 1
        step = values.pop("step", None)
        if isinstance(step, int) and not isinstance(step, bool):
            last_step = step
        if len(line) > MAX_METRIC_NAME_CHARS:
            _drop_large(values, number, faults)
        if len(metrics) + len(values) > MAX_METRICS:
            for name in [name for name in values if name not in metrics]:
                if len(metrics) >= MAX_METRICS:
                    faults.add(number, "many", f"more than {MAX_METRICS} different metrics")
                    del values[name]
                else:
                    metrics[name] = values[name]
        metrics.update(values)
    return _bound(metrics, faults), n_reports, last_step, faults.in_words()


class _Faults:
    """What was wrong with a file, each kind once."""

    def __init__(self, is_numbered: bool) -> None:
        self._is_numbered = is_numbered
        self._found: dict[str, tuple[str, int]] = {}

    def add(self, number: int | None, kind: str, text: str) -> None:
        if kind in self._found:
            first, n_more = self._found[kind]
            self._found[kind] = first, n_more + 1
        else:
            where = f"line {number}: " if self._is_numbered else "a line: "
            self._found[kind] = f"{where if number is not None else ''}{text}", 0

    def in_words(self) -> list[str]:
        return [
            text + (f" (and {n_more:,} more like it)" if n_more else "")
            for text, n_more in self._found.values()
        ]


def _drop_large(values: dict[str, Any], number: int, faults: _Faults) -> None:
    """Take names and values that are too large out of a line's, in place."""
    for name, value in list(values.items()):
        if len(name) > MAX_METRIC_NAME_CHARS:
            faults.add(number, "name", f"a metric's name of {len(name)} characters; left out")
            del values[name]
        elif isinstance(value, (str, list, dict)) and (size := _size(value)) > MAX_METRIC_BYTES:
            faults.add(number, "large", f"metric {name[:80]!r} has {size} bytes; left out")
            del values[name]


def _bound(metrics: dict[str, Any], faults: _Faults) -> dict[str, Any]:
    """Leave out the largest values, while all together would make a result too large to read."""
    sizes = {n: _size(v) for n, v in metrics.items() if isinstance(v, (str, list, dict))}
    total = sum(sizes.values())
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if total <= MAX_METRICS_BYTES_KEPT:
            break
        text = f"metric {name[:80]!r} has {sizes[name]} bytes; left out, as all take too many"
        faults.add(None, "total", text)
        total -= sizes[name]
        del metrics[name]
    return metrics


def _size(value: object) -> int:
    return len(json.dumps(value))


def _depth(value: object) -> int:
    """How deep containers are nested, without recursion; 0 for none."""
    depth, level = 0, [value]
    while level := [
        item
        for found in level
        for item in (found.values() if isinstance(found, dict) else found)  # type: ignore[attr-defined]
        if isinstance(item, (dict, list))
    ]:
        depth += 1
    return depth


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} stands twice")
    return result


def _unique_metrics(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    try:
        return _unique_pairs(pairs)
    except ValueError as error:
        raise UnusableLine("a key twice", str(error)) from None


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_pairs)
_LINE_DECODER = json.JSONDecoder(object_pairs_hook=_unique_metrics)


def _spell_non_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _spell_non_finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell_non_finite(item) for item in value]
    return value

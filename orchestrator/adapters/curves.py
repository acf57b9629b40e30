"""Reading learning curves from ``metrics.jsonl``: bounded, and tolerant of what lies there.

Runs on the login node; reads only the trials it is given, and writes nothing. A file larger than
its share of ``MAX_BYTES`` is sampled: windows at equal distances, the first and last included,
whole lines only. Lines that cannot be used are passed over; collecting names them. Not covered:
metrics without a ``step``, which make no curve, and nested or textual values. ``metric_curves``
reads every report of one trial, for exports and notebooks.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import (
    MAX_METRICS_LINE_BYTES,
    metric_value,
    parse_metrics_line,
)
from orchestrator.domain.figures.curves import (
    MAX_CURVE_POINTS,
    MAX_OTHER_POINTS,
    Curve,
    choose_keys,
    thin_curve,
)

# Of all files together; some 300,000 reports.
MAX_BYTES = 32 * 2**20
_LEAST_BYTES = 64 * 2**10
_N_WINDOWS = 16
# In so many trials, evenly spread, metrics are looked for that have curves.
_N_PROBES = 8
_MAX_KEYS_LOOKED_AT = 200
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass
class ReadCurves:
    """What was read."""

    keys: list[str] = field(default_factory=list)
    """Metrics, the most telling first."""
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    """By trial in the order asked for, then by metric; thinned."""
    n_sampled: int = 0
    """How many files were too long to be read whole."""


def read_curves(sweep: SweepPaths, trials: Sequence[str], objective: str | None) -> ReadCurves:
    """Read the curves of some trials.

    Args:
        sweep: Whose.
        trials: Their names.
        objective: The metric that is ranked; shown first if it has a curve.
    """
    at_most = max(_LEAST_BYTES, MAX_BYTES // max(1, len(trials)))
    found = ReadCurves()
    step = max(1, len(trials) // _N_PROBES)
    probes = [_count_points(sweep.trial(name), at_most) for name in trials[::step]]
    found.keys = choose_keys(probes, objective)
    if not found.keys:
        return found
    for name in trials:
        lines, is_sampled = _read_lines(sweep.trial(name), at_most)
        found.curves[name] = {
            key: thin_curve(curve, MAX_CURVE_POINTS if key == found.keys[0] else MAX_OTHER_POINTS)
            for key, curve in parse_curves(lines, found.keys).items()
        }
        found.n_sampled += is_sampled
    return found


def parse_curves(lines: Iterable[str], keys: Sequence[str]) -> dict[str, Curve]:
    """Return the curve of each metric that has one: (step, value) by step.

    Of a step reported twice the later report counts; what is no finite number is null, and what is
    no number at all is passed over.
    """
    points: dict[str, dict[int, float | None]] = {key: {} for key in keys}
    for step, values in _reports(lines):
        for key, curve in points.items():
            value = values.get(key)
            number = value if type(value) is float else metric_value(value)
            if number is not None:
                curve[step] = number if abs(number) < _INFINITE else None
    return {key: sorted(curve.items()) for key, curve in points.items() if curve}


_INFINITE = float("inf")


def _count_points(trial: TrialPaths, at_most: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, values in _reports(_read_lines(trial, at_most)[0]):
        for key, value in values.items():
            is_known = key in counts or len(counts) < _MAX_KEYS_LOOKED_AT
            if is_known and metric_value(value) is not None:
                counts[key] = counts.get(key, 0) + 1
    return counts


def _reports(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the step and metrics of each line that can be used and has a step.

    Lines are judged as ``records.parse_metrics_line`` does, at a third of its time.
    """
    for line in lines:
        if not line or line.isspace() or len(line) > MAX_METRICS_LINE_BYTES:
            continue
        try:
            values, end = _PARSE(line, len(line) - len(line.lstrip()))
        except (ValueError, RecursionError):
            try:  # a bare nan, perhaps
                values, end = parse_metrics_line(line.encode("utf-8", "replace")), len(line)
            except ValueError:
                continue
        if type(values) is not dict or line[end:].strip():
            continue
        step = values.pop("step", None)
        if type(step) is int and abs(step) < 2**53:
            yield step, values


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


_PARSE = json.JSONDecoder(object_pairs_hook=_unique_pairs).raw_decode


def _read_lines(trial: TrialPaths, at_most: int) -> tuple[list[str], bool]:
    """Read a metrics file, or samples of it; and whether it was sampled. No file: no lines."""
    try:
        fd = os.open(trial.metrics, _OPEN)
    except OSError:
        return [], False  # absent, a link, or unreadable: collecting says so
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return [], False
        size = status.st_size
        if size <= at_most:
            data = _read_at(fd, 0, size)
            # The last line may be being written; if it is whole it parses.
            return _decode(data), False
        lines: list[str] = []
        width = at_most // _N_WINDOWS
        for index in range(_N_WINDOWS):
            offset = index * (size - width) // (_N_WINDOWS - 1)
            data = _read_at(fd, offset, width)
            begin = 0 if offset == 0 else data.find(b"\n") + 1
            lines += _decode(data[begin : data.rfind(b"\n") + 1])
        return lines, True
    except OSError:
        return [], False
    finally:
        os.close(fd)


def _decode(data: bytes) -> list[str]:
    # Binary makes no JSON, replaced or not. Not splitlines(), which parts at U+2028 too.
    return data.decode("utf-8", "replace").split("\n")


def _read_at(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data

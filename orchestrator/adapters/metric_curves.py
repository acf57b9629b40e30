"""Reading what a trial reported step by step. Runs on the login node; reads only.

A trial that went on from a checkpoint reports the steps since then again: the newest value of a
step counts. Reports without a ``step`` are numbered in their order, from 0. What is no number
(text, lists, nested values) is passed over; NaN and infinities are kept. Of a file larger than
``MAX_CURVE_BYTES`` the end is read. For exports and notebooks, which want every report; the page
shows samples of many trials, by ``curves``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.paths import TrialPaths
from orchestrator.contract.records import MAX_METRICS, metric_value, parse_metrics_line

Curves: TypeAlias = Mapping[str, Mapping[int, float]]
MAX_CURVE_BYTES = 64 * 2**20


def read_curves(paths: TrialPaths) -> Curves:
    """Return the values of each metric by step, in order of steps; empty if there are none."""
    try:
        data, status = read_file(paths.metrics, MAX_CURVE_BYTES, tail=True)
    except (FileNotFoundError, UnusableFile):
        return {}
    lines = data.split(b"\n")
    if status.st_size > len(data):
        lines = lines[1:]  # its beginning is cut off
    found: dict[str, dict[int, float]] = {}
    n_reports = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            values = parse_metrics_line(line)
        except ValueError:
            continue  # collect names it
        step = values.pop("step", None)
        if type(step) is not int or not 0 <= step < 2**63:
            step = n_reports
        n_reports += 1
        for name, value in values.items():
            number = metric_value(value)
            if number is not None and (name in found or len(found) < MAX_METRICS):
                found.setdefault(name, {})[step] = number
    return {name: dict(sorted(points.items())) for name, points in found.items()}

"""Writing sweeps and trials as submit and the compute nodes leave them, for tests of readers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import COMMITTED, dump_record

RESOURCES = {
    "partition": "a100",
    "gpus": 2,
    "cpus": 8,
    "nodes": 1,
    "price_per_hour": 5.0,
    "currency": "EUR",
}


def make_sweep(
    root: str,
    metric: tuple[str, str] | None = ("loss", "minimize"),
    parameters: Sequence[str] = ("lr",),
    seeded: bool = False,
) -> SweepPaths:
    """Make a sweep's folder without trials."""
    sweep = SweepPaths(root)
    os.makedirs(sweep.trials)
    summary = {
        "name": sweep.name,
        "metric": None if metric is None else {"name": metric[0], "goal": metric[1]},
        "parameters": list(parameters),
        "seeded": seeded,
    }
    write(sweep.summary, dump_record(summary))
    return sweep


def write(path: str, data: bytes) -> None:
    """Write bytes into a file, making its folder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def claim(name: str, number: int = 1, **fields: Any) -> dict[str, Any]:
    """Return the record of an attempt that runs; fields that are None are left out."""
    record = {
        "trial": name,
        "attempt": number,
        "node": "node1",
        "boot_id": "b",
        "pid": 1,
        "job_id": "77",
        "array_job_id": "70",
        "array_task_id": 3,
        "token": "demo-1",
        "started_at": "2026-01-01T10:00:00.000Z",
        "started_unix": 1767261600.0,
        "layout": "step",
        "resources": RESOURCES,
        **fields,
    }
    return {key: value for key, value in record.items() if value is not None}


def ended(name: str, number: int = 1, outcome: str = COMMITTED, **fields: Any) -> dict[str, Any]:
    """Return the record of an attempt that ended after an hour."""
    end = {"ended_at": "2026-01-01T11:00:00.000Z", "wall_s": 3600.0, "exit_code": 0}
    return claim(name, number, **{**end, "outcome": outcome, **fields})


def add_trial(
    sweep: SweepPaths,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    attempts: Sequence[Mapping[str, Any]] | None = None,
) -> TrialPaths:
    """Add a trial: with ``metrics`` a finished one of one attempt, else as the attempts say."""
    trial = sweep.trial(name)
    os.makedirs(trial.root)
    write(trial.params, dump_record(dict(params)))
    if attempts is None:
        attempts = [] if metrics is None else [ended(name)]
    for attempt in attempts:
        write(trial.attempt(attempt["attempt"]), dump_record(dict(attempt)))
    if metrics is not None:
        write_result(trial, metrics, attempts)
    return trial


def write_result(
    trial: TrialPaths, metrics: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a committed result."""
    result = {
        "trial": trial.name,
        "attempt": attempts[-1]["attempt"] if attempts else 1,
        "committed_at": "2026-01-01T11:00:00.000Z",
        "metrics": dict(metrics),
        "n_reports": 1,
        "last_step": 9,
        "problems": [],
        "attempts": list(attempts),
    }
    write(trial.result, dump_record(result))

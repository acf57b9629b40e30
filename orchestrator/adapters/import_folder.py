"""The folder of results that something else made: a sweep's folder that can only be read.

::

    results/<name>/
      import.json       what it was made of, and where each run stood: see ``write_import``
      sweep.json        metric and parameters, as of a sweep
      trials/<n>-<hash>/{params.json, result.json, attempts/1.json, metrics.jsonl}

so that everything that reads a sweep reads it. A run has an attempt if it is known how long it
took; its GPUs and its price are not known. Trials keep their numbers when the source is imported
again. ``import.json`` is there before anything else, and the trials are written aside and put in
place by renaming, so a killed import leaves the former ones, or at worst none until the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.contract import records
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.contract.states import TrialState
from orchestrator.runtime import durable

if TYPE_CHECKING:  # only importing makes them; looking at any sweep imports this module
    from orchestrator.domain.imported_run import ImportedRun

SCHEMA = "orchestrator.import/1"
_ASIDE = ".importing-"


@dataclass(frozen=True)
class ImportFolder:
    """What ``import.json`` says."""

    source: str
    """Path of what was imported."""
    kind: str
    """What it was, for people."""
    objectives: tuple[tuple[str, str], ...] = ()
    """Names and goals; the first is ranked."""
    params: tuple[str, ...] = ()
    """Names that were said to be parameters."""
    study: str | None = None
    """Which study it was, of perhaps several; None where the source holds no studies."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Numbers of the trials, by what the source calls them; of those that are gone, too."""
    states: Mapping[str, TrialState] = field(default_factory=dict)
    """Where each stood, by trial name."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why, by trial name."""


def read_import(sweep: SweepPaths) -> ImportFolder | None:
    """Read what a folder was imported from; None if it is a sweep of our own.

    Raises:
        CorruptRecord: ``import.json`` is there and cannot be used.
    """
    try:
        record = read_record(sweep.imported)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorruptRecord(f"{sweep.imported}: cannot be read: {error.strerror}") from None
    try:
        states = {str(name): TrialState(word) for name, word in record["states"].items()}
        study = record["study"]
        return ImportFolder(
            source=str(record["source"]),
            kind=str(record["kind"]),
            objectives=tuple((str(name), str(goal)) for name, goal in record["objectives"]),
            params=tuple(map(str, record["params"])),
            study=None if study is None else str(study),
            numbers={str(key): int(number) for key, number in record["numbers"].items()},
            states=states,
            reasons={str(name): str(reason) for name, reason in record["reasons"].items()},
        )
    except (LookupError, ValueError, TypeError, AttributeError):
        raise CorruptRecord(f"{sweep.imported}: not as it was written; import it again") from None


def number_runs(runs: Sequence[ImportedRun], before: Mapping[str, int]) -> dict[str, int]:
    """Give each run its number: the source's own, the one that it had, or the next."""
    numbers = dict(before)
    taken = set(before.values())
    following = max(taken, default=-1) + 1
    for run in runs:
        if run.number is not None:
            numbers[run.id] = run.number
        elif run.id not in numbers:
            numbers[run.id] = following
            following += 1
    return numbers


def name_trial(run: ImportedRun, number: int) -> str:
    """Return the directory name of a run's trial."""
    text = json.dumps(run.params, sort_keys=True, default=str)
    return f"{number:05d}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def write_import(
    sweep: SweepPaths,
    about: ImportFolder,
    runs: Sequence[ImportedRun],
    summary: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write runs as trials of a folder that exists; what it held before is replaced.

    Args:
        sweep: The folder, whose lock the caller holds.
        about: What they were made of; its states and reasons are made here.
        runs: All of them.
        summary: What goes into ``sweep.json``.
        now: When.
    """
    names = [name_trial(run, about.numbers[run.id]) for run in runs]
    record = {
        "schema": SCHEMA,
        "source": about.source,
        "kind": about.kind,
        "imported_at": now.isoformat(timespec="seconds"),
        "objectives": [list(pair) for pair in about.objectives],
        "params": list(about.params),
        "study": about.study,
        "numbers": dict(about.numbers),
        "states": {name: run.state.value for name, run in zip(names, runs, strict=True)},
        "reasons": {name: run.reason for name, run in zip(names, runs, strict=True) if run.reason},
    }
    durable.replace(sweep.imported, dump_record(record))
    for entry in os.listdir(sweep.root):
        if entry.startswith(_ASIDE):
            shutil.rmtree(f"{sweep.root}/{entry}", ignore_errors=True)
    aside = tempfile.mkdtemp(prefix=_ASIDE, dir=sweep.root)
    try:
        new, old = f"{aside}/trials", f"{aside}/old"
        os.mkdir(new, mode=0o700)
        for name, run in zip(names, runs, strict=True):
            _write_trial(TrialPaths(f"{new}/{name}"), run)
        if os.path.isdir(sweep.trials):
            os.rename(sweep.trials, old)
        os.rename(new, sweep.trials)
        shutil.rmtree(sweep.cache, ignore_errors=True)  # it is about the former trials
        durable.replace(sweep.summary, dump_record(dict(summary)))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_trial(trial: TrialPaths, run: ImportedRun) -> None:
    os.mkdir(trial.root, mode=0o700)
    _write(trial.params, dump_record(dict(run.params)))
    if run.curve:
        _write(trial.metrics, b"".join(dump_record(dict(line)) for line in run.curve))
    ends = []
    if run.wall_s is not None:
        ends.append(_attempt(trial.name, run))
        os.mkdir(trial.attempts, mode=0o700)
        _write(trial.attempt(1), dump_record(ends[0]))
    if run.state is TrialState.DONE:
        result = {
            "trial": trial.name,
            "attempt": 1,
            "imported_from": run.id,
            "metrics": dict(run.metrics),
            "n_reports": max(1, len(run.curve)),
            "last_step": run.last_step,
            "problems": [],
            "attempts": ends,
        }
        _write(trial.result, dump_record(result))


def _attempt(name: str, run: ImportedRun) -> dict[str, Any]:
    """Make the record of the one attempt of a run whose length is known."""
    assert run.wall_s is not None
    record: dict[str, Any] = {
        "trial": name,
        "attempt": 1,
        "node": run.node,
        "resources": {},
        "wall_s": run.wall_s,
        # Of a pruned one, too: nobody took its node, and its program did not fail.
        "outcome": records.FAILED if run.state is TrialState.FAILED else records.COMMITTED,
        "cause": run.reason or None,
    }
    if run.started_at is not None:
        started = run.started_at.astimezone(UTC)
        record["started_at"] = started.isoformat(timespec="milliseconds")
        ended = started + timedelta(seconds=run.wall_s)
        record["ended_at"] = ended.isoformat(timespec="milliseconds")
    return {key: value for key, value in record.items() if value is not None}


def _write(path: str, data: bytes) -> None:
    # Not brought to disk one by one: what a crash leaves is imported again.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)

"""Collecting a sweep: node files to a ranked table, and the table to files.

Runs on the login node. It neither prints nor asks Slurm: the trials' states come from whoever
observed the sweep. The journal is not read, and nothing but the leaderboard's files and the ingest
cache is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from orchestrator.adapters.leaderboard_files import write_leaderboard
from orchestrator.adapters.trial_dir import Scan, scan_sweep, without_gc
from orchestrator.contract.errors import OrchestratorError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import Usage
from orchestrator.domain.leaderboard import Leaderboard, rank_trials
from orchestrator.domain.sweep_summary import parse_summary
from orchestrator.usecases.ratings import Ratings, load_ratings

# A broken program may leave the same problem in each of ten thousand trials.
MAX_PROBLEMS_PER_TRIAL = 10


@dataclass(frozen=True)
class Collection:
    """A sweep's results at one moment."""

    board: Leaderboard
    """The ranked table and what its columns are."""
    problems: list[str]
    """Files that could not be used, each named with its trial; sorted by trial."""
    paths: list[str]
    """Files written; empty if none were asked for."""

    @property
    def rows(self) -> pd.DataFrame:
        """The table, one row a trial."""
        return self.board.frame

    @property
    def counts(self) -> Mapping[TrialState, int]:
        """Trials by state."""
        return self.board.counts

    @property
    def totals(self) -> Usage:
        """GPU-hours and money by currency of the whole sweep."""
        return self.board.usage


def collect(
    sweep: SweepPaths,
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    now: datetime,
    *,
    scan: Scan | None = None,
    ratings: Ratings | None = None,
    write_files: bool = True,
) -> Collection:
    """Merge what the trials wrote into a leaderboard.

    Args:
        sweep: The sweep.
        states: Where each trial stands, by name. A trial that is not in it is done if it has a
            result, else unknown.
        reasons: Why, in words, by name.
        now: Time up to which running attempts cost.
        scan: What was read of the trials already; None reads it.
        ratings: People's ratings; None reads the sweep's ``ratings.csv``.
        write_files: Whether to write ``leaderboard.*``.

    Raises:
        UserError: There is no such sweep.
        CorruptRecord: The sweep's own ``sweep.json`` cannot be used.
        OrchestratorError: A file could not be read, or not be written; the old one is as it was.
    """
    with without_gc():
        return _collect(sweep, states, reasons, now, scan, ratings, write_files)


def _collect(
    sweep: SweepPaths,
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    now: datetime,
    scan: Scan | None,
    ratings: Ratings | None,
    write_files: bool,
) -> Collection:
    try:
        record = read_record(sweep.summary)
        summary = parse_summary(record, sweep.summary)
    except FileNotFoundError:
        raise UserError(f"{sweep.root}: no sweep.json there; submit the sweep first") from None
    except OSError as error:
        raise OrchestratorError(f"{sweep.summary}: cannot be read: {error.strerror}") from None
    if scan is None:
        scan = scan_sweep(sweep)
    if ratings is None:
        ratings = load_ratings(sweep)
    board = rank_trials(ratings.join(scan.trials), states, reasons, summary, now.timestamp())
    problems = [*scan.problems, *ratings.problems]
    for trial in scan.trials:
        found = list(trial.problems)
        reported = trial.result.get("problems") if trial.result is not None else None
        if isinstance(reported, list):
            found += [f"metrics.jsonl: {text}" for text in reported if isinstance(text, str)]
        problems += [f"{trial.name}/{text}" for text in found[:MAX_PROBLEMS_PER_TRIAL]]
        if len(found) > MAX_PROBLEMS_PER_TRIAL:
            problems.append(f"{trial.name}: {len(found) - MAX_PROBLEMS_PER_TRIAL} more problems")
    problems += board.problems
    stamp = _stamp(scan, states, reasons, record, ratings) if write_files else None
    paths = write_leaderboard(board, sweep, stamp) if write_files else []
    return Collection(board, problems, paths)


def _stamp(
    scan: Scan,
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    record: Mapping[str, Any],
    ratings: Ratings,
) -> str | None:
    """Return a digest of all that the table is made from; None while that depends on the clock."""
    if scan.stamp is None:
        return None
    given = [states.get(trial.name) for trial in scan.trials]
    words = [None if state is None else state.value for state in given]
    why = sorted(reasons.items())
    text = json.dumps([scan.stamp, words, why, record, ratings.stamp])
    return hashlib.sha256(text.encode("ascii")).hexdigest()

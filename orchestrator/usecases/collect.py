"""Collecting a sweep: node files to a ranked table, and the table to files.

Runs on the login node. It neither prints nor asks Slurm: the trials' states come from whoever
observed the sweep. The journal is not read, and nothing but the leaderboard's files and the ingest
cache is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.best_file import NotOurs, retire_best, write_best
from orchestrator.adapters.confirmation_file import read_confirmation
from orchestrator.adapters.leaderboard_files import write_leaderboard
from orchestrator.adapters.trial_dir import Scan, scan_sweep, without_gc
from orchestrator.contract.errors import OrchestratorError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.confirmed_board import add_confirmed
from orchestrator.domain.cost import Usage
from orchestrator.domain.fresh_trials import as_record
from orchestrator.domain.leaderboard import Leaderboard, rank_trials
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import nearest
from orchestrator.domain.sweep_summary import SweepSummary, parse_summary
from orchestrator.domain.table import Table
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.trial_problems import name_gone, name_problems
from orchestrator.domain.typed_columns import FLOAT, Column
from orchestrator.usecases.ratings import Ratings, load_ratings

if TYPE_CHECKING:
    import pandas as pd

    from orchestrator.domain.row_filter import Filtered


@dataclass(frozen=True)
class Collection:
    """A sweep's results at one moment."""

    board: Leaderboard
    """The ranked table and what its columns are."""
    problems: list[str]
    """What could not be used, alike ones once, named with the first trial that has it."""
    paths: Sequence[str] = ()
    """Files written; empty if none were asked for."""
    removed: str = ""
    """Why ``best.yaml`` was removed; empty if it was not."""
    filtered: Filtered | None = None
    """What the condition of ``where`` left out; None without one."""
    is_imported: bool = False
    """Whether another tool made the results, so that GPU-hours are unknown."""
    chosen: Leaderboard | None = None
    """The trials that meet it, ranked among themselves, with the counts and the usage of all; None
    without one."""
    stamp: str | None = None
    """Digest of all that the table was made from; None while that depends on the clock."""
    best_of: Sequence[TrialFiles] | None = None
    """Trials to take ``best.yaml`` from; None if the ranking is not by the sweep's own metric."""

    @property
    def shown(self) -> Leaderboard:
        """What to show to people: the trials that meet the condition, or all."""
        return self.board if self.chosen is None else self.chosen

    @property
    def rows(self) -> pd.DataFrame:
        """The table, one row a trial."""
        return self.board.frame

    @property
    def counts(self) -> Mapping[TrialState, int]:
        """Trials by state."""
        return self.board.counts

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours of the whole sweep; None where they are unknown."""
        return None if self.is_imported else self.board.usage.gpu_hours

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
    gone: Sequence[str] = (),
    write_files: bool = True,
    objectives: Sequence[tuple[str, str]] = (),
    where: str | None = None,
) -> Collection:
    """Merge what the trials wrote into a leaderboard; see ``write_files_of`` for its files.

    Args:
        sweep: The sweep.
        states: Where each trial stands, by name. A trial that is not in it is done if it has a
            result, else unknown.
        reasons: Why, in words, by name.
        now: Time up to which running attempts cost.
        scan: What was read of the trials already; None reads it.
        ratings: People's ratings; None reads the sweep's ``ratings.csv``.
        gone: Trials that were submitted and have no folder any more; they are named.
        write_files: Whether to write ``leaderboard.*`` and ``best.yaml``, which know of all trials
            in any case.
        objectives: Metrics and goals to rank by instead of the sweep's own, the first one first.
        where: A condition on the leaderboard's columns; see ``domain.row_filter``.

    Raises:
        UserError: There is no such sweep, metric or column.
        CorruptRecord: The sweep's own ``sweep.json`` cannot be used.
        OrchestratorError: A file could not be read, or not be written; the old one is as it was.
    """
    with without_gc():
        summary, record = _read_summary(sweep)
        if objectives:
            summary = summary.ranked_by(objectives)
        if scan is None:
            scan = scan_sweep(sweep)
        if ratings is None:
            ratings = load_ratings(sweep)
        trials = list(ratings.join(scan.trials))
        _check_metrics(trials, [name for name, _ in objectives])
        confirmation = read_confirmation(sweep)
        is_imported = os.path.exists(sweep.imported)

        def rank(some: Sequence[TrialFiles], unfit: Mapping[str, str]) -> Leaderboard:
            board = rank_trials(
                some,
                states,
                reasons,
                summary,
                now.timestamp(),
                fresh=confirmation.by_id,
                differs={*summary.differs, *confirmation.differs},
                unfit=unfit,
            )
            board = add_confirmed(board, confirmation, trials, states)
            return _without_hours(board) if is_imported else board

        board = rank(trials, {})
        filtered = chosen = None
        if where is not None:
            # Lazy: its language takes longer to import than most collects have time for.
            from orchestrator.domain.row_filter import filter_rows

            filtered = filter_rows(board, where)
            kept = [trial for trial in trials if trial.name in filtered.kept]
            # What a sweep used does not depend on what is looked at.
            chosen = replace(
                rank(kept, board.unfit),
                counts=board.counts,
                usage=board.usage,
                goodput=board.goodput,
            )
        collection = Collection(
            board,
            [*name_gone(gone), *_gather_problems(scan, ratings, board)],
            filtered=filtered,
            is_imported=is_imported,
            chosen=chosen,
            stamp=_stamp(
                scan,
                states,
                reasons,
                [record, *summary.objectives, as_record(confirmation)],
                ratings,
            ),
            # With others its spec names another metric than it was chosen by.
            best_of=None if objectives else scan.trials,
        )
        if not write_files:
            return collection
        return write_files_of(collection, sweep)


def write_files_of(collection: Collection, sweep: SweepPaths) -> Collection:
    """Write ``leaderboard.*`` and ``best.yaml``, and say which they are.

    Raises:
        OrchestratorError: A file could not be written; it is as it was before.
    """
    paths = write_leaderboard(collection.board, sweep, collection.stamp)
    problems, removed = collection.problems, ""
    if collection.best_of is not None:
        try:
            paths.append(write_best(collection.board, collection.best_of, sweep))
        except NotOurs as error:
            problems = [str(error), *problems]
        except UserError:  # nothing is ranked yet, or the sweep has no spec: export tells which
            removed, problem = retire_best(collection.board, collection.best_of, sweep)
            problems = [*filter(None, [problem]), *problems]
    return replace(collection, paths=paths, removed=removed, problems=problems)


def _read_summary(sweep: SweepPaths) -> tuple[SweepSummary, Mapping[str, Any]]:
    try:
        record = read_record(sweep.summary)
    except FileNotFoundError:
        raise UserError(f"{sweep.root}: no sweep.json there; submit the sweep first") from None
    except OSError as error:
        raise OrchestratorError(f"{sweep.summary}: cannot be read: {error.strerror}") from None
    return parse_summary(record, sweep.summary), record


def _without_hours(board: Leaderboard) -> Leaderboard:
    """Take out the GPU-hours of results of another tool: unknown is not nothing."""
    columns = {name: board.table[name] for name in board.table.columns}
    columns["gpu_hours"] = Column(FLOAT, [None] * len(board.table))
    return replace(board, table=Table(columns, len(board.table)))


def _check_metrics(trials: Sequence[TrialFiles], names: Sequence[str]) -> None:
    """Refuse an objective that no trial has reported, once there are any metrics.

    Raises:
        UserError: With the nearest metric that there is.
    """
    known: dict[str, None] = {}
    if names:
        for trial in trials:
            known.update(dict.fromkeys(trial.metrics))
    for name in names:
        if known and name not in known:
            some = ", ".join(one_line(metric, 60) for metric in list(known)[:12])
            raise UserError(
                f"--objective {one_line(name, 60)}: no trial reports it; "
                f"{one_line(nearest(name, known))}{' ' if nearest(name, known) else ''}"
                f"metrics are {some}"
            )


def _gather_problems(scan: Scan, ratings: Ratings, board: Leaderboard) -> list[str]:
    problems = [*scan.problems, *ratings.problems]
    found = [(trial.name, _wrong_with(trial)) for trial in scan.trials if _has_faults(trial)]
    return [*problems, *name_problems(found), *board.problems]


def _has_faults(trial: TrialFiles) -> bool:
    """Tell fast whether there may be any; nearly all trials have none."""
    return bool(trial.problems or (trial.result is not None and trial.result.get("problems")))


def _wrong_with(trial: TrialFiles) -> list[str]:
    """Return what could not be used of a trial's files, now and when its result was written."""
    reported = trial.result.get("problems") if trial.result is not None else None
    if not reported or not isinstance(reported, list):
        return list(trial.problems)
    told = [text for text in reported if isinstance(text, str)]
    # Results of older versions name the file themselves.
    return [*trial.problems, *(f"metrics.jsonl: {t.removeprefix('metrics.jsonl: ')}" for t in told)]


def _stamp(
    scan: Scan,
    states: Mapping[str, TrialState],
    reasons: Mapping[str, str],
    record: Any,
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

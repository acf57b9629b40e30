"""The Python API: a sweep's results as pandas DataFrames, for notebooks and scripts of your own.

    >>> from orchestrator.leaderboard import read_leaderboard
    >>> board = read_leaderboard("results/demo")
    >>> board[["rank", "trial", board.attrs["objective"]]].head(3)  # doctest: +SKIP

Runs wherever the sweep's folder can be read, also while the sweep runs; needs no Slurm, and asks it
once (``squeue``) only where trials have not ended and there is one. Nothing is written but the
sweep's ``.cache/``, which may be deleted at any time, and that only where it can be.

**Dtypes.** Where pyarrow is installed, columns are Arrow-backed: ``int64[pyarrow]``,
``double[pyarrow]``, ``bool[pyarrow]``, ``string[pyarrow]``, ``timestamp[us, UTC][pyarrow]``; else,
or with ``arrow=False``, they are pandas' own nullable ``Int64``, ``Float64``, ``boolean``,
``string``, and ``datetime64[us, UTC]``. Both keep a missing value apart from not-a-number: a trial
without the metric has ``pd.NA``, one that reported NaN has NaN. ``frame.astype("float64")`` and
``.to_numpy()`` make plain numpy of a column.

What raises is an ``orchestrator.contract.errors.OrchestratorError``, with a text for people. The
functions and the meaning of their columns stay within a major version; columns may be added.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd

from orchestrator.adapters.metric_curves import read_curves as _read_curves
from orchestrator.adapters.trial_dir import scan_trials
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.cost import attempt_wall_s
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.table import to_pandas
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.domain.typed_columns import MISSING, Column, text_column, typed_column
from orchestrator.usecases.collect import collect
from orchestrator.usecases.vanished import observe_results

__all__ = ["read_attempts", "read_curves", "read_leaderboard", "read_trials"]


def read_leaderboard(
    sweep: str | os.PathLike[str], *, write: bool = False, arrow: bool | None = None
) -> pd.DataFrame:
    """Read a sweep's leaderboard: one row a trial, ranked ones first.

    The columns are those of ``leaderboard.csv`` (see ``orchestrator.domain.leaderboard``), and
    ``attrs`` tells what they are: ``sweep``; ``objective``, the column that is ranked, or None;
    ``goal``; ``objectives``, all (column, goal) that count; ``parameters``, ``metrics`` and
    ``constants``, lists of columns; ``n_ranked``, how many rows have a rank; ``certainty`` and
    ``standing``, how sure the first place is, as a word and as a sentence; ``problems``, files that
    could not be used; ``unreachable``, why Slurm did not answer, or None.

    Args:
        sweep: The sweep's folder, such as ``results/demo``, or its name below ``results``.
        write: Whether to write the leaderboard's files, as ``make collect`` does.
        arrow: Whether columns are Arrow-backed; None: where pyarrow is installed.

    Raises:
        UserError: There is no such sweep.
        CorruptRecord: Its own ``sweep.json`` cannot be used.
        OrchestratorError: Its folder could not be read, or a file not be written.
    """
    board, _, attrs = _collect(_open(sweep), write)
    return _finish(board.frame, attrs, arrow)


def read_trials(sweep: str | os.PathLike[str], *, arrow: bool | None = None) -> pd.DataFrame:
    """Read a sweep's trials in number order, with when they ran.

    The columns of ``read_leaderboard``, and before the parameters: ``number``, ``started_at`` of
    the first attempt and ``ended_at`` of the last (nodes' clocks), ``wall_s`` of all attempts (an
    attempt that died without a word counts to its last sign of life; one that still runs does not
    count), and ``last_step``; where a parameter or metric has such a name, ``trial.`` stands before
    it. ``attrs`` as there.

    Args:
        sweep: As of ``read_leaderboard``.
        arrow: As of ``read_leaderboard``.
    """
    board, trials, attrs = _collect(_open(sweep), False)
    by_name = {trial.name: trial for trial in trials}
    shown = [by_name[name] for name in board.frame["trial"]]
    starts = [[a.started_at for a in t.attempts if a.started_at is not None] for t in shown]
    ends = [[a.ended_at for a in t.attempts if a.ended_at is not None] for t in shown]
    more = {
        "number": typed_column([trial.number for trial in shown], "Int64"),
        "started_at": _times([min(times, default=None) for times in starts]),
        "ended_at": _times([max(times, default=None) for times in ends]),
        "wall_s": _floats([sum(a.wall_s or 0.0 for a in trial.attempts) for trial in shown]),
        "last_step": typed_column([_or_missing(trial.last_step) for trial in shown], "Int64"),
    }
    frame = board.frame
    place = list(frame.columns).index("state") + 1
    for name, column in reversed(more.items()):
        # A parameter of such a name keeps it; it is the sweep's own.
        frame.insert(place, name if name not in frame else f"trial.{name}", _array(column))
    number = "number" if "number" not in board.parameters + board.metrics else "trial.number"
    return _finish(frame.sort_values([number, "trial"], ignore_index=True), attrs, arrow)


def read_attempts(sweep: str | os.PathLike[str], *, arrow: bool | None = None) -> pd.DataFrame:
    """Read every execution of every trial: one row an attempt, by trial and number.

    Columns: ``trial, attempt, node, partition, started_at, ended_at, wall_s, is_estimate, outcome,
    exit_code, kind, cause, gpus, nodes, price_per_hour, currency, job_id``. ``cause`` is what a
    program or Slurm said, as it is. Where ``is_estimate`` is true the attempt ended without a word,
    and ``wall_s`` is up to its last sign of life: it was at least that.

    Args:
        sweep: As of ``read_leaderboard``.
        arrow: As of ``read_leaderboard``.
    """
    paths = _open(sweep)
    trials = scan_trials(paths)
    rows = [(trial, attempt) for trial in trials for attempt in trial.attempts]
    walls = [
        _wall_s(attempt, after)
        for trial in trials
        for attempt, after in zip_longest(trial.attempts, trial.attempts[1:])
    ]

    def texts(values: Sequence[Any]) -> Any:
        return text_column([_or_missing(v if v is None else str(v)) for v in values])

    def resource(name: str) -> list[Any]:
        return [_or_missing(attempt.resources.get(name)) for _, attempt in rows]

    data = {
        "trial": texts([trial.name for trial, _ in rows]),
        "attempt": typed_column([a.number for _, a in rows], "Int64"),
        "node": texts([a.node for _, a in rows]),
        "partition": text_column([v if v is MISSING else str(v) for v in resource("partition")]),
        "started_at": _times([a.started_at for _, a in rows]),
        "ended_at": _times([a.ended_at for _, a in rows]),
        "wall_s": typed_column([_or_missing(wall_s) for wall_s, _ in walls], "Float64"),
        "is_estimate": pd.array([is_least for _, is_least in walls], dtype="boolean"),
        "outcome": texts([a.outcome for _, a in rows]),
        "exit_code": typed_column([_or_missing(a.exit_code) for _, a in rows], "Int64"),
        "kind": texts([a.kind for _, a in rows]),
        "cause": texts([a.cause for _, a in rows]),
        "gpus": typed_column(resource("gpus"), "Int64"),
        "nodes": typed_column(resource("nodes"), "Int64"),
        "price_per_hour": typed_column(resource("price_per_hour"), "Float64"),
        "currency": text_column([v if v is MISSING else str(v) for v in resource("currency")]),
        "job_id": texts([a.job_id for _, a in rows]),
    }
    return _finish(_frame(data), {"sweep": paths.name}, arrow)


def read_curves(
    sweep: str | os.PathLike[str],
    metric: str | Sequence[str] | None = None,
    *,
    trials: Sequence[str] | None = None,
    arrow: bool | None = None,
) -> pd.DataFrame:
    """Read what trials reported step by step, in long form: ``trial, metric, step, value``.

    A step that was reported again after a resumption has its newest value. Reports without a
    ``step`` are numbered from 0. Values that are no numbers are left out.

    Args:
        sweep: As of ``read_leaderboard``.
        metric: One name or several; None for all of them.
        trials: Directory names; None for all that have a curve.
        arrow: As of ``read_leaderboard``.
    """
    paths = _open(sweep)
    wanted = {metric} if isinstance(metric, str) else None if metric is None else set(metric)
    known = [trial.name for trial in scan_trials(paths)]
    if trials is not None and (missing := sorted(set(trials) - set(known))):
        raise UserError(f"{paths.root}: no trial {missing[0]!r}")
    chosen = known if trials is None else [name for name in known if name in set(trials)]
    pieces: list[tuple[str, str, Mapping[int, float]]] = []
    for name in chosen:
        for key, points in _read_curves(paths.trial(name)).items():
            if wanted is None or key in wanted:
                pieces.append((name, key, points))
    lengths = [len(points) for _, _, points in pieces]
    steps = np.fromiter((s for *_, points in pieces for s in points), np.int64, sum(lengths))
    values = np.fromiter(
        (v for *_, points in pieces for v in points.values()), np.float64, sum(lengths)
    )
    none = np.zeros(sum(lengths), bool)
    data = {
        "trial": _repeat([name for name, *_ in pieces], lengths),
        "metric": _repeat([key for _, key, _ in pieces], lengths),
        "step": pd.arrays.IntegerArray(steps, none),
        "value": pd.arrays.FloatingArray(values, none.copy()),
    }
    return _finish(_frame(data), {"sweep": paths.name}, arrow)


def _open(sweep: str | os.PathLike[str]) -> SweepPaths:
    """Find a sweep's folder; unlike the commands, also one of somebody else."""
    word = os.fspath(sweep).rstrip("/") or "/"
    candidates = [word] if os.sep in word else [word, os.path.join("results", word)]
    for root in candidates:
        if os.path.isfile(os.path.join(root, "sweep.json")):
            return SweepPaths(os.path.abspath(root))
    raise UserError(f"{' or '.join(candidates)}: no sweep's folder, there is no sweep.json")


def _collect(
    paths: SweepPaths, write: bool
) -> tuple[Leaderboard, Sequence[TrialFiles], dict[str, Any]]:
    observation = observe_results(paths)
    collection = collect(
        paths,
        observation.states,
        observation.reasons,
        datetime.now(UTC),
        scan=observation.scan,
        gone=observation.gone,
        write_files=write,
    )
    board = collection.board
    attrs = {
        "sweep": board.summary.name,
        "objective": board.objective,
        "goal": board.summary.goal,
        "objectives": [list(each) for each in board.objectives],
        "parameters": list(board.parameters),
        "metrics": list(board.metrics),
        "constants": list(board.constants),
        "n_ranked": board.n_ranked,
        "certainty": board.standing.certainty.value,
        "standing": board.standing.words,
        "problems": list(collection.problems),
        "unreachable": observation.unreachable,
    }
    return board, observation.trials, attrs


def _finish(frame: pd.DataFrame, attrs: dict[str, Any], arrow: bool | None) -> pd.DataFrame:
    """Give a frame its dtypes and attributes."""
    has_arrow = importlib.util.find_spec("pyarrow") is not None
    if arrow and not has_arrow:
        raise UserError("arrow=True needs pyarrow: .venv/bin/python -m pip install pyarrow")
    if has_arrow if arrow is None else arrow:
        frame = pd.DataFrame({name: _to_arrow(frame[name]) for name in frame.columns})
    frame.attrs.update(attrs)
    return frame


def _to_arrow(column: pd.Series[Any]) -> Any:
    """Convert a column, with NaN and missing kept apart (``convert_dtypes`` makes them one)."""
    # Lazy: it takes 0.1 s, and is not installed everywhere.
    import pyarrow

    if str(column.dtype) == "string":
        cells = column.to_numpy(dtype=object, na_value=None)  # type: ignore[call-overload]
        return pd.arrays.ArrowExtensionArray(pyarrow.array(cells, pyarrow.string()))
    return pd.arrays.ArrowExtensionArray(pyarrow.array(column.array))


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({name: _array(column) for name, column in columns.items()})


def _array(column: Any) -> Any:
    return to_pandas(column) if isinstance(column, Column) else column


def _times(times: Sequence[datetime | None]) -> Any:
    return pd.array(list(times), dtype="datetime64[us, UTC]")


def _floats(values: Sequence[float]) -> Any:
    return pd.arrays.FloatingArray(np.array(values, np.float64), np.zeros(len(values), bool))


def _repeat(words: Sequence[str], lengths: Sequence[int]) -> Any:
    return text_column(np.repeat(np.array(words, dtype=object), lengths).tolist())


def _or_missing(value: Any) -> Any:
    return MISSING if value is None else value


def _wall_s(attempt: Attempt, after: Attempt | None) -> tuple[float | None, bool]:
    """Return an attempt's seconds, None if unknown, and whether it was at least so long."""
    if attempt.outcome is None and after is None:
        return attempt.wall_s, attempt.is_estimate  # it may be running
    return attempt_wall_s(attempt, 0.0, False, after)

"""A sweep as an Optuna study: in memory, for importances and to be written to a storage.

Runs on the login node. Imports Optuna (0.3 s), so only what needs a study imports this: importance
for the report, and ``export``. Optuna's log lines and its warnings of experimental features are
silenced here, for as long as it is called.

**Trials.** One Optuna trial for each trial, repeats too, in number order. Done with finite
objectives is COMPLETE, failed, lost, cancelled and done without such objectives FAIL (Optuna takes
no NaN as a value), running RUNNING, and what waits, was interrupted or is unknown WAITING.

**Parameters** are those that vary, by their dotted names; constants and a sweep's ``seed`` are
attributes of the trial, and so are its name, cost, attempts and other metrics. A trial has the
parameters that it was given: a conditional one is missing where its condition did not hold.

**Distributions** are made of the values seen, since a grid has no others: whole numbers and floats
from the smallest to the largest, with a logarithmic scale where ``domain.parameter_scale`` finds
one; all else, also booleans, mixed types and numbers that are not finite, is categorical. Choices
that Optuna cannot hold (lists, groups) are spelled as JSON. So a sampler that goes on with the
study proposes nothing outside of what the sweep tried.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.named_columns import flatten_params
from orchestrator.domain.parameter_scale import is_logarithmic
from orchestrator.domain.sweep_summary import MAXIMIZE, MINIMIZE
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.typed_columns import spell_value

# Optuna keeps whole numbers as floats.
_EXACT_IN_FLOAT = 2**53
_DIRECTIONS = {MINIMIZE: StudyDirection.MINIMIZE, MAXIMIZE: StudyDirection.MAXIMIZE}
OPTUNA_STATES: Mapping[TrialState, OptunaState] = {
    TrialState.NEW: OptunaState.WAITING,
    TrialState.PENDING: OptunaState.WAITING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.REQUEUED: OptunaState.WAITING,
    TrialState.DONE: OptunaState.COMPLETE,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.INTERRUPTED: OptunaState.WAITING,
    TrialState.LOST: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
    TrialState.UNKNOWN: OptunaState.WAITING,
}


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from writing to standard error that a study was made or a feature is new."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", module=r"optuna\.")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def to_study(
    board: Leaderboard,
    trials: Iterable[TrialFiles],
    storage: optuna.storages.BaseStorage | None = None,
    curves: Mapping[str, Mapping[int, float]] | None = None,
    name: str = "",
) -> optuna.study.Study:
    """Make an Optuna study of a sweep.

    Args:
        board: The leaderboard: states, objectives, and which parameters vary.
        trials: What the trials' files say; those that are not on the board are left out.
        storage: An empty storage to write it to; None keeps it in memory.
        curves: Values of the objective by step (>= 0), by trial name; they become intermediate
            values.
        name: The study's; empty: the sweep's.
    """
    with quiet_optuna():
        study = make_study(name or board.summary.name, _goals(board), storage)
        if board.standing.words:
            study.set_user_attr("standing", board.standing.words)
        if _objectives(board):
            study.set_metric_names(_objectives(board))
        study.add_trials(freeze_trials(board, trials, curves or {}))
    return study


def make_study(
    name: str, goals: Sequence[str], storage: optuna.storages.BaseStorage | None = None
) -> optuna.study.Study:
    """Make an empty study; ``goals`` are ``minimize`` or ``maximize``."""
    # The sampler is never asked; the default one takes time to make.
    return optuna.create_study(
        storage=storage,
        sampler=optuna.samplers.RandomSampler(seed=0),
        study_name=name or None,
        directions=[_DIRECTIONS[goal] for goal in goals],
    )


def freeze_trials(
    board: Leaderboard,
    trials: Iterable[TrialFiles],
    curves: Mapping[str, Mapping[int, float]],
) -> list[FrozenTrial]:
    """Make the board's trials into Optuna's, in number order, with running numbers from 0."""
    rows = _rows_by_trial(board)
    there = sorted((t for t in trials if t.name in rows), key=lambda t: (t.number, t.name))
    flat = [flatten_params(trial.params or {}) for trial in there]
    varying = [board.source_names[column] for column in board.searched]
    distributions = {
        name: fit_distribution([params[name] for params in flat if name in params])
        for name in varying
        if any(name in params for params in flat)
    }
    return [
        _freeze(number, trial, params, distributions, rows[trial.name], board, curves)
        for number, (trial, params) in enumerate(zip(there, flat, strict=True))
    ]


def fit_distribution(values: Sequence[Any]) -> BaseDistribution:
    """Make the distribution that just holds values; see the module's docstring."""
    kinds = set(map(type, values))
    if kinds and kinds <= {int, float} and all(map(_is_plain_number, values)):
        low, high = min(values), max(values)
        log = is_logarithmic(values)
        if kinds == {int}:
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    choices: dict[tuple[type, Any], Any] = {}
    for value in values:
        choice = to_choice(value, kinds)
        choices.setdefault((type(choice), choice), choice)
    return CategoricalDistribution(list(choices.values()))


def to_choice(value: Any, kinds: set[type]) -> Any:
    """Make a value into a categorical choice that is equal to no choice of another type."""
    if type(value) is str or value is None:
        return value
    is_alone = len(kinds - {str, type(None)}) == 1  # True equals 1, and 1 equals 1.0
    if type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return value if is_alone else spell_value(value)
    return spell_value(value)


def _is_plain_number(value: float) -> bool:
    return abs(value) <= _EXACT_IN_FLOAT if type(value) is int else math.isfinite(value)


def _goals(board: Leaderboard) -> list[str]:
    if board.objectives:
        return [goal for _, goal in board.objectives]
    return [board.summary.goal]


def _rows_by_trial(board: Leaderboard) -> dict[str, dict[str, Any]]:
    """Return the cells of each trial by column, None where there is none."""
    from_frame = {
        str(name): board.frame[name].to_numpy(dtype=object, na_value=None)  # type: ignore[call-overload]
        for name in board.frame.columns
    }
    names = list(from_frame)
    return {
        row[names.index("trial")]: dict(zip(names, row, strict=True))
        for row in zip(*from_frame.values(), strict=True)
    }


def _freeze(
    number: int,
    trial: TrialFiles,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    row: Mapping[str, Any],
    board: Leaderboard,
    curves: Mapping[str, Mapping[int, float]],
) -> FrozenTrial:
    own = {name: each for name, each in distributions.items() if name in params}
    values = _values(row, board)
    state = OPTUNA_STATES[TrialState(row["state"])]
    if state is OptunaState.COMPLETE and values is None:
        state = OptunaState.FAIL
    start, end = _times(trial)
    if state is OptunaState.WAITING:
        start = None
    elif start is None:
        start = datetime.fromtimestamp(0)  # Optuna takes no such trial without a time
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=values if state is OptunaState.COMPLETE else None,
        datetime_start=start,
        datetime_complete=(end or start) if state.is_finished() else None,
        params={name: _fit_value(params[name], each) for name, each in own.items()},
        distributions=own,
        user_attrs=_attributes(trial, params, distributions, row, board),
        system_attrs={},
        intermediate_values={
            step: value
            for step, value in sorted(curves.get(trial.name, {}).items())
            if step >= 0 and state is not OptunaState.WAITING
        },
    )


def _values(row: Mapping[str, Any], board: Leaderboard) -> list[float] | None:
    """Return the objectives' values, or None if one is missing or not finite."""
    is_ranked = row["rank"] is not None
    found = [_number(row[column], is_ranked) for column in _objectives(board)]
    return found if found and all(map(math.isfinite, found)) else None


def _number(cell: Any, is_ranked: bool) -> float:
    """Read an objective. Where some trial's is text, all cells are: a rank tells the numbers."""
    if isinstance(cell, str) and not is_ranked:
        return math.nan
    try:
        return math.nan if cell is None else float(cell)
    except ValueError:
        return math.nan


def _objectives(board: Leaderboard) -> list[str]:
    if board.objectives:
        return [column for column, _ in board.objectives]
    return [] if board.objective is None else [board.objective]


def _fit_value(value: Any, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        return float(value)
    if isinstance(distribution, IntDistribution):
        return value
    assert isinstance(distribution, CategoricalDistribution)
    kinds = {type(choice) for choice in distribution.choices}
    if type(value) in kinds and value in distribution.choices:
        return value
    return spell_value(value)


def _times(trial: TrialFiles) -> tuple[datetime | None, datetime | None]:
    """Return start of the first and end of the last attempt as Optuna has them: local, naive."""
    starts = [attempt.started_at for attempt in trial.attempts if attempt.started_at is not None]
    ends = [attempt.ended_at for attempt in trial.attempts if attempt.ended_at is not None]
    return (
        min(starts).astimezone().replace(tzinfo=None) if starts else None,
        max(ends).astimezone().replace(tzinfo=None) if ends else None,
    )


def _attributes(
    trial: TrialFiles,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    row: Mapping[str, Any],
    board: Leaderboard,
) -> dict[str, Any]:
    """Say what Optuna has no field for; missing cells are left out."""
    found: dict[str, Any] = {"trial": trial.name, "state": row["state"]}
    columns = ["rank", "tie", "attempts", "gpu_hours", *board.costs, "currency", "node", "note"]
    if board.summary.seeded:
        columns.insert(1, f"{board.objective}_mean")
    for name, value in params.items():
        if name not in distributions:
            found[f"param.{name}" if name in (*found, *columns) else name] = value
    for column in [*columns, *board.metrics]:
        if row.get(column) is not None:
            found.setdefault(column, row[column])
    return {name: _json_value(value) for name, value in found.items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

"""Which parameters matter, and in which direction. Runs on the login node; see ``report``.

**Share.** Optuna's PED-ANOVA (Watanabe et al., IJCAI 2023; conditional parameters: KDD 2026) asks
how much a parameter's values among the best configurations differ from those among all, so it is
about getting to the top, not about all of the range. The best are a tenth of the configurations,
and at least ``MIN_BEST``, the least that Optuna recommends. Shares add up to 1 over the parameters
that have one. Numbers of a grid are compared value by value, as categories are: density estimates,
which Optuna takes for numbers, have no width where most of the best share a value, and then give
whatever the width's lower bound gives.

**Chance.** Shares add up to 1 in pure noise too, so each is held against what shuffled objectives
give: ``is_above_chance`` where it is larger than in 19 of 20 shuffles (the same ones at each call).
Of hundreds of parameters only the largest shares are, the others' is unknown.

**Direction.** Of numbers Spearman's rank correlation with the objective, called a direction only
where it differs from none at the 95 % level; of anything else the value with the best median.

Repeats count as one configuration, by their mean, and every ranked configuration counts once. What
cannot be computed is a reason in words, never a number. Not covered: interactions; a parameter that
matters only together with another may look unimportant. With several objectives only the ranked
one counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from orchestrator.adapters.leaderboard_files import cell_values, show_value
from orchestrator.adapters.optuna_study import fit_distribution, make_study, quiet_optuna
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.repeats import student_t95
from orchestrator.domain.sweep_summary import MAXIMIZE

# Optuna recommends at least 5 trials among the best, and there have to be others.
MIN_BEST = 5
MIN_CONFIGURATIONS = 10
_BEST_QUANTILE = 0.1
_N_SHUFFLES = 20
# A number with so many configurations to each of its values is one of a grid.
_GRID_REPEATS = 3
# Of more values than these a density tells more than counts do.
_MAX_COUNTED_VALUES = 10
_NO_TREND = "no clear trend"
_NO_DIFFERENCE = "the best configurations have the same values as all the others"
# Configurations times parameters that are shuffled, which bounds the time to half a second. Of more
# a sample is, which overstates chance, so that what is above it then is so all the more.
_MAX_SHUFFLED_CELLS = 5000
# Parameters that are held against chance: those with the largest shares.
_MAX_SHUFFLED = 25


@dataclass(frozen=True)
class ParameterImportance:
    """What one parameter has to do with the objective."""

    name: str
    """Its column in the leaderboard."""
    n: int
    """Ranked configurations that have it."""
    share: float | None = None
    """Of the importance of all parameters, 0 to 1; None: see ``reason``."""
    is_above_chance: bool | None = None
    """Whether shuffled objectives give less; None: not looked at, or no share."""
    correlation: float | None = None
    """Spearman's rank correlation of value and objective, -1 to 1; None for what is no number."""
    best_value: str | None = None
    """The value with the best median objective; None for numbers that are not those of a grid."""
    direction: str = ""
    """In words: which values are better, or that there is no trend; empty if unknown."""
    reason: str = ""
    """Why there is no share; empty if there is one."""


def rank_parameters(board: Leaderboard) -> list[ParameterImportance]:
    """Tell which varying parameters matter, the most important first, those without a share last.

    The objective's own name, repeats' ``seed`` and constants are not among them.
    """
    names = board.searched
    ranked = board.frame.iloc[list(board.leads)]
    objective = _objective(board, ranked)
    cells = {name: cell_values(ranked[name]) for name in names}
    numeric = {name: pd.api.types.is_numeric_dtype(ranked[name].dtype) for name in names}
    numeric = {n: is_number and ranked[n].dtype != "boolean" for n, is_number in numeric.items()}
    is_maximized = board.summary.goal == MAXIMIZE
    reasons = {name: _reason(cells[name], objective) for name in names}
    useful = {name: cells[name] for name in names if not reasons[name]}
    shares, above = _shares(useful, objective, board.summary.goal)
    found = []
    for name in names:
        there = [(v, y) for v, y in zip(cells[name], objective, strict=True) if v is not None]
        describe = _describe_trend if numeric[name] else _describe_best
        trend = describe(there, is_maximized) if len({repr(v) for v, _ in there}) > 1 else {}
        found.append(
            ParameterImportance(
                name,
                len(there),
                shares.get(name),
                above.get(name),
                reason=reasons[name] or ("" if name in shares else _NO_DIFFERENCE),
                **trend,
            )
        )
    return sorted(found, key=lambda each: -1.0 if each.share is None else each.share, reverse=True)


def _objective(board: Leaderboard, ranked: pd.DataFrame) -> list[float]:
    """Return the number that each configuration is ranked by."""
    if board.objective is None:
        return []
    mean = f"{board.objective}_mean"
    column = mean if board.summary.seeded and mean in ranked else board.objective
    return [float(value) for value in cell_values(ranked[column])]


def _reason(cells: Sequence[Any], objective: Sequence[float]) -> str:
    """Say why a parameter gets no share, or return an empty text."""
    if not objective:
        return "nothing is ranked yet"
    if len(objective) < MIN_CONFIGURATIONS:
        return (
            f"too few: {len(objective)} ranked configuration{'s' if len(objective) > 1 else ''}, "
            f"at least {MIN_CONFIGURATIONS} are needed"
        )
    if len(set(objective)) == 1:
        return "every configuration has the same objective"
    there = [cell for cell in cells if cell is not None]
    if not there:
        return "no ranked configuration has it"
    if len({repr(cell) for cell in there}) == 1 and len(there) == len(cells):
        return "it has one value in all ranked configurations"
    if len({repr(cell) for cell in there}) == 1:
        return "it has one value wherever it is there"
    return ""


def _shares(
    cells: Mapping[str, Sequence[Any]], objective: Sequence[float], goal: str
) -> tuple[dict[str, float], dict[str, bool]]:
    """Return share, and whether it is above chance, of each parameter that has one."""
    if not cells:
        return {}, {}
    # PED-ANOVA's figures depend on ranks only; they spare it sums that overflow.
    ranks = pd.Series(objective).rank(method="min", ascending=goal != MAXIMIZE).tolist()
    study = _make_study(cells, ranks)
    raw = _evaluate(study, ranks)
    total = sum(raw.values())
    if total <= 0:
        return {}, {}
    shares = {name: value / total for name, value in raw.items()}
    largest = sorted(raw, key=lambda name: raw[name], reverse=True)[:_MAX_SHUFFLED]
    if len(largest) < len(raw):  # a parameter's importance does not depend on the others
        cells = {name: column for name, column in cells.items() if name in largest}
        study = _make_study(cells, ranks)
    chance = _shuffle(cells, study, ranks)
    return shares, {name: raw[name] > chance.get(name, 0.0) for name in largest}


def _shuffle(
    cells: Mapping[str, Sequence[Any]], study: optuna.study.Study, ranks: Sequence[float]
) -> dict[str, float]:
    """Return what all but one of twenty shuffled objectives stay below: the 95 % level."""
    generator = np.random.default_rng(0)
    n = max(_MAX_SHUFFLED_CELLS // len(cells), 10 * MIN_CONFIGURATIONS)
    if n < len(ranks):
        kept = sorted(generator.choice(len(ranks), n, replace=False).tolist())
        ranks = [ranks[index] for index in kept]
        study = _make_study({k: [column[i] for i in kept] for k, column in cells.items()}, ranks)
    found = [_evaluate(study, generator.permutation(ranks).tolist()) for _ in range(_N_SHUFFLES)]
    names = {name for shuffled in found for name in shuffled}
    return {name: sorted(each.get(name, 0.0) for each in found)[-2] for name in names}


def _make_study(cells: Mapping[str, Sequence[Any]], ranks: Sequence[float]) -> optuna.study.Study:
    """Make a study of configurations; parameters that one does not have are missing there."""
    distributions: dict[str, BaseDistribution] = {
        name: _distribution([cell for cell in column if cell is not None])
        for name, column in cells.items()
    }
    with quiet_optuna():
        study = make_study("", ["minimize"])
        for index, rank in enumerate(ranks):
            own = {name: column[index] for name, column in cells.items()}
            own = {name: value for name, value in own.items() if value is not None}
            study.add_trial(
                optuna.trial.create_trial(
                    state=OptunaState.COMPLETE,
                    value=float(rank),
                    params=own,
                    distributions={name: distributions[name] for name in own},
                )
            )
        for trial in study.get_trials(deepcopy=False):
            # The study holds copies. Shared ones are compared by identity: half of all the time.
            trial.distributions = {name: distributions[name] for name in trial.params}
    return study


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Make the distribution by which values are compared: categories, also of a grid's numbers."""
    there = set(values)
    is_numbers = {type(value) for value in there} <= {int, float}
    if is_numbers and len(there) <= _MAX_COUNTED_VALUES and _is_grid(len(there), len(values)):
        return CategoricalDistribution(sorted(there))
    return fit_distribution(values)


def _is_grid(n_values: int, n: int) -> bool:
    """Tell whether so many different values among ``n`` are those of a grid."""
    return n_values * _GRID_REPEATS <= n


def _evaluate(study: optuna.study.Study, ranks: Sequence[float]) -> dict[str, float]:
    """Return PED-ANOVA's importances, not normalized, of a study whose values are ``ranks``."""

    def rank_of(trial: FrozenTrial) -> float:
        return float(ranks[trial.number])

    quantile = max(_BEST_QUANTILE, min(MIN_BEST / len(ranks), 0.5))
    with quiet_optuna():
        found = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile),
            target=rank_of,
            normalize=False,
        )
    return {name: value if math.isfinite(value) else 0.0 for name, value in found.items()}


def _describe_trend(there: Sequence[tuple[Any, float]], is_maximized: bool) -> dict[str, Any]:
    """Correlate numbers with the objective; of a grid's also name the best."""
    frame = pd.DataFrame(there, columns=["value", "objective"]).rank()
    if len(frame) < 3 or min(frame["value"].std(), frame["objective"].std()) == 0:
        return {}
    rho = min(max(float(np.corrcoef(frame["value"], frame["objective"])[0, 1]), -1.0), 1.0)
    df = len(frame) - 2
    # The t test of a correlation; for ranks its usual approximation (Kendall & Stuart 31.19).
    is_sure = abs(rho) == 1 or abs(rho) * math.sqrt(df / (1 - rho**2)) > student_t95(df)
    better = "higher" if (rho > 0) == is_maximized else "lower"
    trend = {"correlation": rho, "direction": f"{better} is better" if is_sure else _NO_TREND}
    values = sorted({value for value, _ in there})
    if not _is_grid(len(values), len(there)):
        return trend
    best = _best_median(there, is_maximized)
    if best is None:
        return trend
    trend["best_value"] = show_value(best)
    if best not in (values[0], values[-1]):
        trend["direction"] = f"best median at {show_value(best)}, between the ends"
    return trend


def _describe_best(there: Sequence[tuple[Any, float]], is_maximized: bool) -> dict[str, Any]:
    """Find the best of values that are no numbers."""
    found = _best_median(there, is_maximized)
    if found is None:
        return {"direction": "no difference"}
    best = show_value(found)
    return {"best_value": best, "direction": f"best median with {one_line(best, 40)}"}


def _best_median(there: Sequence[tuple[Any, float]], is_maximized: bool) -> Any:
    """Return the value whose median objective is the best; None if all have the same."""
    groups: dict[Any, list[float]] = {}
    for value, objective in there:
        groups.setdefault(value, []).append(objective)
    medians = {value: float(np.median(group)) for value, group in groups.items()}
    if len(set(medians.values())) == 1:
        return None
    return (max if is_maximized else min)(medians, key=medians.__getitem__)

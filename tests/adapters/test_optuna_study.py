import warnings
from datetime import UTC, datetime

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.adapters.optuna_study import OPTUNA_STATES, fit_distribution, to_study
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import Attempt
from tests.boards import make_board, make_trials


def study_of(params, objective=lambda p: 1.0, **options):
    trials = make_trials(params, objective)
    return to_study(make_board(trials, **options), trials)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 8], IntDistribution(1, 8)),
        ([1, 10, 100], IntDistribution(1, 100, log=True)),
        ([0.5, 1], FloatDistribution(0.5, 1.0)),
        ([1e-5, 1e-4, 1e-3], FloatDistribution(1e-5, 1e-3, log=True)),
        ([3, 3], IntDistribution(3, 3)),
        (["b", "a", "b"], CategoricalDistribution(["b", "a"])),
        ([True, False], CategoricalDistribution([True, False])),
        ([None, "x", 2], CategoricalDistribution([None, "x", 2])),
        ([1, True], CategoricalDistribution(["1", "true"])),
        ([[1, 2], [3]], CategoricalDistribution(["[1, 2]", "[3]"])),
        ([1.0, float("inf")], CategoricalDistribution([1.0, "Infinity"])),
        ([2**60, 1], CategoricalDistribution([2**60, 1])),
    ],
)
def test_fit_distribution_holds_the_values(values, expected):
    assert fit_distribution(values) == expected


def test_to_study_has_every_trial_with_its_parameters_and_value():
    params = [{"lr": 1e-5, "n": 1, "data": "x"}, {"lr": 0.1, "n": 4, "data": "x"}]
    study = study_of(params, lambda p: p["lr"], goal="maximize")
    assert study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert [(t.params, t.value) for t in study.trials] == [
        ({"lr": 1e-5, "n": 1}, 1e-5),
        ({"lr": 0.1, "n": 4}, 0.1),
    ]
    assert study.best_trial.user_attrs["trial"] == "00001-aaaa"
    assert study.best_trial.user_attrs["data"] == "x"
    assert study.best_trial.user_attrs["rank"] == 1


def test_to_study_names_the_objective():
    assert study_of([{"x": 1}, {"x": 2}]).metric_names == ["loss"]


def test_to_study_of_a_trial_that_only_confirms_has_its_value():
    trials = make_trials([{"x": x, "seed": s} for x in (1, 2) for s in (0, 10_000)], lambda p: 0.5)
    fresh = [trial._replace(id=f"f{trial.number}") for trial in trials]
    summary = SweepSummary("demo", "loss", "minimize", (), True)
    board = rank_trials(fresh, {}, {}, summary, 0.0, fresh={"f1", "f3"})
    study = to_study(board, fresh)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 4


def test_to_study_of_several_objectives_has_their_directions_and_values():
    trials = make_trials([{"x": 1}, {"x": 2}], lambda p: {"loss": p["x"], "acc": 3.0 * p["x"]})
    summary = SweepSummary("demo", "loss").ranked_by([("loss", "minimize"), ("acc", "maximize")])
    study = to_study(rank_trials(trials, {}, {}, summary, 0.0), trials)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [t.values for t in study.trials] == [[1.0, 3.0], [2.0, 6.0]]


def test_to_study_of_repeats_keeps_each_and_does_not_search_the_seed():
    study = study_of([{"x": x, "seed": s} for x in (1, 2) for s in (0, 1)], seeded=True)
    assert [t.params for t in study.trials] == [{"x": 1}, {"x": 1}, {"x": 2}, {"x": 2}]
    assert [t.user_attrs["seed"] for t in study.trials] == [0, 1, 0, 1]


def test_to_study_of_a_conditional_parameter_leaves_it_out_where_it_was_not():
    study = study_of([{"a": 1, "b": 0.5}, {"a": 2}])
    assert [t.params for t in study.trials] == [{"a": 1, "b": 0.5}, {"a": 2}]


@pytest.mark.parametrize("state", TrialState)
def test_to_study_of_each_state_is_taken_by_optuna(state):
    trials = make_trials([{"x": 1}, {"x": 2}], lambda p: 0.5)
    states = {trial.name: state for trial in trials}
    study = to_study(make_board(trials, states=states), trials)
    assert [t.state for t in study.trials] == [OPTUNA_STATES[state]] * 2
    assert [t.user_attrs["state"] for t in study.trials] == [state.value] * 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "text", [1]])
def test_to_study_of_an_objective_that_is_no_number_fails_the_trial(value):
    study = study_of([{"x": 1}, {"x": 2}], lambda p: {"loss": value if p["x"] == 1 else 3.0})
    assert [(t.state.name, t.values) for t in study.trials] == [("FAIL", None), ("COMPLETE", [3.0])]


def test_to_study_has_times_and_curve():
    trials = make_trials([{"x": 1}, {"x": 2}], lambda p: 0.5)
    start, end = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 14, tzinfo=UTC)
    attempt = Attempt(1, started_at=start, ended_at=end, wall_s=7200.0)
    trials[0] = trials[0]._replace(attempts=(attempt,))
    curves = {trials[0].name: {10: 0.9, 0: 1.0, -1: 5.0}}
    first = to_study(make_board(trials), trials, curves=curves).trials[0]
    assert first.datetime_start.astimezone(UTC) == start
    assert first.datetime_complete.astimezone(UTC) == end
    assert first.intermediate_values == {0: 1.0, 10: 0.9}


def test_to_study_says_nothing(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study_of([{"x": x, "y": str(x)} for x in range(20)])
    assert capfd.readouterr() == ("", "")

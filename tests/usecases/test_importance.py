import itertools
import math

import numpy as np
import pytest

from orchestrator.contract.states import TrialState
from orchestrator.usecases.importance import MIN_CONFIGURATIONS, rank_parameters
from tests.boards import make_board, make_trials


def rank(params, objective, **options):
    found = rank_parameters(make_board(make_trials(params, objective), **options))
    assert all((each.share is None) == bool(each.reason) for each in found)
    shares = [each.share for each in found if each.share is not None]
    assert not shares or math.isclose(sum(shares), 1.0)
    assert shares == sorted(shares, reverse=True)
    return {each.name: each for each in found}


def draw(n, seed=0):
    generator = np.random.default_rng(seed)
    return [
        {
            "lr": float(10 ** generator.uniform(-5, -1)),
            "x": float(generator.uniform()),
            "optimizer": str(generator.choice(["a", "b", "c"])),
            "nesterov": bool(generator.integers(2)),
        }
        for _ in range(n)
    ]


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_rank_parameters_finds_the_one_that_matters_and_its_direction(goal):
    sign = 1 if goal == "minimize" else -1
    found = rank(draw(200), lambda p: sign * (p["x"] + 1e-3 * math.log(p["lr"])), goal=goal)
    assert next(iter(found)) == "x"
    assert found["x"].share > 0.9
    assert found["x"].is_above_chance is True
    assert found["x"].direction == "lower is better"
    assert found["x"].correlation * sign > 0.9
    assert [found[name].is_above_chance for name in ("optimizer", "nesterov")] == [False, False]


def test_rank_parameters_on_a_log_scale_finds_a_valley_that_has_no_direction():
    found = rank(draw(300), lambda p: (math.log10(p["lr"]) + 3) ** 2)
    assert found["lr"].share > 0.9
    assert found["lr"].direction == "no clear trend"


def test_rank_parameters_of_categories_names_the_best():
    level = {"c": 0.0, "a": 1.0, "b": 2.0}
    noise = iter(np.random.default_rng(9).uniform(size=300).tolist())
    found = rank(draw(300), lambda p: level[p["optimizer"]] + 0.01 * next(noise))
    best = found["optimizer"]
    assert next(iter(found)) == "optimizer"
    assert (best.best_value, best.direction) == ("c", "best median with c")
    assert best.correlation is None


def test_rank_parameters_of_a_grid_names_a_best_between_the_ends():
    grid = [
        {"lr": lr, "batch": batch, "optimizer": name}
        for lr, batch, name in itertools.product((1e-5, 3e-5, 5e-5), (16, 32), ("a", "b", "c"))
    ]
    found = rank(grid, lambda p: abs(p["lr"] - 3e-5) * 1e5 + p["batch"] / 1000)
    assert next(iter(found)) == "lr"
    assert found["lr"].direction == "best median at 3e-05, between the ends"
    assert found["batch"].best_value == "16"


def test_rank_parameters_of_a_grid_counts_its_values_as_they_are():
    """Most of the best share a decay; that none has the lowest rate says as much."""
    grid = [
        {"lr": lr, "batch": batch, "decay": decay, "warmup": warmup, "optimizer": name}
        for lr, batch, decay, warmup, name in itertools.product(
            (1e-5, 3e-5, 5e-5), (16, 32, 64), (0.01, 0.05, 0.1), (100, 500, 1000), ("adamw", "lamb")
        )
    ]

    def objective(p):
        best = 3e-5 * math.sqrt(p["batch"] / 32) * (1.3 if p["optimizer"] == "lamb" else 1)
        off = 2 * abs(p["decay"] - 0.05) + 0.1 * (p["warmup"] != 500)
        return 11 + 1.5 * math.log(p["lr"] / best) ** 2 + off

    found = rank(grid, objective)
    best = sorted(grid, key=objective)[:17]  # the best tenth

    def divergence(name):
        values = {p[name] for p in grid}
        counts = [sum(p[name] == value for p in best) for value in values]
        return sum((len(values) * n / len(best) - 1) ** 2 for n in counts) / len(values)

    by_hand = {name: divergence(name) for name in grid[0]}
    total = sum(by_hand.values())
    assert by_hand["lr"] / total > 0.3
    for name, share in by_hand.items():  # Optuna's prior, and ties at the edge, make a difference
        assert found[name].share == pytest.approx(share / total, abs=0.1), name


def test_rank_parameters_of_values_that_make_no_difference_names_no_best():
    params = [{"x": x, "name": name} for x in range(6) for name in ("a", "b")]
    found = rank(params, lambda p: p["x"])
    assert (found["name"].best_value, found["name"].direction) == (None, "no difference")


def test_rank_parameters_of_repeats_counts_each_configuration_once():
    params = [{"x": x, "y": y, "seed": s} for x in range(5) for y in range(3) for s in range(3)]
    found = rank(params, lambda p: p["x"] + 0.1 * p["seed"], seeded=True)
    assert list(found) == ["x", "y"]
    assert {each.n for each in found.values()} == {15}


def test_rank_parameters_knows_a_conditional_one():
    generator = np.random.default_rng(0)
    params = [
        {"optimizer": "adam", "beta": float(generator.uniform())}
        if index % 2
        else {"optimizer": "sgd", "momentum": float(generator.uniform())}
        for index in range(120)
    ]
    found = rank(params, lambda p: p.get("momentum", 5.0))
    assert next(iter(found)) == "momentum"
    assert (found["momentum"].n, found["momentum"].direction) == (60, "lower is better")
    assert found["optimizer"].best_value == "sgd"
    assert found["beta"].is_above_chance is False


def test_rank_parameters_of_hundreds_holds_only_the_largest_against_chance():
    generator = np.random.default_rng(3)
    params = [{f"p{i}": float(generator.uniform()) for i in range(120)} for _ in range(40)]
    found = list(rank(params, lambda p: p["p7"]).values())
    assert found[0].name == "p7"
    assert found[0].is_above_chance is True
    looked_at = [each.is_above_chance is not None for each in found]
    assert looked_at == [True] * 25 + [False] * 95


def test_rank_parameters_of_noise_is_not_above_chance():
    above = 0
    for seed in range(5):
        noise = iter(np.random.default_rng(100 + seed).uniform(size=100).tolist())
        found = rank(draw(100, seed), lambda p, noise=noise: next(noise))
        above += sum(each.is_above_chance for each in found.values())
    assert above <= 4  # of 20; one is expected


def test_rank_parameters_gives_the_same_twice():
    board = make_board(make_trials(draw(50), lambda p: p["x"]))
    assert rank_parameters(board) == rank_parameters(board)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_rank_parameters_does_not_mind_how_large_objectives_are(scale):
    found = rank(draw(100), lambda p: p["x"] * scale)
    assert next(iter(found)) == "x"
    assert found["x"].correlation == pytest.approx(1.0)


def test_rank_parameters_without_enough_says_so():
    found = rank(draw(MIN_CONFIGURATIONS - 1), lambda p: p["x"])
    assert {each.reason for each in found.values()} == {
        "too few: 9 ranked configurations, at least 10 are needed"
    }
    assert rank([], lambda p: 0.0) == {}


def test_rank_parameters_of_equal_objectives_says_so():
    found = rank(draw(20), lambda p: 1.0)
    assert {each.reason for each in found.values()} == {
        "every configuration has the same objective"
    }


def test_rank_parameters_of_one_value_says_so():
    params = [{**own, "k": 1, "late": 3} for own in draw(20)]
    trials = make_trials(params, lambda p: p["x"])
    trials.append(trials[0]._replace(name="00099-aaaa", number=99, params={"k": 2, "x": 0.5}))
    states = {trial.name: TrialState.DONE for trial in trials} | {"00099-aaaa": TrialState.FAILED}
    found = {each.name: each for each in rank_parameters(make_board(trials, states=states))}
    assert found["k"].reason == "it has one value in all ranked configurations"
    assert found["x"].share > 0.5


def test_rank_parameters_passes_over_values_that_are_no_numbers():
    params = [{"x": x, "odd": [1, None, "a", [2], {}, True][x % 6]} for x in range(60)]
    found = rank(params, lambda p: p["x"])
    assert next(iter(found)) == "x"
    assert found["odd"].correlation is None


def test_rank_parameters_of_nan_objectives_counts_the_others():
    found = rank(draw(40), lambda p: p["x"] if p["x"] < 0.7 else float("nan"))
    assert found["x"].n < 40

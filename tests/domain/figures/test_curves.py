import math

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.states import TrialState
from orchestrator.domain.figures.curves import (
    MAX_TRIALS,
    build_curves,
    choose_keys,
    choose_trials,
    thin_curve,
)
from tests.domain.figures.boards import attempt, board_of, trial


def test_choose_trials_of_few_are_all():
    trials = [trial(1, 1.0, [attempt()], lr=1), trial(2, None, [attempt()], lr=2), trial(3, lr=3)]
    states = {"00003-aaaa": TrialState.NEW}
    assert choose_trials(board_of(trials, states=states)) == (["00001-aaaa", "00002-aaaa"], "")


def test_choose_trials_of_many_are_the_best_the_worst_and_what_failed():
    trials = [trial(i, float(i), [attempt()], lr=i) for i in range(400)]
    trials += [trial(i, None, [attempt()], lr=i) for i in range(400, 500)]
    chosen, rule = choose_trials(board_of(trials))
    numbers = [int(name[:5]) for name in chosen]
    assert len(chosen) == len(set(chosen)) == MAX_TRIALS
    assert numbers[:60] == list(range(60))
    assert set(range(380, 400)) <= set(numbers)
    assert len([n for n in numbers if n >= 400]) == 40
    assert "200 of 500" in rule


def test_choose_keys_objective_then_what_tells_of_learning():
    found = [{"lr": 9, "train_loss": 9, "val": 9, "acc": 9, "once": 1}, {"lr": 9, "val": 9}]
    assert choose_keys(found, "val") == ["val", "train_loss", "acc"]
    assert choose_keys(found, "once") == ["train_loss", "acc", "lr"]
    assert choose_keys([{"once": 1}], "once") == []


def test_thin_curve_keeps_ends_and_every_extreme():
    curve = [(i, 100.0 if i == 321 else -5.0 if i == 777 else math.sin(i)) for i in range(1000)]
    thin = thin_curve(curve, 60)
    assert len(thin) <= 60
    assert (thin[0], thin[-1]) == (curve[0], curve[-1])
    assert (321, 100.0) in thin
    assert (777, -5.0) in thin
    assert thin == sorted(thin)


def test_thin_curve_short_stays_and_gaps_show():
    assert thin_curve([(1, 1.0), (2, None)], 60) == [(1, 1.0), (2, None)]
    curve = [(i, None if 500 < i < 600 else float(i)) for i in range(1000)]
    thin = thin_curve(curve, 60)
    assert any(500 < step < 600 and value is None for step, value in thin)
    assert len(thin) <= 60


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none(), max_size=300))
def test_thin_curve_never_loses_the_least_or_the_greatest(values):
    curve = list(enumerate(values))
    thin = thin_curve(curve, 20)
    assert len(thin) <= 20
    assert set(thin) <= set(curve)
    there = [value for value in values if value is not None]
    if there:
        kept = [value for _, value in thin if value is not None]
        assert (min(kept), max(kept)) == (min(there), max(there))


def test_build_curves_groups_by_rank_and_state():
    trials = [trial(i, float(i), [attempt()], lr=i) for i in range(4)]
    trials.append(trial(9, None, [attempt()], lr=9))
    curves = {t.name: {"loss": [(1, 3.0), (2, 1 / 3)]} for t in trials}
    data = build_curves(board_of(trials), curves, ["loss"], "", 0).data
    assert data["groups"] == ["best 1", "better half", "worse half", "running", "not finished",
                              "done without a rank", "on fresh seeds"]  # fmt: skip
    assert data["group"] == [0, 1, 2, 2, 4]
    assert data["rank"] == [1, 2, 3, 4, None]
    assert data["series"][0]["value"][0] == [3.0, 0.333333]


def test_build_curves_of_diverged_trials_are_a_group_of_their_own():
    nan = float("nan")
    trials = [trial(1, 1.0, [attempt()], lr=1), trial(2, nan, [attempt()], lr=2)]
    trials += [trial(3, None, [attempt()], lr=3), trial(4, nan, [attempt()], lr=4)]
    board = board_of(trials)
    chosen, _ = choose_trials(board)
    assert chosen == ["00001-aaaa", "00003-aaaa", "00002-aaaa", "00004-aaaa"]
    curves = {name: {"loss": [(1, 3.0), (2, None)]} for name in chosen}
    figure = build_curves(board, curves, ["loss"], "", 0)
    assert [figure.data["groups"][g] for g in figure.data["group"][1:]] == [
        "not finished", "done without a rank", "done without a rank"
    ]  # fmt: skip
    assert figure.data["series"][0]["value"][3] == [3.0, None]
    assert "done without a rank: 2" in figure.table
    assert "a cross ends what is finite" in figure.caption


def test_choose_trials_of_many_say_how_many_diverged():
    trials = [trial(i, float(i), [attempt()], lr=i) for i in range(300)]
    trials += [trial(i, float("inf"), [attempt()], lr=i) for i in range(300, 400)]
    chosen, rule = choose_trials(board_of(trials))
    assert len(chosen) == MAX_TRIALS
    assert sum(int(name[:5]) >= 300 for name in chosen) == 40
    assert "200 of 400" in rule
    assert "40 that are done without a rank" in rule


def test_build_curves_without_steps_says_why():
    figure = build_curves(board_of([trial(1, 1.0, lr=1)]), {}, [], "", 0)
    assert "two steps" in figure.data["reason"]

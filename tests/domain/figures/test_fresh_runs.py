"""Runs on fresh seeds in the figures: told apart from those that chose the best."""

from __future__ import annotations

from orchestrator.domain.figures.curves import build_curves, choose_trials
from orchestrator.domain.figures.history import build_history
from orchestrator.domain.figures.ranking import build_intervals
from orchestrator.domain.trial_files import TrialFiles
from tests.domain.figures.boards import attempt
from tests.domain.test_confirmed_board import asked, ranked, trial


def ran(number: int, a: int, seed: int, loss: float) -> TrialFiles:
    return trial(number, a, seed, loss)._replace(attempts=(attempt(start_s=3600.0 * number),))


OWN = [ran(0, 1, 0, 0.5), ran(1, 1, 1, 0.7), ran(2, 2, 0, 0.9), ran(3, 2, 1, 1.1)]
FRESH = [ran(4, 2, 10000, 0.1), ran(5, 2, 10001, 0.2)]
TRIALS = [*OWN, *FRESH]
BOARD = ranked(TRIALS, asked(OWN[2]))


def test_history_fresh_runs_are_points_of_their_own_and_never_the_best() -> None:
    figure = build_history(BOARD, {one.name: one for one in TRIALS}, 0.0)
    data = figure.data
    states = [data["states"][code] for code in data["state"]]
    assert states == ["done"] * 4 + ["fresh seed"] * 2
    assert data["best_y"] == [0.5]
    assert "The 2 runs on fresh seeds have no part in it." in figure.caption
    assert "The first of 4 finished trials" in figure.table


def test_curves_fresh_runs_are_a_group() -> None:
    chosen, rule = choose_trials(BOARD)
    assert (sorted(chosen), rule) == (sorted(one.name for one in TRIALS), "")
    curves = {name: {"loss": [(1, 3.0), (2, 1.0)]} for name in chosen}
    figure = build_curves(BOARD, curves, ["loss"], "", 0)
    groups = [figure.data["groups"][group] for group in figure.data["group"]]
    assert groups[-2:] == ["on fresh seeds"] * 2
    assert "on fresh seeds: 2" in figure.table
    assert "hidden until their name above is pressed" in figure.caption


def test_curves_of_many_leave_room_for_fresh_runs() -> None:
    own = [ran(number, number, 0, float(number)) for number in range(300)]
    confirmation = asked(*own[:50])
    fresh = [
        ran(1000 + number, one.params["a"], one.seed, 1.0)
        for number, one in enumerate(confirmation.trials)
    ]
    chosen, rule = choose_trials(ranked([*own, *fresh], confirmation))
    assert (len(chosen), sum(int(name[:5]) >= 1000 for name in chosen)) == (200, 20)
    assert "20 on fresh seeds" in rule


def test_intervals_have_the_fresh_means_beside_the_first_ones() -> None:
    figure = build_intervals(BOARD)
    assert figure is not None
    fresh = figure.data["fresh"]
    assert (fresh["row"], fresh["n"], fresh["rank"]) == ([1], [2], [1])
    assert [round(mean, 12) for mean in fresh["mean"]] == [0.15]
    assert fresh["low"][0] < 0.1 < 0.2 < fresh["high"][0]
    assert "Squares" in figure.caption
    without = build_intervals(ranked(OWN, asked()))
    assert without is not None
    assert without.data["fresh"] == {}
    assert "Squares" not in without.caption

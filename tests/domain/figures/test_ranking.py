import pytest

from orchestrator.domain.figures.ranking import (
    build_distribution,
    build_intervals,
    build_objectives,
    build_pareto,
    find_front,
)
from tests.domain.figures.boards import attempt, board_of, trial


def test_find_front_keeps_what_nothing_beats_in_both():
    x, y = [1.0, 2.0, 3.0, 2.5, 1.0], [9.0, 5.0, 4.0, 6.0, 9.0]
    assert find_front(x, y, True, True) == [0, 4, 1, 2]
    assert find_front(x, y, False, False) == [2, 3, 0, 4]


def test_front_goes_down_where_costs_are_equal_but_for_rounding():
    cents = [attempt(wall_s=s) for s in (1800.0006, 1800.0003, 3600)]  # the first two round alike
    board = board_of([trial(i, y, [cents[i]], lr=i) for i, y in enumerate((5.0, 6.0, 4.0))])
    data = build_pareto(board, {}).data
    found = [(data["x"][i], data["y"][i]) for i in data["front"]]
    assert found == [(1.0, 6.0), (1.0, 5.0), (2.0, 4.0)]


def test_build_pareto_of_money():
    trials = [
        trial(1, 1.0, [attempt(wall_s=7200)], lr=1),
        trial(2, 2.0, [attempt(wall_s=3600)], lr=2),
        trial(3, 3.0, [attempt(wall_s=5400)], lr=3),
    ]
    figure = build_pareto(board_of(trials), {})
    assert (figure.data["x"], figure.data["y"]) == ([4.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert figure.data["front"] == [1, 0]
    assert (figure.data["x_name"], figure.data["unit"]) == ("cost", "EUR")


@pytest.mark.parametrize(
    ("resources", "x_name", "x"), [({"gpus": 2}, "gpu_hours", 2.0), ({}, "wall_hours", 1.0)]
)
def test_build_pareto_without_a_price_takes_hours(resources, x_name, x):
    trials = [trial(i, float(i), [attempt(resources=resources)], lr=i) for i in (1, 2)]
    figure = build_pareto(board_of(trials), {t.name: 1.0 for t in trials})
    assert figure.data["x_name"] == x_name
    assert figure.data["x"] == [x, x]


def test_build_pareto_over_repeats_is_the_mean_cost():
    trials = [
        trial(1, 1.0, [attempt(wall_s=3600)], lr=1, seed=0),
        trial(2, 2.0, [attempt(wall_s=7200)], lr=1, seed=1),
        trial(3, 9.0, [attempt(wall_s=1800)], lr=2, seed=0),
        trial(4, 9.0, [attempt(wall_s=1800)], lr=2, seed=1),
    ]
    figure = build_pareto(board_of(trials, seeded=True), {})
    assert (figure.data["x"], figure.data["y"]) == ([3.0, 1.0], [1.5, 9.0])


def test_build_pareto_of_unknown_lengths_says_why():
    assert "not known" in build_pareto(board_of([trial(1, 1.0, lr=1)]), {}).data["reason"]


def test_build_distribution_counts_what_is_at_least_as_good():
    trials = [trial(i, loss, lr=i) for i, loss in enumerate([3.0, 1.0, 2.0])]
    data = build_distribution(board_of(trials)).data
    assert (data["x"], data["n"], data["n_all"]) == ([1.0, 2.0, 3.0], [1, 2, 3], 3)
    assert build_distribution(board_of(trials, goal="maximize")).data["x"] == [3.0, 2.0, 1.0]


def test_build_intervals_repeats_of_each_configuration():
    trials = [
        trial(10 * lr + seed, lr + seed / 10, lr=lr, seed=seed) for lr in (1, 2) for seed in (0, 1)
    ]
    board = board_of(trials, seeded=True)
    data = build_intervals(board).data
    assert data["repeats"] == [[1.0, 1.1], [2.0, 2.1]]
    assert data["mean"] == [pytest.approx(1.05), pytest.approx(2.05)]
    # Half of the interval: t(1) times the standard error, 12.7062 x 0.05.
    assert data["high"][0] - data["mean"][0] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert (data["n"], data["label"][0]) == ([2, 2], ["lr 1"])
    assert data["is_tied"][0] == ("tie" in board.frame)


def test_build_intervals_without_repeats_is_left_out():
    assert build_intervals(board_of([trial(1, 1.0, lr=1)])) is None


def test_build_objectives_only_of_several():
    trials = [trial(i, loss, lr=i) for i, loss in enumerate([3.0, 1.0, 2.0])]
    trials = [
        t._replace(metrics={**t.metrics, "speed": speed})
        for t, speed in zip(trials, (9.0, 1.0, 0.5), strict=True)
    ]
    assert build_objectives(board_of(trials)) is None
    data = build_objectives(board_of(trials, more=[("speed", "maximize")])).data
    assert sorted(data["trial"][i] for i in data["front"]) == ["00000-aaaa", "00001-aaaa"]


def test_build_pareto_of_one_that_is_best_and_cheapest_says_so():
    trials = [trial(i, float(i), [attempt(wall_s=3600 * i)], lr=i) for i in (1, 2)]
    figure = build_pareto(board_of(trials), {})
    assert figure.data["front"] == [0]
    assert figure.table == "One of 2 is on the front, 1 for 2 EUR: the best is the cheapest, too."


def test_figures_of_one_configuration_compare_it_with_nothing():
    trials = [trial(i, 1.0 + i, [attempt()], lr=1, seed=i) for i in (1, 2)]
    board = board_of(trials, seeded=True)
    for figure in (build_pareto(board, {}), build_distribution(board)):
        assert figure.data["reason"].startswith("Only one configuration is ranked")
    intervals = build_intervals(board)
    assert intervals.title == "The best and its noise"
    assert intervals.table == "The first has loss_mean 2.5."

import math

from orchestrator.domain.figures.parameters import (
    Influence,
    build_contours,
    build_importance,
    build_parallel,
    build_slices,
)
from tests.domain.figures.boards import board_of, trial

LR, OPT = Influence("lr", 0.7, 0.5, "lower is better"), Influence("opt", 0.3)


def grid():
    return board_of(
        [
            trial(1, 1.0, lr=0.1, opt="a"),
            trial(2, 2.0, lr=0.2, opt="a"),
            trial(3, 4.0, lr=0.1, opt="b"),
            trial(4, 8.0, lr=0.2, opt="b"),
            trial(5, 3.0, lr=0.1, opt="b"),
        ]
    )


def test_build_parallel_axes_end_with_the_most_important():
    data = build_parallel(grid(), [LR, OPT]).data
    assert [axis["name"] for axis in data["axes"]] == ["opt", "lr"]
    assert data["y"] == [1.0, 2.0, 3.0, 4.0, 8.0]
    assert data["axes"][0]["codes"] == [0, 0, 1, 1, 1]
    assert data["trial"][0] == "00001-aaaa"


def test_build_parallel_many_parameters_are_cut_and_it_says_so():
    names = [f"p{i:02d}" for i in range(14)]
    board = board_of([trial(i, float(i), **dict.fromkeys(names, i)) for i in range(4)])
    figure = build_parallel(board, [Influence(name, None) for name in names])
    assert len(figure.data["axes"]) == 10
    assert "Of 14 parameters the 10 most important" in figure.caption


def test_build_slices_medians_of_shared_values():
    lr, opt = build_slices(grid(), [LR, OPT]).data["axes"]
    assert lr["medians"] == [[0.1, 3.0], [0.2, 5.0]]
    assert opt["medians"] == [[0, 1.5], [1, 4.0]]


def test_build_contours_medians_and_counts_by_cell():
    figure = build_contours(grid(), [LR, OPT])
    (heat,) = figure.data["maps"]
    assert (heat["x_names"], heat["y_names"]) == (["0.1", "0.2"], ["a", "b"])
    assert heat["median"] == [[1.0, 2.0], [3.5, 8.0]]
    assert heat["n"] == [[1, 1], [2, 1]]
    assert heat["best"] == [0, 0]
    assert "lr 0.1 with opt a (median 1)" in figure.table


def test_build_contours_of_many_values_are_spans_between_edges():
    board = board_of([trial(i, float(i), lr=10 ** (-i / 20), opt="a") for i in range(41)])
    (heat,) = build_contours(board, [LR, OPT]).data["maps"]
    assert [math.log10(edge) for edge in heat["x_edges"]][::5] == [-2.0, -1.0, 0.0]
    assert sum(map(sum, heat["n"])) == 41
    assert heat["best"][0] == 9


def test_build_contours_of_few_configurations_has_a_cell_for_each_value():
    values = [(0.1, 3.0), (0.3, 1.0), (0.5, 2.0), (0.3, 1.5)]  # three values in four rows
    board = board_of([trial(i, y, lr=x, opt="a") for i, (x, y) in enumerate(values)])
    (heat,) = build_contours(board, [LR, OPT]).data["maps"]
    assert (heat["x_names"], heat["x_edges"]) == (["0.1", "0.3", "0.5"], None)
    assert heat["best"] == [1, 0]


def test_build_contours_of_one_parameter_is_left_out():
    assert build_contours(grid(), [LR]) is None


def test_build_importance_names_share_and_direction():
    figure = build_importance([LR, Influence("x", None, reason="it has one value")], "how")
    assert figure.data["share"] == [0.7, None]
    assert figure.data["direction"] == ["lower is better", "it has one value"]
    assert figure.table == "Shares: lr 70 %, lower is better."


def test_builders_with_too_little_say_why():
    nothing, one = board_of([trial(1, lr=1)]), board_of([trial(1, 1.0, lr=1)])
    for build in (build_parallel, build_slices):
        assert build(nothing, [LR]).data == {"reason": "Nothing is ranked yet."}
        assert "Only 1 configuration" in build(one, [LR]).data["reason"]
        assert build(grid(), []).data == {"reason": "No parameter varies."}
    unknown = build_importance([Influence("lr", None, reason="too few")], "how")
    assert unknown.data == {"reason": "Not known: too few."}

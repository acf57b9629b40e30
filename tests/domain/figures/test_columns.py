import json

import pytest

from orchestrator.domain.figures.columns import (
    cells,
    encode_column,
    fit_view,
    numbers,
    pick_evenly,
    quantile,
    ranked_rows,
    tell_outside,
)
from orchestrator.domain.table import Table
from orchestrator.domain.typed_columns import MISSING, typed_column
from tests.domain.figures.boards import board_of, trial


def series(*values):
    return Table({"c": typed_column(list(values))}).to_frame()["c"]


def test_cells_give_json_values_and_null_for_the_rest():
    assert cells(series(1, MISSING, 3)) == [1, None, 3]
    assert cells(series(1e-5, float("nan"), float("inf"))) == [1e-5, None, None]
    assert cells(series(True, False)) == ["true", "false"]
    assert cells(series("a\x1b[31m", MISSING)) == ["a", None]
    assert len(cells(series("x" * 500))[0]) == 80


def test_numbers_of_a_column_with_a_text_keep_all_digits():
    assert numbers(series(0.1234567890123456, "broken", 3)) == [0.1234567890123456, None, 3.0]


def test_encode_column_few_levels_are_codes_many_are_values():
    assert encode_column("bs", [16, 32, 16, 32, None, 16]) == {
        "name": "bs", "is_text": False, "log": False,
        "levels": [16, 32], "codes": [0, 1, 0, 1, -1, 0],
    }  # fmt: skip
    assert encode_column("x", [1.5, 2.5, 3.5])["values"] == [1.5, 2.5, 3.5]


def test_encode_column_recognises_decades():
    assert encode_column("lr", [1e-5, 1e-4, 1e-3])["log"]
    assert not encode_column("dropout", [0.1, 0.2, 0.3])["log"]


def test_encode_column_puts_rare_texts_together():
    texts = [f"m{i:02d}" for i in range(40)] + [f"m{i:02d}" for i in range(29)]
    axis = encode_column("model", texts)
    assert axis["levels"] == [*(f"m{i:02d}" for i in range(29)), "(11 others)"]
    assert axis["codes"][29:40] == [29] * 11
    assert axis["codes"][40:42] == [0, 1]


def test_pick_evenly_keeps_the_best_and_both_ends():
    assert pick_evenly(5, 9) == [0, 1, 2, 3, 4]
    picked = pick_evenly(1000, 9)
    assert picked[:3] == [0, 1, 2]
    assert (len(picked), picked[-1], len(set(picked))) == (9, 999, 9)


@pytest.mark.parametrize(
    ("values", "is_minimized", "view"),
    [
        ([1.0, 2.0, 3.0, 4.0], True, {"log": False, "range": None, "n_outside": 0}),
        ([0.5, 5.0, 50.0], True, {"log": True, "range": None, "n_outside": 0}),
        # Quartiles 1.25 and 3.75 of 0 ... 5; the worse edge lies at 3.75 + 3 x 2.5 = 11.25.
        ([0.0, 1, 2, 3, 4, 90], True, {"log": False, "range": [-0.2, 4.2], "n_outside": 1}),
        ([0.0, -1, -2, -3, -4, -90], False, {"log": False, "range": [-4.2, 0.2], "n_outside": 1}),
        ([], True, {"log": False, "range": None, "n_outside": 0}),
        # The distance of the two ends is no float.
        (
            [1.7e308, 1.0, 2.0, -1.7e308],
            True,
            {"log": False, "range": [0.95, 2.05], "n_outside": 2},
        ),
        ([1.7e308, -1.7e308], True, {"log": False, "range": None, "n_outside": 0}),
    ],
)
def test_fit_view(values, is_minimized, view):
    found = fit_view(values, is_minimized)
    if found["range"]:
        found["range"] = [round(edge, 9) for edge in found["range"]]
    assert found == view


def test_fit_view_others_have_no_say_but_are_counted():
    view = fit_view([1.0, 2.0, 3.0], True, [1e6, 2.5])
    assert view == {"log": False, "range": [0.9, 3.1], "n_outside": 1}


def test_fit_view_not_far_off_is_shown_and_only_what_is_outside_counts():
    # Quartiles 1.1 and 1.3: far off begins at 1.9, whoever it is.
    done = [1.0, 1.1, 1.2, 1.3, 1.4]
    view = fit_view(done, True, [1.4537, 1.55, 2.9])
    assert [round(edge, 4) for edge in view["range"]] == [0.9725, 1.5775]
    assert view["n_outside"] == 1
    assert fit_view(done, True, [1.4537, 1.55]) == {"log": False, "range": None, "n_outside": 0}
    assert fit_view([-x for x in done], False, [-1.55, -2.9])["n_outside"] == 1


def test_tell_outside_of_a_log_axis_says_why():
    view = fit_view([0.5, 5.0, 50.0], True, [0.0])
    assert tell_outside(view) == (
        " 1 value is not above 0 and cannot be drawn on the logarithmic axis."
    )
    assert tell_outside(fit_view([0.5, 5.0, 50.0], True)) == ""


def test_quantile_lies_between_two_in_proportion():
    assert [quantile([1.0, 2.0, 4.0], share) for share in (0, 0.25, 0.5, 1)] == [1, 1.5, 2, 4]


def test_ranked_rows_over_repeats_are_means_of_configurations():
    board = board_of(
        [trial(1, 1.0, lr=1, seed=0), trial(2, 3.0, lr=1, seed=1), trial(3, 1.5, lr=2, seed=0),
         trial(4, 1.5, lr=2, seed=1)],
        seeded=True,
    )  # fmt: skip
    ranked = ranked_rows(board)
    assert (list(ranked.rows), list(ranked.values)) == ([0, 2], [1.5, 2.0])
    assert (ranked.label, ranked.is_minimized) == ("loss_mean", True)


def test_ranked_rows_of_very_many_say_what_is_left_out():
    ranked = ranked_rows(board_of([trial(i, float(i), lr=i) for i in range(50)]), 9)
    assert list(ranked.values)[:3] == [0, 1, 2]
    assert "9 of 50" in ranked.left_out
    json.dumps(ranked.values, allow_nan=False)

import math

import pytest

from orchestrator.domain.typed_columns import (
    DTYPES,
    FLOAT,
    INTEGER,
    MISSING,
    number_column,
    typed_column,
)


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        ([], "string", []),
        ([MISSING], "string", [None]),
        ([1, MISSING, -(2**63) + 1], "Int64", [1, None, -(2**63) + 1]),
        ([1, 2**63], "string", ["1", "9223372036854775808"]),
        ([True, MISSING], "boolean", [True, None]),
        ([1, 0.5, MISSING], "Float64", [1.0, 0.5, None]),
        ([2**53 + 1, 0.5], "string", ["9007199254740993", "0.5"]),
        ([1, True], "string", ["1", "true"]),
        ([None, 4], "string", ["null", "4"]),
        ([[1, "a"], {"k": None}], "string", ['[1, "a"]', '{"k": null}']),
        (["\ud800x", "é"], "string", ["\\ud800x", "é"]),
        (["x" * 40_000], "string", ["x" * 32_766 + "…"]),
    ],
)
def test_typed_column_cells_get_a_type_that_keeps_them(cells, dtype, expected):
    made = typed_column(cells)
    assert (made.dtype, made.cells) == (dtype, expected)
    assert list(map(type, made.cells)) == list(map(type, expected))


def test_typed_column_not_a_number_is_not_missing():
    made = typed_column([math.nan, MISSING, math.inf])
    assert [cell is None for cell in made.cells] == [False, True, False]
    assert math.isnan(made.cells[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_typed_column_without_a_value_has_the_type_asked_for(dtype):
    assert typed_column([MISSING, MISSING], dtype) == (dtype, [None, None])


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        ([0.5, "0.5", True, None, [1], MISSING, 2], FLOAT, [0.5, *[None] * 5, 2.0]),
        ([1, True, 2**62], INTEGER, [1, None, 2**62]),
        ([10**400, -(10**400), 1], FLOAT, [math.inf, -math.inf, 1.0]),
        ([2**53 + 1, 0.5], FLOAT, [2.0**53, 0.5]),
        (["x"], FLOAT, [None]),
        ([], FLOAT, []),
    ],
)
def test_number_column_holds_nothing_but_numbers(cells, dtype, expected):
    assert number_column(cells) == (dtype, expected)

import math

import pandas as pd
import pytest

from orchestrator.domain.typed_columns import MISSING, typed_column


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
def test_typed_column_cells_get_a_dtype_that_keeps_them(cells, dtype, expected):
    made = pd.Series(typed_column(cells))
    assert made.dtype == dtype
    assert made.to_numpy(dtype=object, na_value=None).tolist() == expected


def test_typed_column_not_a_number_is_not_missing():
    made = typed_column([math.nan, MISSING, math.inf])
    assert made.isna().tolist() == [False, True, False]
    assert repr(made[0]) in ("nan", "np.float64(nan)")

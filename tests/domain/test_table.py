import math

import pandas as pd

from orchestrator.domain.table import Table
from orchestrator.domain.typed_columns import MISSING, typed_column

COLUMNS = {
    "flag": typed_column([True, MISSING, False]),
    "count": typed_column([2**62 + 1, MISSING, -1]),
    "loss": typed_column([math.nan, MISSING, math.inf]),
    "text": typed_column(["a", MISSING, ""]),
    "none": typed_column([MISSING] * 3),
}


def test_table_frame_has_the_dtypes_that_the_types_are_named_after():
    frame = Table(COLUMNS).to_frame()
    dtypes = [str(dtype) for dtype in frame.dtypes]
    assert dtypes == ["boolean", "Int64", "Float64", "string", "string"]
    assert [frame[name].isna().tolist() for name in frame] == [[False, True, False]] * 4 + [
        [True] * 3
    ]
    assert frame["count"].tolist()[0] == 2**62 + 1
    assert math.isnan(float(frame["loss"].to_numpy(dtype=object)[0]))
    assert isinstance(frame.index, pd.RangeIndex)


def test_table_take_and_without_leave_the_table_as_it_is():
    table = Table(COLUMNS)
    taken = table.without(["flag"]).without_empty().take([2, 0])
    assert taken.columns == ("count", "loss", "text")
    assert (len(taken), taken["text"].cells) == (2, ["", "a"])
    assert (len(table), table.columns) == (3, tuple(COLUMNS))
    assert "flag" in table
    assert "flag" not in taken


def test_table_without_columns_keeps_its_rows():
    assert len(Table({}, 3).to_frame()) == 3
    assert len(Table(COLUMNS).without(COLUMNS)) == 3

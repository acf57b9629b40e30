import io
import math
import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq

from orchestrator.adapters.leaderboard_parquet import format_parquet
from orchestrator.domain.table import Table
from orchestrator.domain.typed_columns import DTYPES, MISSING, Column, typed_column

CELLS = {
    "flag": [True, MISSING, False],
    "count": [2**62 + 1, MISSING, -1],
    "loss": [math.nan, MISSING, math.inf],
    "text": ["é\x00=1", MISSING, ""],
    "all": [1.5, 2.5, 3.5],
    "none": [MISSING] * 3,
}


def make_table():
    return Table({name: typed_column(cells) for name, cells in CELLS.items()})


def test_format_parquet_has_the_documented_arrow_types():
    table = pq.read_table(io.BytesIO(format_parquet(make_table())))
    assert {
        name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)
    } == {
        "flag": "bool",
        "count": "int64",
        "loss": "double",
        "text": "large_string",
        "all": "double",
        "none": "large_string",
    }
    table.validate(full=True)
    values = table.to_pydict()
    assert math.isnan(values["loss"].pop(0))
    assert values == {
        "flag": [True, None, False],
        "count": [2**62 + 1, None, -1],
        "loss": [None, math.inf],
        "text": ["é\x00=1", None, ""],
        "all": [1.5, 2.5, 3.5],
        "none": [None] * 3,
    }


def test_format_parquet_reads_as_the_frame_that_the_table_makes():
    table = make_table()
    found = pd.read_parquet(io.BytesIO(format_parquet(table)))
    expected = table.to_frame()
    expected.loc[0, "loss"] = pd.NA  # what pandas makes of the NaN in any Parquet file
    pd.testing.assert_frame_equal(found, expected)
    assert {str(dtype) for dtype in found.dtypes} == set(DTYPES)


def test_format_parquet_without_rows_keeps_the_types():
    table = Table({dtype: Column(dtype, []) for dtype in DTYPES})
    found = pd.read_parquet(io.BytesIO(format_parquet(table)))
    assert [str(dtype) for dtype in found.dtypes] == list(DTYPES)
    assert len(found) == 0


def test_format_parquet_imports_no_pandas():
    code = (
        "import sys; from orchestrator.adapters.leaderboard_parquet import format_parquet; "
        "from orchestrator.domain.table import Table; "
        "from orchestrator.domain.typed_columns import typed_column; "
        "format_parquet(Table({'a': typed_column(['x', 'y']), 'b': typed_column([1.5, 2])})); "
        "import orchestrator.cli.collect; print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

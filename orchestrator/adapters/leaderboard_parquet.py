"""Writing a leaderboard as Parquet, from Arrow arrays. Runs on the login node.

The types are those of ``domain.typed_columns``. A note in the file makes pandas read it with the
dtypes of ``Leaderboard.frame``; other readers see plain Arrow types. pyarrow can be left out, so it
is imported when it is needed; pandas is never imported, which ``pyarrow.array`` would do to see
whether it was given a series. Called by ``leaderboard_files``.
"""

from __future__ import annotations

import importlib.util
import io
import json
from typing import TYPE_CHECKING, Any

from orchestrator.domain.table import Table
from orchestrator.domain.typed_columns import BOOLEAN, FLOAT, INTEGER, TEXT, Column

if TYPE_CHECKING:
    import pyarrow

# By type: Arrow's name of it, and what pandas' own notes call it.
_TYPES = {
    BOOLEAN: ("bool", "bool"),
    INTEGER: ("int64", "int64"),
    FLOAT: ("double", "float64"),
    TEXT: ("large_string", "object"),
}


def can_write_parquet() -> bool:
    """Tell whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def format_parquet(table: Table) -> bytes:
    """Format a table as Parquet."""
    import pyarrow
    from pyarrow import parquet

    columns = [table[name] for name in table.columns]
    made = pyarrow.Table.from_arrays(list(map(make_array, columns)), names=list(table.columns))
    notes = {
        "index_columns": [],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": _TYPES[column.dtype][1],
                "numpy_type": column.dtype,
                "metadata": None,
            }
            for name, column in zip(table.columns, columns, strict=True)
        ],
        "creator": {"library": "pyarrow", "version": pyarrow.__version__},
    }
    made = made.replace_schema_metadata({"pandas": json.dumps(notes)})
    # Numbers seldom repeat: a dictionary of them costs half of the time.
    repeating = [n for n, c in zip(table.columns, columns, strict=True) if c.dtype == TEXT]
    buffer = io.BytesIO()
    parquet.write_table(made, buffer, use_dictionary=repeating)
    return buffer.getvalue()


def make_array(column: Column) -> pyarrow.Array:
    """Make an Arrow array of a column."""
    import numpy as np
    import pyarrow

    dtype, cells = column
    n = len(cells)
    has_gaps = None in cells
    n_missing = 0
    buffers: list[Any] = [None]
    if has_gaps:
        is_there = np.fromiter((cell is not None for cell in cells), bool, n)
        n_missing = n - int(is_there.sum())
        buffers = [_bits(is_there)]
    if dtype == TEXT:
        texts = ["" if cell is None else cell for cell in cells] if has_gaps else cells
        joined = "".join(texts)
        lengths = map(len, texts if joined.isascii() else [text.encode() for text in texts])
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(np.fromiter(lengths, np.int64, n), out=offsets[1:])
        buffers += [pyarrow.py_buffer(offsets), pyarrow.py_buffer(joined.encode())]
    else:
        values = [0 if cell is None else cell for cell in cells] if has_gaps else cells
        if dtype == BOOLEAN:
            buffers.append(_bits(np.array(values, bool)))
        else:
            kind = np.int64 if dtype == INTEGER else np.float64
            buffers.append(pyarrow.py_buffer(np.array(values, kind)))
    arrow_type = pyarrow.type_for_alias(_TYPES[dtype][0])
    return pyarrow.Array.from_buffers(arrow_type, n, buffers, n_missing)


def _bits(flags: Any) -> Any:
    import numpy as np
    import pyarrow

    return pyarrow.py_buffer(np.packbits(flags, bitorder="little"))

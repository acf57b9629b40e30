"""A table of typed columns: what a leaderboard is before anybody asks for a pandas frame.

Pure. Holds Python values, so that ranking, CSV and the terminal need no pandas, whose import takes
longer than collecting ten thousand trials. ``to_frame`` makes a frame for notebooks, reports and
whatever else computes with columns. Made by ``leaderboard``; runs on the login node.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.domain.typed_columns import BOOLEAN, FLOAT, INTEGER, TEXT, Column

if TYPE_CHECKING:
    import pandas as pd


class Table:
    """Columns of one length, by name; never changed after it is made."""

    def __init__(self, columns: Mapping[str, Column], n_rows: int | None = None) -> None:
        """Hold columns.

        Args:
            columns: By name, in the order in which they are shown.
            n_rows: Their length; needed only where there may be no column.
        """
        self._columns = dict(columns)
        lengths = {len(column.cells) for column in self._columns.values()}
        assert len(lengths) <= 1, lengths
        self._n_rows = lengths.pop() if lengths else (n_rows or 0)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._n_rows

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a column of that name."""
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        """Return a column."""
        return self._columns[name]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self._columns)

    def row(self, place: int) -> dict[str, Any]:
        """Return the cells of one row by column; None where there is none."""
        return {name: column.cells[place] for name, column in self._columns.items()}

    def take(self, rows: Sequence[int]) -> Table:
        """Return the rows of these places, in this order."""
        if len(rows) > 1:
            pick = operator.itemgetter(*rows)  # of one place it gives the cell, not a tuple
            cells = {name: list(pick(column.cells)) for name, column in self._columns.items()}
        else:
            cells = {n: [column.cells[row] for row in rows] for n, column in self._columns.items()}
        taken = {name: Column(self._columns[name].dtype, cells[name]) for name in cells}
        return Table(taken, len(rows))

    def without(self, names: Collection[str]) -> Table:
        """Return the table without some columns."""
        kept = {name: column for name, column in self._columns.items() if name not in names}
        return Table(kept, self._n_rows)

    def without_empty(self) -> Table:
        """Return the table without the columns that hold nothing."""
        empty = [n for n, c in self._columns.items() if all(cell is None for cell in c.cells)]
        return self.without(empty)

    def to_frame(self) -> pd.DataFrame:
        """Make a pandas frame with the dtypes that ``typed_columns`` names."""
        # Lazy: see the module's docstring.
        import pandas as pd

        data = {name: to_pandas(column) for name, column in self._columns.items()}
        return pd.DataFrame(data, index=pd.RangeIndex(self._n_rows))


def to_pandas(column: Column) -> Any:
    """Make a pandas array of a column, with the dtype that ``typed_columns`` names."""
    import numpy as np  # lazy: comes with pandas
    import pandas as pd

    dtype, cells = column
    if dtype == TEXT:
        return pd.array(cells, dtype="string")
    if dtype == BOOLEAN:
        return pd.array(cells, dtype="boolean")
    # Not pd.array: it would take NaN for missing.
    mask = np.fromiter((cell is None for cell in cells), bool, len(cells))
    numbers = [0 if cell is None else cell for cell in cells] if mask.any() else cells
    if dtype == INTEGER:
        return pd.arrays.IntegerArray(np.array(numbers, np.int64), mask)
    assert dtype == FLOAT, dtype
    return pd.arrays.FloatingArray(np.array(numbers, np.float64), mask)

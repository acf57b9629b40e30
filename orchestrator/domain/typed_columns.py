"""A column of a table in a dtype that keeps every value as it is.

Pure: values in, pandas arrays out. Knows neither trials nor the names of columns. Called by
``leaderboard`` and ``named_columns``; runs on the login node.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

# What a cell of Excel holds (Microsoft, "Excel specifications and limits").
MAX_CELL_CHARS = 32_767
# Integers beyond this lose digits in a float.
_EXACT_IN_FLOAT = 2**53


class _Missing:
    """Type of the mark for a cell that is not there, which is not the same as null."""


MISSING: Final = _Missing()


def typed_column(cells: Sequence[Any], empty: str = "string") -> Any:
    """Make one column of a dtype that keeps every value as it is.

    Booleans, integers of 64 bits and floats (NaN stays apart from missing) get the nullable dtypes
    ``boolean``, ``Int64`` and ``Float64``. Everything else is text: strings as they are, other
    values as JSON spells them, so also integers of more digits and null beside other values.

    Args:
        cells: Values; ``MISSING`` where there is none.
        empty: The dtype of a column without any value: ``string``, ``Int64`` or ``Float64``.
    """
    kinds = set(map(type, cells))
    has_gaps = _Missing in kinds
    kinds.discard(_Missing)
    if not kinds:
        if empty == "string":
            return text_column(cells)
        zeros, gaps = np.zeros(len(cells), np.int64), np.ones(len(cells), bool)
        if empty == "Int64":
            return pd.arrays.IntegerArray(zeros, gaps)
        return pd.arrays.FloatingArray(zeros.astype(np.float64), gaps)
    if kinds == {bool}:
        return pd.array([None if c is MISSING else c for c in cells], dtype="boolean")
    if kinds <= {int, float}:
        mask = np.zeros(len(cells), bool)
        numbers = cells
        if has_gaps:
            mask = np.fromiter((c is MISSING for c in cells), bool, len(cells))
            numbers = [0 if c is MISSING else c for c in cells]
        ints = [c for c in numbers if type(c) is int] if int in kinds else [0]
        largest = max(max(ints), -min(ints)) if ints else 0
        if kinds == {int} and largest < 2**63:
            return pd.arrays.IntegerArray(np.array(numbers, np.int64), mask)
        if float in kinds and largest <= _EXACT_IN_FLOAT:
            return pd.arrays.FloatingArray(np.array(numbers, np.float64), mask)
    return text_column([c if c is MISSING else spell_value(c) for c in cells])


def text_column(cells: Sequence[Any]) -> Any:
    """Make a column of texts; ``MISSING`` where there is none."""
    texts = [None if c is MISSING else c for c in cells]
    if not (
        all(map(str.isascii, found := list(filter(None, texts))))
        and len(max(found, key=len, default="")) <= MAX_CELL_CHARS
    ):
        texts = [None if c is None else clean_text(c) for c in texts]
    return pd.array(texts, dtype="string")


def clean_text(text: str) -> str:
    """Make text that every encoder takes: no lone surrogates, no more than a cell holds."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"


def spell_value(value: Any) -> str:
    """Spell a value as text: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"

"""A column of a table in a type that keeps every value as it is.

Pure, and without pandas, whose import takes longer than ranking ten thousand trials: ``table``
makes a frame of columns where somebody wants one. Knows neither trials nor the names of columns.
Called by ``leaderboard`` and ``named_columns``; runs on the login node.

The types, and nothing else, stand in a leaderboard:

=========  ==========  ===============  ====================================================
type       pandas      Parquet (Arrow)  cells
=========  ==========  ===============  ====================================================
BOOLEAN    boolean     bool             true, false
INTEGER    Int64       int64            integers of 64 bits
FLOAT      Float64     double           finite numbers, infinities, NaN (which is not null)
TEXT       string      large_string     texts; every other value as JSON spells it
=========  ==========  ===============  ====================================================

A cell that is not there is null in each of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

# The name of each type is that of its pandas dtype.
BOOLEAN: Final = "boolean"
INTEGER: Final = "Int64"
FLOAT: Final = "Float64"
TEXT: Final = "string"
DTYPES: Final = (BOOLEAN, INTEGER, FLOAT, TEXT)

# What a cell of Excel holds (Microsoft, "Excel specifications and limits").
MAX_CELL_CHARS = 32_767
# Integers beyond this lose digits in a float.
_EXACT_IN_FLOAT = 2**53


class _Missing:
    """Type of the mark for a cell that is not there, which is not the same as null."""


MISSING: Final = _Missing()


class Column(NamedTuple):
    """Cells of one type."""

    dtype: str
    """One of ``DTYPES``."""
    cells: list[Any]
    """Python values of that type; None where there is none."""


def typed_column(cells: Sequence[Any], empty: str = TEXT) -> Column:
    """Make one column of a type that keeps every value as it is.

    Booleans, integers of 64 bits and floats (NaN stays apart from missing) get a type of their
    own. Everything else is text: strings as they are, other values as JSON spells them, so also
    integers of more digits and null beside other values.

    Args:
        cells: Values; ``MISSING`` where there is none.
        empty: The type of a column without any value.
    """
    kinds = set(map(type, cells))
    has_gaps = _Missing in kinds
    kinds.discard(_Missing)
    if not kinds:
        return Column(empty, [None] * len(cells))
    if kinds == {bool}:
        return Column(BOOLEAN, _without_marks(cells, has_gaps))
    if kinds <= {int, float}:
        ints = [c for c in cells if type(c) is int] if int in kinds else [0]
        largest = max(max(ints), -min(ints))
        if kinds == {int} and largest < 2**63:
            return Column(INTEGER, _without_marks(cells, has_gaps))
        if kinds == {float}:
            return Column(FLOAT, _without_marks(cells, has_gaps))
        if float in kinds and largest <= _EXACT_IN_FLOAT:
            return Column(FLOAT, [None if c is MISSING else float(c) for c in cells])
    return text_column([c if c is MISSING else spell_value(c) for c in cells])


def number_column(cells: Sequence[Any]) -> Column:
    """Make a column of numbers alone: what is none (a text, true, a list) is not there.

    For the objective, which one odd value must not turn into texts; a note names the value.
    """
    kept = [c if type(c) in (int, float) else MISSING for c in cells]
    if int in set(map(type, kept)):
        largest = max(abs(c) for c in kept if type(c) is int)
        is_mixed = float in set(map(type, kept))
        if largest >= 2**63 or (is_mixed and largest > _EXACT_IN_FLOAT):
            kept = [_nearest_float(c) if type(c) is int else c for c in kept]
    return typed_column(kept, FLOAT)


def text_column(cells: Sequence[Any]) -> Column:
    """Make a column of texts; ``MISSING`` where there is none."""
    texts = [None if c is MISSING else c for c in cells]
    if not (
        all(map(str.isascii, found := list(filter(None, texts))))
        and len(max(found, key=len, default="")) <= MAX_CELL_CHARS
    ):
        texts = [None if c is None else clean_text(c) for c in texts]
    return Column(TEXT, texts)


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


def _nearest_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _without_marks(cells: Sequence[Any], has_gaps: bool) -> list[Any]:
    return [None if c is MISSING else c for c in cells] if has_gaps else list(cells)

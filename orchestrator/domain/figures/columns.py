"""Columns of a leaderboard as JSON values, small: what all figures are made of. Pure.

A column of few distinct values is its levels and a code for each row. Numbers keep all their
digits, so that they equal the CSV's; what is not finite or not there is null. Texts are fit to be
shown, and cut; whoever draws them escapes them.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.parameter_scale import is_logarithmic
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.sweep_summary import MAXIMIZE

# More ticks than this on one axis cannot be read.
MAX_TEXTS = 30
MAX_CHARS = 80
# More points than this are slow to draw without WebGL, and hide each other.
MAX_POINTS = 3000
_MAX_LEVELS = 64
# Of larger numbers an axis cannot be drawn: the distance of two may be no float.
_MOST_DRAWN = 1e300


@dataclass(frozen=True)
class Ranked:
    """What has a rank, one row a configuration, best first."""

    rows: Sequence[int]
    """Row of the leaderboard: of a configuration's first trial."""
    values: Sequence[float]
    """What it is ranked by: the mean over repeats where there are some."""
    label: str
    """Name of that column."""
    is_minimized: bool
    """Whether less is better."""
    n_left_out: int = 0
    """Configurations that are left out, there being so many."""
    n_best: int = 0
    """If so, how many of the best are all there."""

    @property
    def left_out(self) -> str:
        """Say what is left out; empty if nothing is."""
        if not self.n_left_out:
            return ""
        return (
            f" Drawn are {len(self.rows):,} of {len(self.rows) + self.n_left_out:,}: the best "
            f"{self.n_best:,}, and of the others one in so many, evenly by rank."
        )


def ranked_rows(board: Leaderboard, at_most: int = MAX_POINTS) -> Ranked:
    """Pick what has a rank, and of very many the best third of ``at_most`` and an even rest."""
    rows = list(board.leads)
    label = value_column(board)
    values = numbers(board.frame[label].iloc[rows]) if label and rows else []
    found = [(row, value) for row, value in zip(rows, values, strict=True) if value is not None]
    kept = [found[index] for index in pick_evenly(len(found), at_most)]
    return Ranked(
        [row for row, _ in kept],
        [value for _, value in kept],
        label or "",
        board.summary.goal != MAXIMIZE,
        len(found) - len(kept),
        at_most // 3,
    )


def value_column(board: Leaderboard) -> str | None:
    """Name the column that configurations are ranked by; None without an objective."""
    mean = f"{board.objective}_mean"
    return mean if board.summary.seeded and mean in board.frame else board.objective


def pick_evenly(n: int, at_most: int) -> list[int]:
    """Pick of 0 ... n-1 the first third of ``at_most`` and, evenly spread, of the others."""
    if n <= at_most:
        return list(range(n))
    first = at_most // 3
    step = (n - 1 - first) / (at_most - first - 1)
    return [*range(first), *(first + round(step * i) for i in range(at_most - first))]


def cells(column: pd.Series) -> list[Any]:
    """Return a column as JSON values: null where there is none, or a number is not finite."""
    missing = column.isna().to_numpy()
    is_text = pd.api.types.is_string_dtype(column.dtype)
    found: list[Any] = []
    for value, is_missing in zip(column.tolist(), missing, strict=True):
        if is_missing:
            found.append(None)
        elif is_text:
            found.append(one_line(value, MAX_CHARS))
        elif isinstance(value, bool):
            found.append("true" if value else "false")
        else:
            found.append(value if math.isfinite(value) else None)
    return found


def numbers(column: pd.Series) -> list[float | None]:
    """Return a column's finite numbers, and null for all else.

    A column is text where some trial reported a text; its numbers are spelled in full there.
    """
    found: list[float | None] = []
    for value in cells(column):
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        found.append(value if is_number else None)
    return found


def encode_column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Make an axis of a column: ``name, is_text, log`` and its values.

    Those are ``values``, or ``levels`` and ``codes`` (-1: none) where few are distinct. Texts are
    always levels; beyond ``MAX_TEXTS`` of them the rarest are put together.
    """
    there = [value for value in values if value is not None]
    is_text = any(isinstance(value, str) for value in there)
    axis: dict[str, Any] = {"name": one_line(name, MAX_CHARS), "is_text": is_text, "log": False}
    if is_text:
        texts = [None if value is None else str(value) for value in values]
        return {**axis, **_encode_texts(texts)}
    distinct = sorted(set(there))
    axis["log"] = is_logarithmic(distinct)
    if len(distinct) <= min(_MAX_LEVELS, len(values) / 2):
        codes = {value: code for code, value in enumerate(distinct)}
        return {**axis, "levels": distinct, "codes": _code(values, codes)}
    return {**axis, "values": list(values)}


def _encode_texts(texts: Sequence[str | None]) -> dict[str, Any]:
    counts = Counter(text for text in texts if text is not None)
    levels = sorted(counts)
    if len(levels) > MAX_TEXTS:
        common = [text for text, _ in counts.most_common(MAX_TEXTS - 1)]
        rest = f"({len(levels) - len(common)} others)"
        codes = dict.fromkeys(levels, len(common))
        levels = [*sorted(common), rest]
        codes.update({text: code for code, text in enumerate(levels[:-1])})
    else:
        codes = {text: code for code, text in enumerate(levels)}
    return {"levels": levels, "codes": _code(texts, codes)}


def _code(values: Sequence[Any], codes: Mapping[Any, int]) -> list[int]:
    return [-1 if value is None else codes[value] for value in values]


def fit_view(
    values: Sequence[float], is_minimized: bool, others: Sequence[float] = ()
) -> dict[str, Any]:
    """Choose how an axis of objectives is shown at first: ``log``, ``range`` and ``n_outside``.

    A few values far off on the worse side (diverged trials) would press all others onto a line.
    Above 0 and over two decades the axis is logarithmic; else it ends three interquartile ranges
    beyond the worse quartile if something lies further off, and before numbers too large to draw.
    ``range`` is null where all is shown.

    Args:
        values: Those that count.
        is_minimized: Whether less is better.
        others: Drawn too, without a say in what is far off.
    """
    if not values:
        return {"log": False, "range": None, "n_outside": 0}
    found = sorted(values)
    low, high = found[0], found[-1]
    if low > 0 and high >= 100 * low:
        n_below = sum(value <= 0 for value in others)
        return {"log": True, "range": None, "n_outside": n_below}
    found = [value for value in found if abs(value) <= _MOST_DRAWN]
    if not found:
        return {"log": False, "range": None, "n_outside": 0}
    low, high = found[0], found[-1]
    first, third = quantile(found, 0.25), quantile(found, 0.75)
    reach = 3 * (third - first)
    if reach > 0 and math.isfinite(reach):
        # What counts is always shown on the better side.
        low = min(low, first - reach) if is_minimized else first - reach
        high = third + reach if is_minimized else max(high, third + reach)
    drawn = [*values, *others]
    inside = [value for value in drawn if low <= value <= high]
    least, most = min(inside), max(inside)
    margin = 0.05 * (most - least) or 0.05 * abs(least) or 1.0
    shown = [least - margin, most + margin]
    n_outside = sum(not shown[0] <= value <= shown[1] for value in drawn)
    return {"log": False, "range": shown if n_outside else None, "n_outside": n_outside}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ordered numbers, between two of them in proportion."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def tell_outside(view: Mapping[str, Any]) -> str:
    """Say that some values lie outside of what is shown at first; empty if none do."""
    n = view["n_outside"]
    if not n:
        return ""
    if view["log"]:
        are = "value is not above 0 and" if n == 1 else "values are not above 0 and"
        return f" {n:,} {are} cannot be drawn on the logarithmic axis."
    lie = "value lies" if n == 1 else "values lie"
    return f" {n:,} {lie} far off, beyond the axis; a double click shows all."


def spell(value: float) -> str:
    """Spell a number for a sentence, four digits."""
    return f"{value:.4g}"

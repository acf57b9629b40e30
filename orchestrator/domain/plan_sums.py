"""Numbers of a plan, shown so that a reader who adds them up finds what is shown. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Of an exact number, and where a sum of rounded ones needs them to come out.
_EXACT_DECIMALS = 4
_MOST_DECIMALS = 6


def show_amount(value: float) -> str:
    """Show a number exactly in up to four decimals, or else with three digits that count or more.

    ``0.125``, ``648``, ``1.67``, ``0.0333``.
    """
    return _fixed(value, _decimals(value))


def show_sum(values: Sequence[float]) -> tuple[list[str], str]:
    """Show numbers and their sum so that it comes out: ``0.125`` and ``0.25`` are ``0.375``.

    Returns:
        The numbers, and the sum: ``about 1`` for three times ``0.333``, which no decimals mend.
    """
    total = math.fsum(values)
    least = max(map(_decimals, values), default=0)
    for decimals in range(least, max(least, _MOST_DECIMALS) + 1):
        terms = [_fixed(value, decimals) for value in values]
        if _fixed(math.fsum(map(float, terms)), decimals) == _fixed(total, decimals):
            return terms, _fixed(total, decimals)
    return [_fixed(value, least) for value in values], f"about {_fixed(total, least)}"


def show_money_sum(values: Sequence[float]) -> tuple[list[str], str]:
    """Show amounts of money and their sum, with two decimals or as many more as it takes."""
    total = math.fsum(values)
    small = [value for value in values if 0 < value < 0.01]
    least = max([2, *(1 - math.floor(math.log10(value)) for value in small)])
    for decimals in range(least, max(least, _MOST_DECIMALS) + 1):
        terms = [f"{value:.{decimals}f}" for value in values]
        if f"{math.fsum(map(float, terms)):.{decimals}f}" == f"{total:.{decimals}f}":
            return terms, f"{total:.{decimals}f}"
    return [f"{value:.{least}f}" for value in values], f"about {total:.{least}f}"


def show_priced(parts: Sequence[tuple[float, float]], shown_total: str) -> list[str]:
    """Show hours with the decimals that give a total in money if multiplied by their prices.

    Args:
        parts: Hours and their price each.
        shown_total: The total as it is shown.
    """
    _, _, after = shown_total.partition(".")
    least = max((_decimals(hours) for hours, _ in parts), default=0)
    shown = [_fixed(hours, least) for hours, _ in parts]
    for decimals in range(least, max(least, _MOST_DECIMALS) + 1):
        shown = [_fixed(hours, decimals) for hours, _ in parts]
        sums = (float(text) * price for text, (_, price) in zip(shown, parts, strict=True))
        if f"{math.fsum(sums):.{len(after)}f}" == shown_total:
            break
    return shown


def in_units(shown: str, unit: str) -> str:
    """``1 GPU-hour``, ``2 GPU-hours``."""
    return f"{shown} {unit}" + ("" if shown == "1" else "s")


def _decimals(value: float) -> int:
    """Return the decimals that show a number exactly, or else three of its digits, two at least."""
    for decimals in range(_EXACT_DECIMALS + 1):
        if math.isclose(round(value, decimals), value, rel_tol=1e-9, abs_tol=1e-12):
            return decimals
    return max(2, 2 - math.floor(math.log10(abs(value))))


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text

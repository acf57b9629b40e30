"""Amounts as texts for people: parts and their sum, money, hours, rates. Pure.

One function for each kind of figure, so that it has the same digits wherever it is shown. Parts of
a total are rounded so that they add up to the total as it is shown: those with the largest
remainders are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from orchestrator.domain.plain_text import one_line

UNKNOWN = "unknown"
# Before what is known from below only.
AT_LEAST = "≥ "
HOUR_MS = 3_600_000
# Money is counted in whole billionths of its currency.
NANO = 10**9


def show_parts(
    parts: Sequence[int], unit: int, least: int = 2, most: int = 6, digits: int = 4
) -> list[str]:
    """Show whole numbers in a larger unit, and their sum after them, so that it comes out.

    Args:
        parts: Whole numbers of at least 0.
        unit: How many of them make one of what is shown.
        least: At least so many decimals.
        most: At most so many.
        digits: Decimals are chosen so that the sum has about so many digits.
    """
    total = sum(parts)
    size = math.floor(math.log10(total / unit)) if total else 0
    decimals = max(least, min(most, digits - 1 - size))
    scale = 10**decimals
    shown_total = (total * scale + unit // 2) // unit
    floors = [part * scale // unit for part in parts]
    short = shown_total - sum(floors)
    # Of equal remainders the first rows get it, so that the same sweep shows the same numbers.
    by_remainder = sorted(range(len(parts)), key=lambda i: (-(parts[i] * scale % unit), i))
    for index in by_remainder[:short]:
        floors[index] += 1
    return [f"{value // scale:,}.{value % scale:0{decimals}d}" for value in [*floors, shown_total]]


def show_money_parts(parts: Sequence[int]) -> list[str]:
    """Show billionths of a currency and their sum; more than two decimals only of small change."""
    return show_parts(parts, NANO, least=2, most=6, digits=3)


def show_money(cost: Mapping[str, float]) -> str:
    """Show amounts of money as one text; empty without any."""
    shown = []
    for currency, amount in cost.items():
        text = show_money_parts([max(0, round(amount * NANO))])[-1]
        shown.append(f"{text} {one_line(currency, 12)}".strip())
    return " + ".join(shown)


def show_hours(device_ms: float) -> str:
    """Show milliseconds as hours, with about four digits."""
    return show_parts([round(device_ms)], HOUR_MS, 1)[-1]


def show_rate(rate: float) -> str:
    """Show a number of at least 0 with three digits, or all before its point; no exponents."""
    if not 0 < rate < 999.5:
        return f"{rate:,.0f}"
    text = f"{rate:.3g}"
    return text if "e" not in text else f"{rate:.{2 - math.floor(math.log10(rate))}f}"


def at_least(is_at_least: bool, text: str) -> str:
    """Mark what is known from below only; at least nothing is nothing known."""
    if not is_at_least or text == UNKNOWN:
        return text
    return f"{AT_LEAST}{text}" if any(digit in text for digit in "123456789") else UNKNOWN

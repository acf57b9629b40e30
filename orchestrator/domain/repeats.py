"""The mean over a configuration's repeats, and how far it can be trusted.

Pure: numbers in, numbers out. Does not decide which trials are repeats of one another, nor which
count. Called by ``leaderboard``; runs on the login node.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from decimal import Context, Decimal

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom: scipy 1.17,
# stats.t.ppf(0.975, df); as in the NIST/SEMATECH e-Handbook, 1.3.6.7.2.
_T95 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157,
    2.228139, 2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922,
    2.093024, 2.085963, 2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831,
    2.048407, 2.045230, 2.042272,
)  # fmt: skip
_Z95 = 1.959963985
# More digits than any sum of a few floats of like size has.
_EXACT = Context(prec=60)


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, the deviation estimated from the values.

    The error is NaN for a single value, and exactly 0 for equal ones; the mean is infinite if the
    sums overflow. The order of the values does not matter, and equal sums of decimals have equal
    means: 38.111 / 3, whatever values make it up, is one number, and shares one rank.
    """
    n = len(values)
    if n > 1 and min(values) == max(values):
        return values[0], 0.0
    try:
        if n < 2:
            return float(values[0]), math.nan
        mean = _decimal_mean(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    except OverflowError:
        return math.inf, math.nan
    return mean, math.sqrt(variance / n)


def _decimal_mean(values: Sequence[float]) -> float:
    """Return the mean of decimal numbers, as programs spell them, rounded once, to a float."""
    total = functools.reduce(_EXACT.add, map(Decimal, map(repr, map(float, values))))
    return float(_EXACT.divide(total, Decimal(len(values))))


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % confidence interval; see ``mean_error``."""
    mean, error = mean_error(values)
    return mean, (student_t95(len(values) - 1) * error if len(values) > 1 else math.nan)


def student_t95(df: float) -> float:
    """Return the two-sided 95 % point of Student's t; up to 30 ``df`` is whole, and at least 1.

    Beyond 30 by its expansion around the normal's (Abramowitz & Stegun 26.7.5, four terms), whose
    error is below 1e-6 there.
    """
    if df <= len(_T95):
        return _T95[int(df) - 1]
    z, v = _Z95, float(df)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )

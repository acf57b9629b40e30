"""Whether a parameter's values lie on a logarithmic scale. Pure; numbers in, an answer out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

# Below one decade a logarithm changes next to nothing.
_LEAST_RATIO = 10.0


def is_logarithmic(values: Iterable[float]) -> bool:
    """Tell whether numbers are spread by their logarithm rather than by their value.

    They are if all are above 0, the largest is at least ten times the smallest, and the middle one
    (the median of the distinct values) lies nearer to the middle of the range in the logarithm
    than to the middle of the range itself: so of 1e-5, 1e-4, 1e-3, and of a log-uniform draw, but
    not of a uniform draw from 0.01 to 1, nor of 16, 32, 64.
    """
    found = sorted({float(value) for value in values})
    if len(found) < 3 or found[0] <= 0 or not found[-1] >= _LEAST_RATIO * found[0]:
        return False
    low, high = math.log(found[0]), math.log(found[-1])
    if not math.isfinite(high):
        return False
    middle = statistics.median(found)
    in_log = (math.log(middle) - low) / (high - low)
    plain = (middle - found[0]) / (found[-1] - found[0])
    return abs(in_log - 0.5) < abs(plain - 0.5)

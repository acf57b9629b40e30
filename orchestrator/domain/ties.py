"""Which configurations their repeats cannot tell apart.

Pure: means, standard errors and counts in, positions out. Called by ``ranking``; runs on the login
node.

Two configurations are **tied** while the 95 % interval of the difference of their means contains
0: Welch's t-interval (Biometrika 34, 1947), which takes repeats as independent and normal and the
two variances as different, with the degrees of freedom of Welch and Satterthwaite. Each
configuration is given the best one that it is tied with. What this is, and is not:

- *Paired intervals are not used*, even where two configurations ran the same seeds. With n repeats
  a pair leaves n - 1 degrees of freedom for Welch's 2n - 2: at n = 3 that is narrower only if the
  seeds move both configurations alike with a correlation above 1 - (2.776 / 4.303)^2 = 0.58. The
  same seed shuffles data of another batch size in another way, so that is seldom so; and taking
  the narrower of two intervals after looking at both is no 95 % interval any more.
- *One at a time*: the best of many is picked because it looks best, so among many equal
  configurations more than 5 % of the others look worse than it by chance. Nothing is corrected for
  that: a tie is a warning, its absence no proof. ``make confirm`` measures anew.
- *Few repeats, wide intervals*: with two repeats each nearly everything is tied.
- *A single repeat has no interval*, so it cannot be told from anything: it is tied with the first,
  and all are tied with it where it is the first; otherwise nothing is tied to it.
- *Repeats that are all equal* have the error 0: the slightest difference tells two of them apart.
- Being tied is no equivalence: A with B and B with C does not make A tied with C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from orchestrator.domain.repeats import student_t95

# From so many degrees of freedom on the expansion in student_t95 is exact to 1e-6, also between
# whole ones; below, the quantile is a convex function of 1/df, given at these points.
_LARGE = 30
_INVERSE = np.array([1 / df for df in range(_LARGE, 0, -1)])
_T95 = np.array([student_t95(df) for df in range(_LARGE, 0, -1)])
_NARROWEST = 1.959963984
_BLOCK = 64
_SLOPES = np.diff(_T95) / np.diff(_INVERSE)


class Estimate(NamedTuple):
    """What the repeats of one configuration say of its mean."""

    mean: float
    """Over its repeats; finite."""
    error: float
    """Standard error of the mean; NaN for a single repeat."""
    n: int
    """Repeats."""


def find_ties(estimates: Sequence[Estimate]) -> list[int]:
    """Return for each configuration the position of the best one that it is tied with.

    Args:
        estimates: In the order of their ranks, the best first.

    Returns:
        Positions in ``estimates``; its own for a configuration that is told from all before it.
    """
    counts = np.array([one.n for one in estimates], np.int64)
    if len(counts) and counts[0] < 2:
        return [0] * len(counts)
    means = np.array([one.mean for one in estimates], np.float64)
    errors = np.array([one.error for one in estimates], np.float64)
    ties = np.arange(len(counts))
    ties[counts < 2] = 0
    rest = several = np.flatnonzero(counts > 1)
    # No interval is wider: what is farther away than that need not be looked at more closely.
    farthest = student_t95(int(counts[several].min()) - 1) * 1.0001 if len(several) else 0.0
    reach = farthest * errors
    for start in range(0, len(several), _BLOCK):
        bests = several[start : start + _BLOCK]
        rest = rest[rest > bests[0]]  # not yet tied with one before them
        low, high = means[bests].min(), means[bests].max()
        beyond = np.maximum(low - means[rest], means[rest] - high)
        near = rest[beyond <= reach[rest] + reach[bests].max()]
        gaps = np.abs(means[near] - means[bests, None])
        which, whom = np.nonzero(gaps <= reach[near] + reach[bests, None])
        a, b = bests[which], near[whom]
        a, b = a[a < b], b[a < b]
        is_tied = ~_differ(np.abs(means[b] - means[a]), errors[a], errors[b], counts[a], counts[b])
        tied, first = np.unique(b[is_tied], return_index=True)
        ties[tied] = a[is_tied][first]  # pairs stand in the order of the better one
        rest = rest[~np.isin(rest, tied)]
    found: list[int] = ties.tolist()
    return found


def are_tied(a: Estimate, b: Estimate) -> bool:
    """Tell whether the 95 % interval of the difference of two means contains 0."""
    return find_ties([a, b]) == [0, 0]


def _differ(gaps: Any, errors: Any, others: Any, counts: Any, other_counts: Any) -> Any:
    """Tell which gaps between two means are larger than the 95 % half width of their difference."""
    both = np.hypot(errors, others)
    differ = gaps > _NARROWEST * both  # also exact where the repeats of both are all equal
    some = np.flatnonzero(differ & (both > 0))
    if not len(some):
        return differ
    with np.errstate(over="ignore"):
        t = gaps[some] / both[some]
    share = (errors[some] / both[some]) ** 2
    freedom = 1 / (share**2 / (counts[some] - 1) + (1 - share) ** 2 / (other_counts[some] - 1))
    low, high = _bracket_t95(freedom)
    differ[some] = t > high
    for place in np.flatnonzero((t > low) & (t <= high)):
        differ[some[place]] = _is_beyond(float(t[place]), float(freedom[place]))
    return differ


def _bracket_t95(freedom: Any) -> tuple[Any, Any]:
    """Return bounds of the quantile: chords of a convex function, and their neighbours' ends."""
    inverse = 1 / freedom
    high = np.interp(inverse, _INVERSE, _T95)
    left = np.clip(np.searchsorted(_INVERSE, inverse, "right") - 1, 0, _LARGE - 2)
    below, above = np.maximum(left - 1, 0), np.minimum(left + 1, _LARGE - 2)
    low = np.maximum(
        np.where(left > 0, _T95[left] + _SLOPES[below] * (inverse - _INVERSE[left]), 0),
        np.where(
            left < _LARGE - 2,
            _T95[left + 1] - _SLOPES[above] * (_INVERSE[left + 1] - inverse),
            0,
        ),
    )
    return np.where(inverse < _INVERSE[0], _NARROWEST, low - 1e-6), high + 1e-6


def _is_beyond(t: float, df: float) -> bool:
    """Tell whether t > 0 is outside the central 95 % of Student's t with ``df`` >= 1, any real."""
    return t > student_t95(df) if df >= _LARGE else two_sided_p(t, df) < 0.05


def two_sided_p(t: float, df: float) -> float:
    """Return the probability of a Student's t with ``df`` beyond ``t`` on either side.

    The incomplete beta function I_x(df/2, 1/2) at x = df / (df + t^2) (NIST DLMF 8.17), by its
    continued fraction (8.17.22) with Lentz's method.
    """
    a, b, x = df / 2, 0.5, df / (df + t * t)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    fraction = d
    for m in range(1, 200):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return fraction

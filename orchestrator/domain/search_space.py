"""The domains that a parameter may have: what values, drawn how, and which points on a grid.

Pure. A domain turns a number of [0, 1) into a value through its inverse distribution function, so
random and quasi-random samplers share every definition. Distributions and their arguments are
those of Weights & Biases sweeps (wandb/sweeps, ``src/sweeps/params.py``, ``ppf``); differences,
all within rounding: values of a log-uniform range never leave it, and a quantized value is the
decimal that one would write (0.3, not 0.30000000000000004).
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from statistics import NormalDist
from typing import Any, Protocol, TypeAlias

# An inverse distribution function is infinite at 0 and 1; generators do return 0.0.
_SMALLEST_UNIT = 2.0**-54
_LARGEST_UNIT = 1.0 - 2.0**-53
_NORMAL = NormalDist()
# More values than this are no list that anyone searches; it bounds memory.
MAX_VALUES = 1_000_000

Number: TypeAlias = int | float


class Domain(Protocol):
    """What a parameter may be."""

    def from_unit(self, u: float) -> Any:
        """Return the value at quantile ``u`` of [0, 1)."""
        ...

    def grid(self) -> tuple[Any, ...] | None:
        """Return the grid's values in order, or None where a grid would have no end."""
        ...

    def size(self) -> int | None:
        """Return how many values sampling can give, or None for more than can be counted."""
        ...


@dataclass(frozen=True)
class Constant:
    """One value."""

    value: Any
    """Any JSON value."""

    def from_unit(self, u: float) -> Any:
        """Return the value."""
        return self.value

    def grid(self) -> tuple[Any, ...]:
        """Return the value alone."""
        return (self.value,)

    def size(self) -> int:
        """Return 1."""
        return 1


@dataclass(frozen=True)
class Choice:
    """A list of values, each as likely as the others unless probabilities are given."""

    values: tuple[Any, ...]
    """Any JSON values, at least one, none twice."""
    probabilities: tuple[float, ...] | None = None
    """One for each value, adding up to 1; None for equal ones."""
    _bounds: tuple[float, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        if self.probabilities is not None:
            bounds = tuple(itertools.accumulate(self.probabilities))
            object.__setattr__(self, "_bounds", bounds)

    def from_unit(self, u: float) -> Any:
        """Return the value whose share of [0, 1) holds ``u``."""
        if self.probabilities is None:
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        index = bisect.bisect_right(self._bounds, u)
        while index >= len(self.values) or self.probabilities[index] == 0.0:
            index -= 1  # rounding left the sum below u: the last value that can occur
        return self.values[index]

    def grid(self) -> tuple[Any, ...]:
        """Return the values."""
        return self.values

    def size(self) -> int:
        """Return the number of values that can occur."""
        if self.probabilities is None:
            return len(self.values)
        return sum(1 for share in self.probabilities if share > 0.0)


@dataclass(frozen=True)
class IntUniform:
    """Whole numbers from ``low`` to ``high``, both included."""

    low: int
    """Smallest value."""
    high: int
    """Largest value."""

    def from_unit(self, u: float) -> int:
        """Return the number whose share of [0, 1) holds ``u``."""
        n = self.high - self.low + 1
        return self.low + min(int(u * n), n - 1)

    def grid(self) -> tuple[int, ...] | None:
        """Return all of them, as Weights & Biases does; None for more than ``MAX_VALUES``."""
        if self.high - self.low >= MAX_VALUES:
            return None
        return tuple(range(self.low, self.high + 1))

    def size(self) -> int:
        """Return how many there are."""
        return self.high - self.low + 1


class _Continuous:
    """What all continuous domains have in common."""

    def grid(self) -> tuple[Any, ...] | None:
        """Return None: a grid over it would have no end."""
        return None

    def size(self) -> int | None:
        """Return None: its values cannot be counted."""
        return None


@dataclass(frozen=True)
class Uniform(_Continuous):
    """Numbers from ``low`` to ``high``, all equally likely."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    def from_unit(self, u: float) -> float:
        """Return ``low + u (high - low)``."""
        return min(max(self.low + u * (self.high - self.low), self.low), self.high)


@dataclass(frozen=True)
class LogUniform(_Continuous):
    """Numbers whose logarithm is uniform: ``log_uniform``, ``inv_log_uniform`` and ``_values``.

    That log(1/X) is uniform between -b and -a says the same as log(X) between a and b, so the
    inverse ones are the same distributions with other arguments.
    """

    log_low: float
    """Natural logarithm of the smallest value."""
    log_high: float
    """Natural logarithm of the largest value."""
    low: float
    """Smallest value, exactly as given."""
    high: float
    """Largest value, exactly as given."""

    def from_unit(self, u: float) -> float:
        """Return ``exp(log_low + u (log_high - log_low))``."""
        value = math.exp(self.log_low + u * (self.log_high - self.log_low))
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Normal(_Continuous):
    """A normal distribution."""

    mu: float = 0.0
    """Mean."""
    sigma: float = 1.0
    """Standard deviation; 0 makes it a constant."""

    def from_unit(self, u: float) -> float:
        """Return the quantile; ``u`` is kept off 0 and 1, where it is infinite."""
        return self.mu + self.sigma * _normal_quantile(u)


@dataclass(frozen=True)
class LogNormal(_Continuous):
    """Numbers whose natural logarithm is normal."""

    mu: float = 0.0
    """Mean of the logarithm."""
    sigma: float = 1.0
    """Standard deviation of the logarithm."""

    def from_unit(self, u: float) -> float:
        """Return ``exp`` of the normal quantile."""
        return math.exp(self.mu + self.sigma * _normal_quantile(u))


@dataclass(frozen=True)
class Beta(_Continuous):
    """A beta distribution on [0, 1]."""

    a: float = 1.0
    """First shape parameter, above 0."""
    b: float = 1.0
    """Second shape parameter, above 0."""

    def from_unit(self, u: float) -> float:
        """Return the quantile."""
        # Lazy: scipy takes 0.1 s to import, and only beta distributions need it here.
        from scipy.special import betaincinv

        return float(betaincinv(self.a, self.b, u))


@dataclass(frozen=True)
class Quantized:
    """``round(X / q) q`` of another domain's X."""

    inner: Domain
    """The domain of X."""
    q: Number
    """Step; whole numbers come out when it is one."""
    grid_values: tuple[Any, ...] | None = None
    """Points on a grid: for ``q_uniform`` those of Weights & Biases, which leave out ``max``."""

    def from_unit(self, u: float) -> Number:
        """Return the quantized quantile; halves go to the even multiple."""
        return multiple(round(self.inner.from_unit(u) / self.q), self.q)

    def grid(self) -> tuple[Any, ...] | None:
        """Return the grid's points, if the distribution has them."""
        return self.grid_values

    def size(self) -> int | None:
        """Return None unless both ends are known."""
        inner = self.inner
        if not isinstance(inner, (Uniform, LogUniform)):
            return None
        return round(inner.high / self.q) - round(inner.low / self.q) + 1


def _normal_quantile(u: float) -> float:
    return _NORMAL.inv_cdf(min(max(u, _SMALLEST_UNIT), _LARGEST_UNIT))


def multiple(count: int, q: Number) -> Number:
    """Return ``count q`` as the number that one would write, without drift."""
    return count * q if isinstance(q, int) else float(count * Decimal(repr(q)))


def stepped_values(low: Number, high: Number, step: Number, *, closed: bool = True) -> list[Number]:
    """Return ``low, low + step, ...`` up to ``high``, without drift.

    Args:
        low: First value.
        high: Limit.
        step: Above 0.
        closed: Whether ``high`` itself belongs to it.

    Returns:
        Whole numbers if ``low`` and ``step`` are; at most ``MAX_VALUES`` + 1 values.
    """
    first, last, by = _exact(low), _exact(high), _exact(step)
    count = (last - first) // by + 1
    if not closed and first + (count - 1) * by == last:
        count -= 1
    is_whole = isinstance(low, int) and isinstance(step, int)
    values = (first + k * by for k in range(min(int(count), MAX_VALUES + 1)))
    return [int(value) if is_whole else float(value) for value in values]


def spaced_values(low: Number, high: Number, n: int, *, log: bool) -> list[Number]:
    """Return ``n`` values from ``low`` to ``high``, evenly spaced or evenly in the logarithm.

    Both ends are exact. Between whole numbers, evenly spaced values are rounded to whole ones.
    """
    values: list[Number] = [low]
    for k in range(1, n - 1):
        if log:
            exponent = math.log(low) + (math.log(high) - math.log(low)) * k / (n - 1)
            values.append(float(f"{math.exp(exponent):.12g}"))
        else:
            exact = _exact(low) + (_exact(high) - _exact(low)) * Fraction(k, n - 1)
            is_whole = isinstance(low, int) and isinstance(high, int)
            values.append(round(exact) if is_whole else float(exact))
    values.append(high)
    if any(isinstance(value, float) for value in values):
        return [float(value) for value in values]
    return values


def _exact(number: Number) -> Fraction:
    return Fraction(repr(number))

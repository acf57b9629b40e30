"""A parameter's range, ``min`` to ``max``: a distribution, or with ``step`` or ``n`` its values.

Pure. Does not infer the distribution, and does not round to ``q``; both are ``domain_loader``'s,
which calls it on the login node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.domain.search_space import (
    MAX_VALUES,
    Choice,
    Domain,
    IntUniform,
    LogUniform,
    Number,
    Quantized,
    Uniform,
    spaced_values,
    stepped_values,
)
from orchestrator.domain.spec_tree import Node, fail, plain, read_int, read_number, show

# exp() of more than this is no finite number.
MAX_EXPONENT = 700.0

_LOG_VALUES = frozenset({"log_uniform_values", "q_log_uniform_values", "inv_log_uniform_values"})
_EXPONENTS = frozenset({"log_uniform", "q_log_uniform", "inv_log_uniform"})


@dataclass(frozen=True)
class RangeReader:
    """Reads ranges, and hands warnings on."""

    warn: Callable[[Node, str, str], None]
    """Takes a warning's node, key and text."""

    def read(self, node: Node, key: str, kind: str, fields: dict[str, Node]) -> Domain:
        """Read a range.

        Args:
            node: The parameter.
            key: Its dotted key.
            kind: The distribution.
            fields: The parameter's keys; ``min`` and ``max`` are among them.

        Raises:
            SpecError: It is not allowed.
        """
        low = read_number(fields["min"], f"{key}.min")
        high = read_number(fields["max"], f"{key}.max")
        if kind == "int_uniform":
            for name in ("min", "max"):
                if not isinstance(plain(fields[name]), int):
                    raise fail(
                        fields[name],
                        f"{key}.{name}",
                        f"{show(fields[name])} is not allowed with distribution int_uniform; "
                        "use a whole number",
                    )
        if kind in _LOG_VALUES and low <= 0:
            raise fail(
                fields["min"],
                f"{key}.min",
                f"{show(low)} is not allowed with distribution {kind}; use a value > 0",
            )
        if low > high:
            raise fail(
                fields["min"],
                f"{key}.min",
                f"{show(low)} is more than max ({show(high)}); swap them",
            )
        if "step" in fields or "n" in fields:
            return self._points(node, key, kind, fields, low, high)
        if kind == "int_uniform":
            assert isinstance(low, int)
            assert isinstance(high, int)
            return IntUniform(low, high)
        if kind in ("uniform", "q_uniform"):
            return Uniform(float(low), float(high))
        if kind in _EXPONENTS:
            return self._exponents(node, key, kind, low, high)
        domain = LogUniform(math.log(low), math.log(high), float(low), float(high))
        if "log" in fields and isinstance(low, int) and isinstance(high, int):
            return Quantized(domain, 1)
        return domain

    def _exponents(self, node: Node, key: str, kind: str, low: Number, high: Number) -> LogUniform:
        """Read W&B's ``log_uniform``, whose ends are exponents of e."""
        if kind == "inv_log_uniform":
            low, high = -high, -low
        if high > MAX_EXPONENT or low < -MAX_EXPONENT:
            raise fail(
                node,
                key,
                f"min and max of {kind} are exponents of e and reach {show(max(high, -low))}, "
                f"which is no finite number; use {kind}_values to give the values themselves",
            )
        first, last = math.exp(low), math.exp(high)
        self.warn(
            node,
            key,
            f"min and max of {kind} are exponents of e, so values run from {first:.6g} to "
            f"{last:.6g}; use {kind}_values to give the values themselves",
        )
        return LogUniform(float(low), float(high), first, last)

    def _points(
        self, node: Node, key: str, kind: str, fields: dict[str, Node], low: Number, high: Number
    ) -> Domain:
        """Read a range with ``step`` or ``n``: a list of values."""
        if "step" in fields and "n" in fields:
            raise fail(fields["n"], f"{key}.n", "does not go with step; remove one of them")
        if "step" in fields:
            at = fields["step"]
            step = read_number(at, f"{key}.step")
            if step <= 0:
                raise fail(at, f"{key}.step", f"{show(step)} is not allowed; use a number > 0")
            if kind == "int_uniform" and not isinstance(step, int):
                raise fail(
                    at,
                    f"{key}.step",
                    f"{show(step)} is not allowed with distribution int_uniform; "
                    "use a whole number",
                )
            values = stepped_values(low, high, step)
            if len(values) > MAX_VALUES:
                raise fail(
                    at, f"{key}.step", f"gives more than {MAX_VALUES} values; use a larger one"
                )
            return Choice(tuple(values))
        n = read_int(fields["n"], f"{key}.n", 2)
        if n > MAX_VALUES:
            raise fail(
                fields["n"], f"{key}.n", f"{n} is not allowed; use at most {MAX_VALUES} values"
            )
        is_log = kind not in ("uniform", "int_uniform")
        first, last = low, high
        if kind in _EXPONENTS:
            domain = self._exponents(node, key, kind, low, high)
            first, last = domain.low, domain.high
        values = spaced_values(first, last, n, log=is_log)
        if (
            isinstance(low, int)
            and isinstance(high, int)
            and (kind == "int_uniform" or "log" in fields)
        ):
            values = [round(value) for value in values]
        if len(set(values)) < n:
            raise fail(
                fields["n"],
                f"{key}.n",
                f"{show(low)} to {show(high)} does not hold {n} different values; "
                f"use n: {max(2, len(set(values)))} or less",
            )
        return Choice(tuple(values))

"""One parameter's domain: from the tree to one of the types of ``search_space``.

Pure. ``parameter_loader`` calls it. The dialect is Weights & Biases' (schema: wandb/sweeps,
``src/sweeps/config/schema.json``), with bare lists and scalars, ``step``, ``n`` and ``log`` on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.contract.errors import SpecError
from orchestrator.domain.range_loader import MAX_EXPONENT, RangeReader
from orchestrator.domain.search_space import (
    MAX_VALUES,
    Beta,
    Choice,
    Constant,
    Domain,
    LogNormal,
    Normal,
    Number,
    Quantized,
    Uniform,
    stepped_values,
)
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    is_former_boolean,
    nearest,
    or_list,
    plain,
    read_bool,
    read_list,
    read_number,
    show,
)

_RANGE = frozenset({"min", "max"})
# Keys that each distribution takes, and those it needs.
_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "constant": (frozenset({"value"}), frozenset({"value"})),
    "categorical": (frozenset({"values"}), frozenset({"values"})),
    "categorical_w_probabilities": (
        frozenset({"values", "probabilities"}),
        frozenset({"values", "probabilities"}),
    ),
    "int_uniform": (_RANGE | {"step", "n"}, _RANGE),
    "uniform": (_RANGE | {"step", "n"}, _RANGE),
    "q_uniform": (_RANGE | {"q"}, _RANGE),
    "log_uniform": (_RANGE | {"n"}, _RANGE),
    "log_uniform_values": (_RANGE | {"n"}, _RANGE),
    "q_log_uniform": (_RANGE | {"q"}, _RANGE),
    "q_log_uniform_values": (_RANGE | {"q"}, _RANGE),
    "inv_log_uniform": (_RANGE | {"n"}, _RANGE),
    "inv_log_uniform_values": (_RANGE | {"n"}, _RANGE),
    "normal": (frozenset({"mu", "sigma"}), frozenset()),
    "q_normal": (frozenset({"mu", "sigma", "q"}), frozenset()),
    "log_normal": (frozenset({"mu", "sigma"}), frozenset()),
    "q_log_normal": (frozenset({"mu", "sigma", "q"}), frozenset()),
    "beta": (frozenset({"a", "b"}), frozenset()),
    "q_beta": (frozenset({"a", "b", "q"}), frozenset()),
}
DOMAIN_KEYS = (
    "value",
    "values",
    "probabilities",
    "min",
    "max",
    "step",
    "n",
    "log",
    "distribution",
    "q",
    "mu",
    "sigma",
    "a",
    "b",
    "parameters",
    "when",
)


@dataclass(frozen=True)
class DomainReader:
    """Reads domains, and hands warnings on."""

    is_grid: bool
    """Whether every domain needs grid points."""
    warn: Callable[[Node, str, str], None]
    """Takes a warning's node, key and text."""

    def read(self, node: Node, key: str) -> Domain:
        """Read one parameter's domain.

        Raises:
            SpecError: It is not allowed.
        """
        if isinstance(node.value, list):
            return self._choice(node, key)
        if not isinstance(node.value, dict):
            self._check_text(node, key)
            return Constant(node.value)
        fields = self._fields(node, key)
        kind = self._kind(node, key, fields)
        allowed, needed = _KEYS[kind]
        for name, item in fields.items():
            if name not in allowed | {"distribution", "when"} | (
                {"log"} if "min" in fields else set()
            ):
                raise fail(
                    item,
                    f"{key}.{name}",
                    f"does not go with distribution {kind}; remove it, or use "
                    f"{or_list(sorted(allowed))}",
                )
        for name in sorted(needed):
            if name not in fields:
                raise fail(node, key, f"distribution {kind} needs {name}; add {name}: ...")
        domain = self._build(node, key, kind, fields)
        if self.is_grid and domain.grid() is None:
            raise fail(node, key, _grid_remedy(kind))
        if self.is_grid and "probabilities" in fields:
            raise fail(
                fields["probabilities"],
                f"{key}.probabilities",
                "is not allowed with method grid; remove it, or use method: random",
            )
        return domain

    def _fields(self, node: Node, key: str) -> dict[str, Node]:
        assert isinstance(node.value, dict)
        fields = node.value
        for name, item in fields.items():
            if name not in DOMAIN_KEYS:
                hint = nearest(name, DOMAIN_KEYS)
                nest = "" if hint else "to nest parameters, put them below parameters:; "
                allowed = or_list(DOMAIN_KEYS)
                raise fail(item, f"{key}.{name}", f"unknown key; {hint}{nest}use {allowed}")
        return fields

    def _kind(self, node: Node, key: str, fields: dict[str, Node]) -> str:
        """Return the distribution, inferred from the keys as Weights & Biases does."""
        is_log = "log" in fields and read_bool(fields["log"], f"{key}.log")
        if "distribution" in fields:
            at = fields["distribution"]
            kind = at.value
            if not isinstance(kind, str) or kind not in _KEYS:
                hint = nearest(str(kind), _KEYS)
                raise fail(
                    at,
                    f"{key}.distribution",
                    f"{show(at)} is not allowed; {hint}use {or_list(_KEYS)}",
                )
            if is_log:
                raise fail(
                    fields["log"], f"{key}.log", f"does not go with distribution {kind}; remove it"
                )
            if kind == "categorical" and "probabilities" in fields:
                return "categorical_w_probabilities"
            return kind
        if "values" in fields:
            return "categorical_w_probabilities" if "probabilities" in fields else "categorical"
        if "value" in fields:
            return "constant"
        if is_log:
            return "log_uniform_values"
        ends = [fields[name] for name in ("min", "max") if name in fields]
        if not ends:
            raise fail(
                node,
                key,
                "has neither value, values nor min and max; "
                "write a value, a list [a, b], or {min: a, max: b}",
            )
        whole = all(isinstance(plain(end), int) for end in ends)
        step = fields.get("step")
        if step is not None and isinstance(step.value, float):
            whole = False
        return "int_uniform" if whole else "uniform"

    def _build(self, node: Node, key: str, kind: str, fields: dict[str, Node]) -> Domain:
        if kind == "constant":
            self._check_text(fields["value"], key)
            return Constant(plain(fields["value"]))
        if kind.startswith("categorical"):
            return self._choice(fields["values"], f"{key}.values", fields.get("probabilities"), key)
        if "normal" in kind or "beta" in kind:
            domain = _shape(key, kind, fields)
        else:
            domain = RangeReader(self.warn).read(node, key, kind, fields)
        if not kind.startswith("q_"):
            return domain
        q: Number = 1.0
        if "q" in fields:
            q = read_number(fields["q"], f"{key}.q")
            if q <= 0:
                raise fail(fields["q"], f"{key}.q", f"{show(q)} is not allowed; use a number > 0")
        if kind == "q_uniform":
            return self._q_uniform(node, key, domain, q)
        return Quantized(domain, q)

    def _q_uniform(self, node: Node, key: str, domain: Domain, q: Number) -> Domain:
        assert isinstance(domain, Uniform)
        assert isinstance(node.value, dict)
        low, high = plain(node.value["min"]), plain(node.value["max"])
        points = tuple(stepped_values(low, high, q, closed=low == high))
        if self.is_grid:
            if len(points) > MAX_VALUES:
                raise fail(node, key, f"has more than {MAX_VALUES} values; use a larger q")
            self.warn(
                node,
                key,
                f"a grid of q_uniform leaves out max ({show(high)}), as Weights & Biases does; "
                "use step in place of q and distribution to have it",
            )
        return Quantized(domain, q, points)

    def _choice(
        self, node: Node, key: str, shares: Node | None = None, parent_key: str = ""
    ) -> Domain:
        items = read_list(node, key)
        if not items:
            raise fail(node, key, "is empty; list at least one value")
        seen: set[str] = set()
        values = []
        for item in items:
            self._check_text(item, key)
            value = plain(item)
            mark = f"{type(value).__name__} {value!r}"
            if mark not in seen:
                values.append(value)
            elif shares is not None:
                raise fail(item, key, f"{show(value)} stands twice; add its probabilities up")
            else:
                self.warn(item, key, f"{show(value)} stands twice; it counts once")
            seen.add(mark)
        if shares is None:
            return Choice(tuple(values))
        return Choice(tuple(values), _probabilities(shares, parent_key, len(values)))

    def _check_text(self, node: Node, key: str) -> None:
        """Warn of values that a YAML 1.1 reader, such as Weights & Biases, takes for booleans."""
        if is_former_boolean(node):
            self.warn(
                node,
                key,
                f"{node.text} is text here, not a boolean; write true or false, or '{node.text}'",
            )


def _shape(key: str, kind: str, fields: dict[str, Node]) -> Domain:
    """Read a distribution given by its shape and not by its ends."""
    numbers = {
        name: float(read_number(item, f"{key}.{name}"))
        for name, item in fields.items()
        if name in ("mu", "sigma", "a", "b")
    }
    if "beta" in kind:
        for name in ("a", "b"):
            if numbers.get(name, 1.0) <= 0.0:
                raise _too_small(fields, key, name, "a number > 0")
        return Beta(**numbers)
    if numbers.get("sigma", 1.0) < 0.0:
        raise _too_small(fields, key, "sigma", "0 or a number > 0")
    if "log" not in kind:
        return Normal(**numbers)
    domain = LogNormal(**numbers)
    # The largest quantile that a generator reaches is 8.3 sigma.
    if abs(domain.mu) + 9.0 * domain.sigma > MAX_EXPONENT:
        at = next(fields[name] for name in ("sigma", "mu") if name in fields)
        raise fail(
            at,
            key,
            "mu and sigma of log_normal are those of the logarithm, and reach numbers that are "
            "not finite; use smaller ones",
        )
    return domain


def _too_small(fields: dict[str, Node], key: str, name: str, allowed: str) -> SpecError:
    node = fields[name]
    return fail(node, f"{key}.{name}", f"{show(node)} is not allowed; use {allowed}")


def _probabilities(node: Node, key: str, n_values: int) -> tuple[float, ...]:
    full = f"{key}.probabilities"
    shares = [float(read_number(item, full)) for item in read_list(node, full)]
    if len(shares) != n_values:
        raise fail(
            node, full, f"has {len(shares)} numbers for {n_values} values; give one for each"
        )
    if any(share < 0.0 for share in shares):
        raise fail(node, full, "has a number below 0; use numbers from 0 to 1")
    if abs(sum(shares) - 1.0) > 1e-6:
        raise fail(node, full, f"add up to {sum(shares):.6g}; make them add up to 1")
    return tuple(shares)


def _grid_remedy(kind: str) -> str:
    if kind == "int_uniform":
        return (
            f"distribution {kind} has no grid points: more than {MAX_VALUES} values; add step or n"
        )
    if kind in ("uniform", "log_uniform_values", "log_uniform"):
        extra = " step or" if kind == "uniform" else ""
        return (
            f"distribution {kind} has no grid points; list values, add{extra} n: 5, "
            "or use method: random"
        )
    return f"distribution {kind} has no grid points; list values, or use method: random"

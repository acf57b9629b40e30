"""What a spec says about parameters together: ``when``, ``zip``, ``where``, ``derived``, ``seeds``.

Pure. ``spec_loader`` calls it, once the parameters themselves are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.expressions import Expression, compile_expression
from orchestrator.domain.parameter_loader import RawParameter, check_name
from orchestrator.domain.search_space import Choice, Constant
from orchestrator.domain.spec import Derived, Parameter
from orchestrator.domain.spec_tree import (
    COMMAND_LINE,
    Node,
    fail,
    nearest,
    read_int,
    read_list,
    read_mapping,
    read_text,
    show,
)

MAX_SEEDS = 10_000


@dataclass(frozen=True)
class RelationReader:
    """Reads one spec's relations."""

    fields: Mapping[str, Node]
    """The spec's keys."""
    raw: Mapping[str, RawParameter]
    """Its parameters by dotted name."""

    def parameters(self) -> tuple[Parameter, ...]:
        """Return the parameters with their conditions.

        Raises:
            SpecError: A condition is no expression of parameters.
        """
        known = list(self.raw)
        return tuple(
            Parameter(
                item.name,
                item.path,
                item.domain,
                tuple(self.expression(node, key, known) for key, node in item.when),
            )
            for item in self.raw.values()
        )

    def expression(self, node: Node, key: str, known: Sequence[str]) -> Expression:
        """Read an expression over the known names.

        Raises:
            SpecError: It is not one.
        """
        source = node.text if isinstance(node.value, (bool, int, float)) else node.value
        if not isinstance(source, str) or not source.strip():
            raise fail(node, key, f"{show(node)} is no expression; write one, such as x > 0")
        place = fail(node, key, "")
        return compile_expression(
            source, known=known, key=place.key, file=node.file, line=node.line
        )

    def where(
        self, names: Sequence[str], derived: Sequence[Derived], has_seeds: bool
    ) -> tuple[Expression, ...]:
        """Return the filters; they may use parameters and what is derived from those.

        Raises:
            SpecError: Not an expression, or it depends on the seed.
        """
        node = self.fields.get("where")
        if node is None:
            return ()
        items = node.value if isinstance(node.value, list) else [node]
        by_seed = seed_dependent(derived) if has_seeds else set()
        allowed = [name for name in names if name not in by_seed]
        found = []
        for item in items:
            expression = self.expression(item, "where", [*names, *(["seed"] if has_seeds else [])])
            bad = sorted(expression.names - set(allowed))
            if bad:
                raise fail(
                    item,
                    "where",
                    f"uses {bad[0]}, which differs between the repeats of one combination; "
                    "filter by parameters, or make seed a parameter",
                )
            found.append(expression)
        return tuple(found)

    def derived(self, has_seeds: bool) -> tuple[Derived, ...]:
        """Return the derived parameters; each may use those before it.

        Raises:
            SpecError: A name that is taken, or not an expression.
        """
        node = self.fields.get("derived")
        if node is None:
            return ()
        known = [*self.raw, *(["seed"] if has_seeds else [])]
        found = []
        for name, item in read_mapping(node, "derived").items():
            key = f"derived.{name}"
            check_name(item, key, name)
            if name in known:
                raise fail(item, key, f"{name} is also a parameter; rename one of them")
            if isinstance(item.value, (dict, list)):
                raise fail(
                    item, key, f"{show(item)} is no expression; write one, such as 'lr * 10'"
                )
            found.append(Derived(name, self.expression(item, key, known)))
            known.append(name)
        return tuple(found)

    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of the repeats; ``seeds: 3`` means 0, 1 and 2.

        Raises:
            SpecError: None, too many, or ``seed`` is a parameter too.
        """
        node = self.fields.get("seeds")
        if node is None:
            return ()
        if "seed" in self.raw:
            raise fail(
                node,
                "seeds",
                "adds a parameter seed, but parameters has one too; remove seeds or "
                "parameters.seed",
            )
        if not isinstance(node.value, list):
            n = read_int(node, "seeds", 1)
            if n > MAX_SEEDS:
                raise fail(node, "seeds", f"{n} repeats are too many; use at most {MAX_SEEDS}")
            return tuple(range(n))
        found = [read_int(item, "seeds", 0) for item in node.value]
        if not found:
            raise fail(node, "seeds", "is empty; list at least one, or write how many")
        if len(set(found)) < len(found):
            raise fail(node, "seeds", f"{show(node)} has a number twice; list each once")
        return tuple(found)

    def zips(self) -> tuple[tuple[str, ...], ...]:
        """Return the groups of parameters that advance together.

        Raises:
            SpecError: No such parameter, one in two groups, or lists of different lengths.
        """
        node = self.fields.get("zip")
        if node is None:
            return ()
        groups = read_list(node, "zip")
        if groups and not any(isinstance(item.value, list) for item in groups):
            groups = [node]  # one group, written without the outer list
        taken: set[str] = set()
        found = []
        for group in groups:
            names = [read_text(item, "zip", "[[a, b]]") for item in read_list(group, "zip")]
            if len(names) < 2:
                raise fail(group, "zip", f"{show(group)} needs two parameters or more; add one")
            for name in names:
                self._check_zipped(group, name, taken)
                taken.add(name)
            sizes = {name: len(self.raw[name].domain.grid() or ()) for name in names}
            if len(set(sizes.values())) > 1:
                words = ", ".join(f"{name} has {size} values" for name, size in sizes.items())
                nodes = [self.raw[name].node for name in names]
                at = next((n for n in nodes if n.file == COMMAND_LINE), group)
                raise fail(at, "zip", f"{words}; give all of them as many")
            found.append(tuple(names))
        return tuple(found)

    def _check_zipped(self, node: Node, name: str, taken: set[str]) -> None:
        if name not in self.raw:
            hint = nearest(name, self.raw)
            known = ", ".join(self.raw)
            raise fail(node, "zip", f"no parameter {name}; {hint}known: {known}")
        if name in taken:
            raise fail(node, "zip", f"{name} stands twice; put it into one group, once")
        domain = self.raw[name].domain
        if isinstance(domain, Choice) and domain.probabilities is not None:
            raise fail(node, "zip", f"{name} has probabilities; remove them, or zip without it")
        if domain.grid() is None or isinstance(domain, Constant):
            raise fail(node, "zip", f"{name} is no list of values; list its values, or take it out")


def seed_dependent(derived: Sequence[Derived], seed: str = "seed") -> set[str]:
    """Return the names of what differs between repeats: the seed, and what is derived from it."""
    found = {seed}
    for item in derived:
        if item.expression.names & found:
            found.add(item.name)
    return found

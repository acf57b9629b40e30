"""The ``parameters:`` of a spec: names, groups and conditions; ``domain_loader`` reads the domains.

Pure. ``spec_loader`` calls it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrator.domain.domain_loader import DomainReader
from orchestrator.domain.search_space import Domain
from orchestrator.domain.spec_tree import Node, fail, read_mapping, show

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class RawParameter:
    """A parameter whose conditions are not compiled yet, for they may name any other parameter."""

    name: str
    """Dotted name."""
    path: tuple[str, ...]
    """Keys in the parameters that the program reads."""
    domain: Domain
    """What it may be."""
    node: Node
    """Where it stands."""
    when: tuple[tuple[str, Node], ...] = ()
    """Key and node of its conditions, the outermost group's first."""


@dataclass
class ParameterReader:
    """Reads ``parameters:`` and gathers what it finds."""

    domains: DomainReader
    """Reads each domain."""
    found: dict[str, RawParameter] = field(default_factory=dict)
    """By dotted name, in order."""

    def read(
        self,
        node: Node,
        key: str = "parameters",
        path: tuple[str, ...] = (),
        when: tuple[tuple[str, Node], ...] = (),
    ) -> None:
        """Read a ``parameters:`` mapping, and the groups within it.

        Raises:
            SpecError: A name or a domain that is not allowed.
        """
        if isinstance(node.value, dict) and not node.value:
            raise fail(node, key, "is empty; name at least one parameter")
        for name, item in read_mapping(node, key).items():
            full, inner_path = f"{key}.{name}", (*path, name)
            check_name(item, full, name)
            conditions = when
            if isinstance(item.value, dict) and "when" in item.value:
                conditions = (*when, (f"{full}.when", item.value["when"]))
            if isinstance(item.value, dict) and "parameters" in item.value:
                read_mapping(item, full, ("parameters", "when"))
                self.read(item.value["parameters"], full, inner_path, conditions)
                continue
            dotted = ".".join(inner_path)
            if dotted in self.found:
                other = self.found[dotted].node.line
                where = f" in line {other}" if other is not None else ""
                raise fail(item, full, f"has the same name as {dotted}{where}; rename one of them")
            domain = self.domains.read(item, full)
            self.found[dotted] = RawParameter(dotted, inner_path, domain, item, conditions)


def check_name(node: Node, key: str, name: str) -> None:
    """Refuse a name that cannot become ``--name=value``.

    Raises:
        SpecError: With what a name may hold.
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise fail(
            node,
            key,
            f"{show(name)} is no parameter name, for it becomes --name=value; use a letter or _, "
            "then letters, digits, _ - and single dots, at most 100",
        )

"""``partition:`` of a spec: a name, several in order, or an expression. Pure.

``spec_loader`` calls it. The forms::

    partition: spot                                     one profile
    partition: [spot, ondemand]                         several, the preferred one first
    partition: {order: [spot, ondemand], after_preemptions: 3, after_waiting_min: 120}
    partition: "'spot' if gpus <= 2 else 'ondemand'"    an expression; it has quotes, a name has not
    partition: {expression: pool}                       likewise, without quotes
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.domain.expressions import Expression
from orchestrator.domain.placement import Placement
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    read_int,
    read_list,
    read_mapping,
    read_number,
    read_text,
    show,
)

ReadExpression = Callable[[Node, str], Expression]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KEYS = ("order", "after_preemptions", "after_waiting_min", "expression")


@dataclass(frozen=True)
class PartitionSpec:
    """What ``partition:`` says."""

    partition: str | None = None
    """The one profile, or the first of several."""
    placement: Placement | None = None
    """Several in order."""
    expression: Expression | None = None
    """Gives each trial its profile."""


def read_partition(node: Node, key: str, read_expression: ReadExpression) -> PartitionSpec:
    """Read ``partition:``.

    Raises:
        SpecError: None of its forms, or a name that cannot be one.
    """
    if isinstance(node.value, list):
        return _several(Placement(_read_order(node, key)))
    if isinstance(node.value, dict):
        return _read_mapping(node, key, read_expression)
    text = read_text(node, key, "gpu")
    if any(mark in text for mark in ("'", '"', "{{")):
        return PartitionSpec(expression=read_expression(node, key))
    return PartitionSpec(_check_name(text, node, key))


def _read_mapping(node: Node, key: str, read_expression: ReadExpression) -> PartitionSpec:
    fields = read_mapping(node, key, _KEYS)
    if "expression" in fields:
        if len(fields) > 1:
            raise fail(node, key, "has an expression and more; an expression stands alone")
        full = f"{key}.expression"
        return PartitionSpec(expression=read_expression(fields["expression"], full))
    if "order" not in fields:
        raise fail(node, key, "has no order; write partition: {order: [spot, ondemand]}")
    default = Placement(())
    n_preemptions, waiting_min = default.after_preemptions, default.after_waiting_min
    if (item := fields.get("after_preemptions")) is not None:
        n_preemptions = read_int(item, f"{key}.after_preemptions", 0)
    if (item := fields.get("after_waiting_min")) is not None and item.value is not None:
        full = f"{key}.after_waiting_min"
        waiting_min = float(read_number(item, full))
        if not 0 < waiting_min < 1e6:
            raise fail(item, full, f"{show(item)} is not allowed; use minutes, such as 120")
    order = _read_order(fields["order"], f"{key}.order")
    return _several(Placement(order, n_preemptions, waiting_min))


def _several(placement: Placement) -> PartitionSpec:
    return PartitionSpec(placement.order[0], placement)


def _read_order(node: Node, key: str) -> tuple[str, ...]:
    names: list[str] = []
    for item in read_list(node, key):
        name = _check_name(read_text(item, key, "spot"), item, key)
        if name in names:
            raise fail(item, key, f"{show(name)} stands there twice; name each partition once")
        names.append(name)
    if not names:
        raise fail(node, key, "is empty; name at least one partition, such as [spot, ondemand]")
    return tuple(names)


def _check_name(name: str, node: Node, key: str) -> str:
    if not _NAME.fullmatch(name):
        raise fail(
            node,
            key,
            f"{show(name)} is no partition; use letters, digits, '.', '_' and '-'",
        )
    return name

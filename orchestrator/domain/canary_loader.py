"""``canary:`` of a spec: which trials run before the rest. Pure; ``spec_loader`` calls it."""

from __future__ import annotations

from typing import Any

from orchestrator.domain.canary import CHECKPOINTS, Canary
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    or_list,
    read_bool,
    read_int,
    read_mapping,
    show,
)

_KEYS = ("trials", "each_shape", "checkpoint")


def read_canary(node: Node, key: str) -> Canary | None:
    """Read ``canary: 1``, ``canary: {each_shape: true}`` and the like; 0 and false turn it off.

    Raises:
        SpecError: An unknown key, or a value that is not allowed.
    """
    if node.value is False or node.value is None:
        return None
    if not isinstance(node.value, dict):
        if isinstance(node.value, bool) or not isinstance(node.value, int) or node.value < 0:
            raise fail(
                node,
                key,
                f"{show(node)} is not allowed; use a number of trials, such as 1 (0: no canary), "
                f"or a mapping with {or_list(_KEYS)}",
            )
        return Canary(node.value) if node.value else None
    values: dict[str, Any] = {}
    for name, item in read_mapping(node, key, _KEYS).items():
        full = f"{key}.{name}"
        if name == "trials":
            values[name] = read_int(item, full, 0)
        elif name == "each_shape":
            values[name] = read_bool(item, full)
        else:
            values[name] = _read_checkpoint(item, full)
    canary = Canary(**values)
    return canary if canary.trials else None


def _read_checkpoint(node: Node, key: str) -> str:
    if node.value is True:
        return CHECKPOINTS[0]
    if node.value is False:
        return CHECKPOINTS[-1]
    if node.value == "periodic":
        return "periodic"
    raise fail(
        node,
        key,
        f"{show(node)} is not allowed; use true (it saves when it is told to stop), periodic "
        "(it saves only now and then) or false (it saves nothing)",
    )

"""Reading ``batch:`` of a sweep spec: which parameters make the effective batch. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.domain.spec import BatchNames
from orchestrator.domain.spec_tree import Node, fail, nearest, read_mapping, show

_KEYS = ("per_device", "accumulation", "effective")


def read_batch(node: Node, parameters: Iterable[str]) -> BatchNames:
    """Read ``batch: {per_device: NAME, accumulation: NAME}`` or ``{effective: NAME}``.

    Args:
        node: The value of the key.
        parameters: Dotted names of the sweep's parameters, derived ones included.

    Raises:
        SpecError: An unknown key or parameter, a number under 1, or both ways at once.
    """
    known = list(parameters)
    values: dict[str, Any] = {}
    for key, item in read_mapping(node, "batch", _KEYS).items():
        value: Any = item.value
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if (is_number and value >= 1) or (isinstance(value, str) and value in known):
            values[key] = value
        else:
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise fail(
                item,
                f"batch.{key}",
                f"{show(item)} is not allowed; {hint}use the name of a parameter "
                f"({', '.join(known)}) or a number of at least 1",
            )
    if "effective" in values and len(values) > 1:
        raise fail(node, "batch", "give effective alone, or per_device with accumulation")
    if not {"effective", "per_device"} & set(values):
        raise fail(node, "batch", "names no batch; use per_device: NAME, or effective: NAME")
    return BatchNames(values.get("per_device"), values.get("accumulation"), values.get("effective"))

"""``retry:`` of a spec: how often what is tried again. Pure; ``spec_loader`` calls it."""

from __future__ import annotations

from typing import Any

from orchestrator.domain.retry_policy import RetryLimits
from orchestrator.domain.spec_tree import Node, fail, read_int, read_mapping, read_number, show

_COUNTS = (
    "failures",
    "memory_retries",
    "micro_batch_halvings",
    "launch_failures",
    "same_failure",
    "bad_node_trials",
)
MAX_MEMORY_FACTOR = 16.0


def read_retry(node: Node, key: str) -> RetryLimits:
    """Read ``retry:``; what it does not say keeps its default.

    Raises:
        SpecError: An unknown key, or a value that is not allowed.
    """
    values: dict[str, Any] = {}
    for name, item in read_mapping(node, key, (*_COUNTS, "memory_factor", "hung_min")).items():
        full = f"{key}.{name}"
        if name in _COUNTS:
            values[name] = read_int(item, full, 0)
        elif name == "memory_factor":
            factor = float(read_number(item, full))
            if not 1 < factor <= MAX_MEMORY_FACTOR:
                raise fail(item, full, f"{show(item)} is not allowed; use more than 1, such as 1.5")
            values[name] = factor
        elif item.value is not None:
            minutes = float(read_number(item, full))
            if not minutes > 0:
                raise fail(item, full, f"{show(item)} is not allowed; use minutes, such as 30")
            values[name] = minutes
    return RetryLimits(**values)

"""``resources:`` of a spec: literals, or expressions of a trial's parameters.

Pure. ``spec_loader`` calls it. The rule: for ``gpus cpus mem_gb nodes`` text is an expression, for
``time`` text is an expression unless it has one of Slurm's forms of time, and for ``gpu_type`` and
the values of ``sbatch`` text is taken as it is. ``{{ ... }}`` around a text makes it an expression
everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.domain.expressions import Expression
from orchestrator.domain.resources import check_number, gpu_type, minutes, option_value
from orchestrator.domain.spec import ResourceSpec
from orchestrator.domain.spec_tree import Node, fail, plain, read_mapping, show

ReadExpression = Callable[[Node, str], Expression]

# What an expression for the partition may use beside parameters; a parameter of such a name wins.
RESOURCE_NAMES = ("gpus", "cpus", "mem_gb", "nodes", "time_min")
_KEYS = ("gpus", "gpu_type", "cpus", "mem_gb", "time", "nodes", "sbatch")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_TIME = re.compile(r"[0-9]+(?:-[0-9]+)?(?::[0-9]+){0,3}")
_SIZE = re.compile(r"([0-9.]+)\s*[GgMmTt](?:i?[Bb])?")
# Options that the templates state, and where a spec says them.
_RESERVED = {
    "array": "parameters",
    "chdir": "workdir",
    "cpus-per-task": "resources.cpus",
    "gres": "resources.gpus and gpu_type",
    "job-name": "name",
    "mem": "resources.mem_gb",
    "no-requeue": "requeue",
    "nodes": "resources.nodes",
    "ntasks-per-node": "nothing: it is always 1",
    "open-mode": "nothing: logs are appended to",
    "output": "nothing: each trial has its log",
    "partition": "partition",
    "requeue": "requeue",
    "signal": "the partition's profile",
    "time": "resources.time",
}
# Options of sbatch whose names begin like a reserved one.
_WHOLE = frozenset({"ntasks"})


def read_resources(node: Node, read_expression: ReadExpression) -> ResourceSpec:
    """Read ``resources:``.

    Raises:
        SpecError: An unknown key, or a value that is not allowed.
    """
    values: dict[str, Any] = {}
    for name, item in read_mapping(node, "resources", _KEYS).items():
        key = f"resources.{name}"
        if item.value is None:
            continue
        if name == "sbatch":
            values["sbatch"] = _read_options(item, read_expression)
        elif name == "gpu_type":
            is_expression = _is_marked(item)
            values[name] = (
                read_expression(item, key) if is_expression else gpu_type(plain(item), item, key)
            )
        elif name == "time":
            is_time = isinstance(item.value, str) and _TIME.fullmatch(item.value.strip())
            is_expression = isinstance(item.value, str) and not is_time
            values["time_min"] = (
                read_expression(item, key) if is_expression else minutes(plain(item), item, key)
            )
        else:
            values[name] = _read_number(item, key, name, read_expression)
    return ResourceSpec(**values)


def _read_number(item: Node, key: str, name: str, read_expression: ReadExpression) -> Any:
    if not isinstance(item.value, str):
        return check_number(plain(item), item, key, name)
    if name == "mem_gb" and (size := _SIZE.fullmatch(item.value.strip())):
        raise fail(
            item, key, f"{show(item)} is not allowed; write the number of GB alone: {size[1]}"
        )
    return read_expression(item, key)


def _read_options(
    node: Node, read_expression: ReadExpression
) -> tuple[tuple[str, str | Expression], ...]:
    options: list[tuple[str, str | Expression]] = []
    for name, item in read_mapping(node, "resources.sbatch").items():
        key = f"resources.sbatch.{name}"
        if not _OPTION.fullmatch(name):
            raise fail(
                item, key, "is no long option of sbatch; write its name without dashes before it"
            )
        # sbatch takes `arra` for `array`.
        stated = name if name in _RESERVED else _shortened(name)
        if stated is not None:
            raise fail(item, key, f"is stated already; to change it use {_RESERVED[stated]}")
        if _is_marked(item):
            options.append((name, read_expression(item, key)))
            continue
        value = option_value("" if item.value is None else plain(item), item, key)
        if value is not None:
            options.append((name, value if isinstance(item.value, (bool, str)) else item.text))
    return tuple(options)


def _shortened(name: str) -> str | None:
    """Return the reserved option that a name is a part of, if it is no option itself."""
    if len(name) < 2 or name in _WHOLE:
        return None
    return next((item for item in _RESERVED if item.startswith(name)), None)


def _is_marked(node: Node) -> bool:
    text = node.value
    return isinstance(text, str) and text.strip().startswith("{{") and text.strip().endswith("}}")

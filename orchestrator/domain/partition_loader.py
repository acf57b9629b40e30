"""Reading partition profiles from the text of ``templates/partitions.yaml``. Pure.

Every mistake is one line with file, line and key, like those of a sweep spec.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.contract.errors import UserError
from orchestrator.domain.partition import TIME_FORMS, PartitionProfile, parse_minutes
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    read_bool,
    read_choice,
    read_int,
    read_list,
    read_mapping,
    read_number,
    read_switch,
    read_text,
)
from orchestrator.domain.yaml_composer import parse_tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# sbatch(1): long options only; those that the base template states itself are not repeated.
_OPTION = re.compile(r"[a-z][a-z0-9-]*")


def load_profiles(text: str, *, file: str) -> dict[str, PartitionProfile]:
    """Read all profiles, by name, in the file's order.

    Raises:
        UserError: A mistake in the file, with its line.
    """
    tree = parse_tree(text, file=file)
    if tree is None:
        raise UserError(f"{file}: empty; describe at least one partition")
    profiles: dict[str, PartitionProfile] = {}
    for name, node in read_mapping(tree, "").items():
        if not _NAME.fullmatch(name):
            raise fail(node, name, "not allowed as a name; use letters, digits, '.', '_' and '-'")
        profiles[name] = _read_profile(name, node)
    return profiles


def _read_profile(name: str, node: Node) -> PartitionProfile:
    values: dict[str, Any] = {"slurm_partition": name, "template": f"{name}.sbatch.j2"}
    if node.value is not None:
        for key, item in read_mapping(node, name, _READERS).items():
            place = f"{name}.{key}"
            target = "max_time_min" if key == "max_time" else key
            values[target] = _READERS[key](item, place)
    return PartitionProfile(name=name, **values)


def _text(node: Node, key: str) -> str:
    return read_text(node, key, "'gpu'")


def _positive(node: Node, key: str) -> float:
    value = read_number(node, key)
    if value < 0:
        raise fail(node, key, f"{value} is not allowed; use a number that is not negative")
    return float(value)


def _minutes(node: Node, key: str) -> int:
    try:
        minutes = parse_minutes(str(node.value))
    except ValueError:
        raise fail(node, key, f"{node.text!r} is not a time; use {TIME_FORMS}") from None
    if minutes < 1:
        raise fail(node, key, "a time limit is at least one minute")
    return minutes


def _lines(node: Node, key: str) -> tuple[str, ...]:
    return tuple(_text(item, key) for item in read_list(node, key))


def _options(node: Node, key: str) -> tuple[tuple[str, str], ...]:
    options = []
    for name, item in read_mapping(node, key).items():
        if not _OPTION.fullmatch(name):
            raise fail(item, f"{key}.{name}", "not a long option of sbatch; use its name only")
        options.append((name, "" if item.value is None else str(item.value)))
    return tuple(options)


def _defaults(node: Node, key: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, item in read_mapping(node, key, _DEFAULTS).items():
        target = "time_min" if name == "time" else name
        values[target] = _DEFAULTS[name](item, f"{key}.{name}")
    return values


def _at_least(minimum: int) -> Callable[[Node, str], int]:
    return lambda node, key: read_int(node, key, minimum)


def _layout(node: Node, key: str) -> str:
    return read_choice(node, key, ("step", "batch"))


_DEFAULTS: dict[str, Callable[[Node, str], Any]] = {
    "gpus": _at_least(0),
    "cpus": _at_least(1),
    "mem_gb": _positive,
    "time": _minutes,
    "nodes": _at_least(1),
}
_READERS: dict[str, Callable[[Node, str], Any]] = {
    "slurm_partition": _text,
    "template": _text,
    "layout": _layout,
    "requeue": read_switch,
    "preemptible": read_bool,
    "gpus_per_node": _at_least(0),
    "cpus_per_node": _at_least(1),
    "mem_gb_per_node": _positive,
    "max_time": _minutes,
    "gpu_type": _text,
    "price_per_gpu_hour": _positive,
    "price_per_cpu_hour": _positive,
    "currency": _text,
    "signal_before_end_s": _at_least(0),
    "grace_s": _at_least(0),
    "account": _text,
    "qos": _text,
    "constraint": _text,
    "environment": _lines,
    "sbatch": _options,
    "defaults": _defaults,
}

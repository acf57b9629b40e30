"""Reading partition profiles from the text of ``templates/partitions.yaml``. Pure.

Every mistake is one line with file, line and key, like those of a sweep spec.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.contract.errors import SpecError, UserError
from orchestrator.domain.partition import (
    PYXIS,
    RUNTIMES,
    TIME_FORMS,
    Container,
    OnDemand,
    PartitionProfile,
    parse_minutes,
)
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
    show,
)
from orchestrator.domain.yaml_composer import parse_tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# sbatch(1): long options only; those that the base template states itself are not repeated.
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
# Commas and colons separate mounts, for Apptainer and for pyxis.
_MOUNT = re.compile(r"/[^:,]*(:/[^:,]*(:[a-z+]+)?)?")


def load_profiles(text: str, *, file: str) -> dict[str, PartitionProfile]:
    """Read all profiles, by name, in the file's order.

    Raises:
        UserError: The first mistake in the file, with its line.
    """
    profiles, mistakes = inspect_profiles(text, file=file)
    if mistakes:
        raise mistakes[0]
    return profiles


def inspect_profiles(
    text: str, *, file: str
) -> tuple[dict[str, PartitionProfile], list[SpecError]]:
    """Read the profiles that have no mistake, and all mistakes of the others.

    Raises:
        UserError: The file as a whole is empty, or no YAML.
    """
    tree = parse_tree(text, file=file)
    if tree is None:
        raise UserError(f"{file}: empty; describe at least one partition")
    profiles: dict[str, PartitionProfile] = {}
    mistakes: list[SpecError] = []
    named: dict[str, Node] = {}
    for name, node in read_mapping(tree, "").items():
        if not _NAME.fullmatch(name):
            words = "not allowed as a name; use letters, digits, '.', '_' and '-'"
            mistakes.append(fail(node, name, words))
            continue
        found: list[SpecError] = []
        values = _read_profile(name, node, found)
        if isinstance(values.get("on_demand"), Node):
            named[name] = values.pop("on_demand")
        if not found:
            profiles[name] = PartitionProfile(name=name, **values)
        mistakes += found
    mistakes += _price_by_name(profiles, named)
    return profiles, mistakes


def _price_by_name(
    profiles: dict[str, PartitionProfile], named: Mapping[str, Node]
) -> list[SpecError]:
    """Give the prices of others to profiles that name one with ``on_demand``."""
    mistakes = []
    for name, node in named.items():
        of = profiles.get(str(node.value))
        if name not in profiles:
            continue
        if of is None or of.preemptible or of.name == name:
            rest = ", ".join(key for key, other in profiles.items() if not other.preemptible)
            words = f"{show(str(node.value))} is no partition that is not preemptible"
            mistakes.append(
                fail(node, f"{name}.on_demand", f"{words}; use {rest or '{price_per_gpu_hour: 6}'}")
            )
            continue
        prices = OnDemand(of.price_per_gpu_hour, of.price_per_cpu_hour, of.currency)
        if prices == OnDemand(currency=of.currency):
            words = f"partition {of.name} has no price; give it one, or state prices here"
            mistakes.append(fail(node, f"{name}.on_demand", words))
            continue
        profiles[name] = replace(profiles[name], on_demand=prices)
    return mistakes


def _read_profile(name: str, node: Node, mistakes: list[SpecError]) -> dict[str, Any]:
    values: dict[str, Any] = {"slurm_partition": name, "template": f"{name}.sbatch.j2"}
    values["file"] = node.file
    values["lines"] = {"": node.line or 1}
    if node.value is None:
        return values
    try:
        entries = read_mapping(node, name)
    except SpecError as error:
        mistakes.append(error)
        return values
    for key, item in entries.items():
        try:
            read_mapping(Node({key: item}, node.file, node.line), name, _READERS)
            values["max_time_min" if key == "max_time" else key] = _READERS[key](
                item, f"{name}.{key}"
            )
            values["lines"][key] = item.line
            if isinstance(item.value, dict):
                values["lines"].update({f"{key}.{k}": n.line for k, n in item.value.items()})
        except SpecError as error:
            mistakes.append(error)
    if not mistakes:
        _check_whole(name, entries, values, mistakes)
    return values


def _check_whole(
    name: str, entries: dict[str, Node], values: dict[str, Any], mistakes: list[SpecError]
) -> None:
    """Find what each key may say, but not together with another."""
    defaults = values.get("defaults", {})
    for wanted, limit, shown in _LIMITED:
        most, value = values.get(limit), defaults.get(wanted)
        if most is not None and value is not None and value > most:
            key = "time" if wanted == "time_min" else wanted
            node = entries["defaults"]
            assert isinstance(node.value, dict)
            words = f"{node.value[key].text} is more than {shown}: {entries[shown].text}; "
            mistakes.append(
                fail(node.value[key], f"{name}.defaults.{key}", words + "correct one of them")
            )
    prices = values.get("on_demand")
    if isinstance(prices, OnDemand) and not prices.currency:
        values["on_demand"] = replace(prices, currency=values.get("currency", ""))
    container = values.get("container")
    if container is not None and container.runtime == PYXIS and values.get("layout") == "step":
        mistakes.append(
            fail(
                entries["layout"],
                f"{name}.layout",
                "step is not allowed with pyxis, where the program is a step itself; use batch",
            )
        )


def _text(node: Node, key: str) -> str:
    return read_text(node, key, _EXAMPLES.get(key.rpartition(".")[2], "'gpu'"))


def _positive(node: Node, key: str) -> float:
    value = read_number(node, key)
    if value < 0 or not math.isfinite(value):
        raise fail(node, key, f"{node.text} is not allowed; use a number that is not negative")
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


def _word(node: Node, key: str) -> str:
    text = _text(node, key)
    if not text.isprintable():
        raise fail(node, key, f"{show(text)} has control characters; remove them")
    return text


def _words(node: Node, key: str) -> tuple[str, ...]:
    return tuple(_word(item, key) for item in read_list(node, key))


def _mounts(node: Node, key: str) -> tuple[str, ...]:
    mounts = _words(node, key)
    for item, text in zip(read_list(node, key), mounts, strict=True):
        if not _MOUNT.fullmatch(text):
            raise fail(
                item,
                key,
                f"{show(text)} is not allowed; use outside, outside:inside or outside:inside:ro, "
                "with absolute paths",
            )
    return mounts


def _container(node: Node, key: str) -> Container:
    if isinstance(node.value, str):
        return Container(_word(node, key))
    entries = read_mapping(node, key, _CONTAINER)
    values = {name: _CONTAINER[name](item, f"{key}.{name}") for name, item in entries.items()}
    if "image" not in values:
        raise fail(node, key, "names no image; add image:, a file or docker://...")
    return Container(**values)


def _on_demand(node: Node, key: str) -> Node | OnDemand:
    """Read prices; the name of another profile is looked up once all of them are read."""
    if isinstance(node.value, str):
        return node
    values = {
        name: _ON_DEMAND[name](item, f"{key}.{name}")
        for name, item in read_mapping(node, key, _ON_DEMAND).items()
    }
    prices = OnDemand(**values)
    if not prices.price_per_gpu_hour and not prices.price_per_cpu_hour:
        raise fail(node, key, "states no price; use price_per_gpu_hour or price_per_cpu_hour")
    return prices


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


def _runtime(node: Node, key: str) -> str:
    return read_choice(node, key, RUNTIMES)


# What a key may say, for those of which "gpu" is no example.
_EXAMPLES = {
    "template": "spot.sbatch.j2",
    "gpu_type": "h100",
    "currency": "CNY",
    "account": "'my-group'",
    "qos": "normal",
    "constraint": "'gpu&ib'",
    "environment": "'export NCCL_DEBUG=WARN'",
    "modules": "cuda/12.4",
    "conda": "'my-env'",
    "container": "/images/torch.sif",
    "image": "/images/torch.sif",
    "mounts": "/data:/data:ro",
    "options": "--writable-tmpfs",
}
# A default, the key of PartitionProfile that limits it, and the name of that in the file.
_LIMITED = (
    ("gpus", "gpus_per_node", "gpus_per_node"),
    ("cpus", "cpus_per_node", "cpus_per_node"),
    ("mem_gb", "mem_gb_per_node", "mem_gb_per_node"),
    ("time_min", "max_time_min", "max_time"),
    ("nodes", "nodes", "nodes"),
)
_CONTAINER: dict[str, Callable[[Node, str], Any]] = {
    "image": _word,
    "runtime": _runtime,
    "mounts": _mounts,
    "options": _words,
}
_ON_DEMAND: dict[str, Callable[[Node, str], Any]] = {
    "price_per_gpu_hour": _positive,
    "price_per_cpu_hour": _positive,
    "currency": _text,
}
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
    "nodes": _at_least(1),
    "max_time": _minutes,
    "gpu_type": _text,
    "price_per_gpu_hour": _positive,
    "price_per_cpu_hour": _positive,
    "currency": _text,
    "on_demand": _on_demand,
    "signal_before_end_s": _at_least(0),
    "grace_s": _at_least(0),
    "account": _text,
    "qos": _text,
    "constraint": _text,
    "environment": _lines,
    "modules": _words,
    "conda": _word,
    "container": _container,
    "sbatch": _options,
    "defaults": _defaults,
}

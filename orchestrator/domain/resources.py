"""What a trial asks of its node: the checks, and the evaluation of expressions.

Pure. ``resource_loader`` reads the literals of a spec with these checks, ``trials`` evaluates the
expressions of each trial.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.contract.errors import SpecError
from orchestrator.domain.expressions import Expression, Values
from orchestrator.domain.partition import TIME_FORMS, parse_minutes
from orchestrator.domain.spec import ResourceSpec
from orchestrator.domain.spec_tree import Node, fail, show

_MINIMUM = {"gpus": 0, "cpus": 1, "nodes": 1}
# Larger than any node or cluster; a slip such as bytes for GB is caught.
_MAXIMUM = {"gpus": 1024, "cpus": 65536, "nodes": 100_000}
_MAX_MEM_GB = 1_000_000
_MAX_MINUTES = 366 * 24 * 60
_GPU_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TrialResources:
    """What one trial asks of its node; None leaves it to the partition's profile."""

    gpus: int | None = None
    """GPUs per node."""
    gpu_type: str | None = None
    """GPU type as Slurm names it."""
    cpus: int | None = None
    """CPUs per node."""
    mem_gb: float | None = None
    """Memory per node in GB (2**30 bytes)."""
    time_min: int | None = None
    """Time limit in minutes."""
    nodes: int | None = None
    """Number of nodes."""
    sbatch: tuple[tuple[str, str], ...] = ()
    """More sbatch options, name and value; an empty value makes a flag."""
    partition: str | None = None
    """Profile that an expression chose; None: as the sweep says for all."""


def resolve_resources(spec: ResourceSpec, values: Values) -> TrialResources:
    """Evaluate what is an expression.

    Raises:
        SpecError: An expression fails, or gives what is not allowed.
    """

    def resolve(value: Any, check: Callable[[Any, Expression, str], Any]) -> Any:
        if not isinstance(value, Expression):
            return value
        result = value.evaluate(values)
        return None if result is None else check(result, value, value.key)

    options = []
    for name, option in spec.sbatch:
        text = resolve(option, option_value)
        if text is not None:
            options.append((name, text))
    found = TrialResources(
        gpus=resolve(spec.gpus, _checker("gpus")),
        gpu_type=resolve(spec.gpu_type, gpu_type),
        cpus=resolve(spec.cpus, _checker("cpus")),
        mem_gb=resolve(spec.mem_gb, _checker("mem_gb")),
        time_min=resolve(spec.time_min, minutes),
        nodes=resolve(spec.nodes, _checker("nodes")),
        sbatch=tuple(options),
    )
    if spec.partition is None:
        return found
    name = spec.partition.evaluate({**vars(found), **values})
    if not isinstance(name, str):
        raise _error(
            spec.partition, "partition", f"{show(name)} is no partition; give a profile's name"
        )
    return replace(found, partition=name)


def is_constant(spec: ResourceSpec) -> bool:
    """Whether all trials ask for the same."""
    fields = (spec.gpus, spec.gpu_type, spec.cpus, spec.mem_gb, spec.time_min, spec.nodes)
    options = (value for _, value in spec.sbatch)
    everything = (*fields, *options, spec.partition)
    return not any(isinstance(value, Expression) for value in everything)


def minutes(value: Any, place: Node | Expression, key: str) -> int:
    """Check a time limit: minutes as a number, or one of Slurm's forms.

    Raises:
        SpecError: Another thing, or not from one minute to a year.
    """
    result: float | None = None
    if isinstance(value, str):
        try:
            result = parse_minutes(value)
        except ValueError:
            result = None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        result = math.ceil(value)
    if result is None or not 1 <= result <= _MAX_MINUTES:
        raise _error(
            place, key, f"{show(value)} is not allowed; use minutes, or text such as {TIME_FORMS}"
        )
    return int(result)


def gpu_type(value: Any, place: Node | Expression, key: str) -> str:
    """Check the name of a GPU type.

    Raises:
        SpecError: Not a name that Slurm could have.
    """
    if not isinstance(value, str) or not _GPU_TYPE.fullmatch(value):
        raise _error(place, key, f"{show(value)} is not allowed; use a name, such as a100")
    return value


def option_value(value: Any, place: Node | Expression, key: str) -> str | None:
    """Check the value of an sbatch option: true makes a flag, false leaves the option out.

    Raises:
        SpecError: Not text or a number, or with control characters.
    """
    if isinstance(value, bool):
        return "" if value else None
    if not isinstance(value, (str, int, float)):
        raise _error(place, key, f"{show(value)} is not allowed; use text, a number, true or false")
    text = str(value)
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise _error(place, key, f"{show(text)} has control characters; remove them")
    return text


def check_number(value: Any, place: Node | Expression, key: str, name: str) -> float:
    """Check a count, or an amount of memory.

    Raises:
        SpecError: Not a number within its limits.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "mem_gb":
        if not is_number or not 0 < value <= _MAX_MEM_GB:
            raise _error(place, key, f"{show(value)} is not allowed; use GB, a number > 0")
        return float(value)
    low, high = _MINIMUM[name], _MAXIMUM[name]
    if not is_number or value != int(value) or not low <= value <= high:
        raise _error(
            place, key, f"{show(value)} is not allowed; use a whole number from {low} to {high}"
        )
    return int(value)


def _checker(name: str) -> Callable[[Any, Expression, str], float]:
    return lambda value, place, key: check_number(value, place, key, name)


def _error(place: Node | Expression, key: str, message: str) -> SpecError:
    if isinstance(place, Expression):
        return place.error(f"`{place.shown}`: {message}")
    return fail(place, key, message)

"""A configuration as a sweep spec of its own: the submitted spec with its parameters as constants.

Pure: texts in, a text out. What runs it (program, command, environment, partition, resources,
metric, seeds, limits) is taken over, expressions of parameters are worked out for this one; what
was about searching (method, zip, where, run_cap) and about the sweep as a whole (budget, canary) is
not. A parameter derived from the seed stays derived. The result is read back and expanded, and only
returned if it gives the same parameters.

Values are written so that YAML 1.1 and 1.2 read the same types: text that could be anything else
is quoted, floats have a dot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.contract.errors import SpecError, UserError
from orchestrator.domain.overrides import apply_overrides
from orchestrator.domain.relation_loader import seed_dependent
from orchestrator.domain.resources import is_constant, resolve_resources
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import SPEC_KEYS, load_spec, safe_name
from orchestrator.domain.spec_tree import Node, plain
from orchestrator.domain.trials import expand_trials, flatten, trial_id
from orchestrator.domain.yaml_composer import parse_tree
from orchestrator.domain.yaml_scalars import resolve_scalar

# Keys that are taken over as they stand, in this order.
_AS_IS = (
    "metric",
    "seeds",
    "cluster",
    "max_concurrent",
    "max_gpus",
    "checkpoint",
    "check",
    "workdir",
    "code",
    "layout",
    "requeue",
    "retry",
)
# Unquoted text that no version of YAML takes for anything else.
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_FORMER = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def format_best(
    text: str, file: str, overrides: Sequence[str], params: Mapping[str, Any], header: str
) -> str:
    """Write a configuration as a spec.

    Args:
        text: The submitted spec.
        file: Its path, which names the sweep if the spec does not.
        overrides: What was put over it.
        params: The configuration's parameters, of any of its repeats.
        header: Comment lines.

    Raises:
        UserError: The spec cannot be read any more, or does not give these parameters.
    """
    try:
        spec = load_spec(text, file=file, overrides=overrides)
        tree = parse_tree(text, file=file)
        assert tree is not None
        tree = apply_overrides(tree, overrides, SPEC_KEYS)
        fields = _fields(spec, tree, params)
        found = header + "\n" + "".join(_block(key, value, 0) for key, value in fields.items())
        _check_same(load_spec(found, file="best.yaml"), spec, params)
    except SpecError as error:
        raise UserError(f"best.yaml cannot be made of the sweep's spec: {error}") from None
    return found


def _fields(spec: SweepSpec, tree: Node, params: Mapping[str, Any]) -> dict[str, Any]:
    assert isinstance(tree.value, dict)
    raw = {key: plain(node) for key, node in tree.value.items()}
    by_seed = _by_seed(spec)
    constants = {name: value for name, value in params.items() if name not in by_seed}
    fields: dict[str, Any] = {"name": safe_name(f"{spec.name}-best")}
    if spec.program is not None:
        fields["program"] = spec.program
    if spec.command is not None:
        fields["command"] = list(spec.command)
    leaves = {parameter.path for parameter in spec.parameters}
    if constants:
        fields["parameters"] = _parameters(constants, leaves, ())
    derived = {d.name: d.expression.source for d in spec.derived if d.name in by_seed}
    if derived:
        fields["derived"] = derived
    fields |= {key: raw[key] for key in _AS_IS if key in raw}
    fields |= _machine(spec, raw, params)
    if "batch" in raw and all(
        not isinstance(name, str) or name in flatten(params) for name in raw["batch"].values()
    ):
        fields["batch"] = raw["batch"]
    if spec.environment:
        fields["environment"] = list(spec.environment)
    if spec.env:
        fields["env"] = dict(spec.env)
    return fields


def _machine(spec: SweepSpec, raw: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return partition and resources, expressions worked out."""
    if is_constant(spec.resources):
        return {key: raw[key] for key in ("partition", "resources") if key in raw}
    names = [*(p.name for p in spec.parameters), *(d.name for d in spec.derived)]
    values = {**dict.fromkeys(names), **flatten(params)}
    found = resolve_resources(spec.resources, values)
    amounts = {
        "gpus": found.gpus,
        "gpu_type": found.gpu_type,
        "cpus": found.cpus,
        "mem_gb": found.mem_gb,
        "time": found.time_min,
        "nodes": found.nodes,
        "sbatch": {name: value or True for name, value in found.sbatch} or None,
    }
    resources = {key: value for key, value in amounts.items() if value is not None}
    fields: dict[str, Any] = {"resources": resources} if resources else {}
    partition = found.partition or (None if spec.resources.partition else raw.get("partition"))
    return ({"partition": partition} if partition is not None else {}) | fields


def _by_seed(spec: SweepSpec) -> set[str]:
    """Return the parameters that differ between repeats."""
    return seed_dependent(spec.derived) if spec.seeds else set()


def _parameters(
    values: Mapping[str, Any], leaves: set[tuple[str, ...]], path: tuple[str, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, Mapping) and value and here not in leaves:
            found[name] = {"parameters": _parameters(value, leaves, here)}
        elif isinstance(value, (Mapping, list)) or value is None:
            found[name] = {"value": value}
        else:
            found[name] = value
    return found


def _check_same(best: SweepSpec, spec: SweepSpec, params: Mapping[str, Any]) -> None:
    """Make sure that every trial of the new spec is this configuration.

    Raises:
        UserError: One is not.
    """
    by_seed = _by_seed(spec)

    def identity(own: Mapping[str, Any]) -> str:
        return trial_id({name: value for name, value in own.items() if name not in by_seed})

    trials = expand_trials(best)
    if not trials or any(identity(trial.params) != identity(params) for trial in trials):
        raise UserError("best.yaml cannot be made: the spec's grammar has no such parameters")


def _block(key: str, value: Any, indent: int) -> str:
    """Write one key with its value; mappings in blocks, lists and scalars on its line."""
    start = f"{' ' * indent}{format_scalar(key)}:"
    if isinstance(value, Mapping) and value and (indent == 0 or "parameters" in value):
        return f"{start}\n" + "".join(_block(str(k), v, indent + 2) for k, v in value.items())
    return f"{start} {_flow(value)}\n"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{format_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return format_scalar(value)


def format_scalar(value: Any) -> str:
    """Write a scalar so that YAML 1.1 and 1.2 read it back as the same value of the same type."""
    if isinstance(value, str):
        if _BARE.fullmatch(value) and value.lower() not in _FORMER and _is_text(value):
            return value
        return _quoted(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        if not e:
            return mantissa
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"
    return json.dumps(value)


def _is_text(word: str) -> bool:
    try:
        return resolve_scalar(word) == word
    except ValueError:
        return False


def _quoted(text: str) -> str:
    """Quote as YAML does: like JSON, and what is not printable by its number."""
    return "".join(
        char if char.isprintable() else _escape(ord(char))
        for char in json.dumps(text, ensure_ascii=False)
    )


def _escape(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"

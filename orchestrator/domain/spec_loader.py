"""A sweep spec from its YAML text: every key checked, every value traced to its line.

Pure: the caller reads the file. The base dialect is Weights & Biases sweep YAML, so that a grid or
random ``sweep.yaml`` runs unchanged; what has no meaning here is ignored with a warning. Errors are
``SpecError``, one line each: file, line, key, what was found, what is allowed, what to do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.contract.errors import SpecError
from orchestrator.domain.batch_loader import read_batch
from orchestrator.domain.budget import read_budget
from orchestrator.domain.canary_loader import read_canary
from orchestrator.domain.check_loader import read_check
from orchestrator.domain.domain_loader import DomainReader
from orchestrator.domain.frozen_code import CODE_MODES
from orchestrator.domain.objective_loader import read_objectives
from orchestrator.domain.overrides import apply_overrides
from orchestrator.domain.parameter_loader import ParameterReader, RawParameter
from orchestrator.domain.placement_loader import read_partition
from orchestrator.domain.relation_loader import RelationReader
from orchestrator.domain.resource_loader import RESOURCE_NAMES, read_resources
from orchestrator.domain.retry_loader import read_retry
from orchestrator.domain.samplers.dimensions import order_dimensions
from orchestrator.domain.spec import (
    CLUSTERS,
    LAYOUTS,
    METHODS,
    ResourceSpec,
    SweepSpec,
)
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    or_list,
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

# Keys of Weights & Biases that mean nothing here: accepted, with a warning each.
_IGNORED = (
    "apiVersion",
    "controller",
    "entity",
    "image_uri",
    "imports",
    "job",
    "kind",
    "project",
    "scheduler",
)
_OTHER_METHODS = ("bayes", "custom")
# Draws of a random search whose file does not say how many; Weights & Biases would never stop.
DEFAULT_RUN_CAP = 20
MAX_RUN_CAP = 100_000
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load_spec(text: str, *, file: str, overrides: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep spec.

    Args:
        text: The file's text.
        file: Its path as the user typed it; the sweep's name if the spec gives none.
        overrides: ``key=value`` words of the command line; see ``orchestrator.domain.overrides``.

    Raises:
        SpecError: The first mistake found.
    """
    tree = parse_tree(text, file=file)
    if tree is None:
        raise SpecError("is empty; write at least program and parameters", file=file)
    if not isinstance(tree.value, dict):
        raise fail(tree, "", f"{show(tree)} is no sweep spec; write keys such as program: train.py")
    if overrides:
        tree = apply_overrides(tree, overrides, SPEC_KEYS)
    fields = read_mapping(tree, "", SPEC_KEYS, (*_IGNORED, "early_terminate"))
    loader = _Loader(tree, fields, file)
    spec = SweepSpec(
        name="",
        program=None,
        method="grid",
        parameters=(),
        file=file,
        source_text=text,
        overrides=tuple(overrides),
    )
    values: dict[str, Any] = {}
    for key, node in fields.items():
        if key in _READERS:
            values[key] = _READERS[key](node, key)
    values["method"] = loader.method()
    values["run_cap"] = loader.run_cap(values["method"])
    values.update(loader.search(values["method"]))
    values["name"] = loader.name()
    values["program"] = loader.program(values.get("command"))
    values["metric"], values["more_objectives"] = read_objectives(tree, fields, loader.warn)
    if "checkpoint" in fields:
        values["checkpoint_interval_min"] = _checkpoint(fields["checkpoint"], "checkpoint")
    loader.ignored()
    return replace(spec, **values, warnings=tuple(loader.warnings), positions=_positions(tree))


@dataclass
class _Loader:
    """The parts of a spec that depend on one another."""

    tree: Node
    fields: dict[str, Node]
    file: str
    warnings: list[str] = field(default_factory=list)

    def warn(self, node: Node, key: str, message: str) -> None:
        self.warnings.append(str(fail(node, key, message)))

    def method(self) -> str:
        node = self.fields.get("method")
        if node is None:
            return "grid"
        if node.value in _OTHER_METHODS:
            raise fail(
                node, "method", f"{show(node)} is not available here; use {or_list(METHODS)}"
            )
        return read_choice(node, "method", METHODS)

    def search(self, method: str) -> dict[str, Any]:
        """Read the parameters and what refers to them."""
        relations = RelationReader(self.fields, self.parameters(method))
        parameters, zips = relations.parameters(), relations.zips()
        order_dimensions(parameters, zips)  # refuses conditions that form a circle
        seeds = relations.seeds()
        derived = relations.derived(bool(seeds))
        names = [*relations.raw, *(item.name for item in derived)]
        found: dict[str, Any] = {
            "parameters": parameters,
            "zips": zips,
            "seeds": seeds,
            "derived": derived,
            "where": relations.where(names, derived, bool(seeds)),
        }
        if "batch" in self.fields:
            found["batch"] = read_batch(self.fields["batch"], names)
        known = [*names, *(["seed"] if seeds else [])]
        resources = ResourceSpec()
        if "resources" in self.fields:
            resources = read_resources(
                self.fields["resources"], lambda node, key: relations.expression(node, key, known)
            )
        if "partition" in self.fields:
            chosen = read_partition(
                self.fields["partition"],
                "partition",
                lambda node, key: relations.expression(node, key, [*known, *RESOURCE_NAMES]),
            )
            resources = replace(resources, partition=chosen.expression)
            found |= {"partition": chosen.partition, "placement": chosen.placement}
        return {**found, "resources": resources}

    def parameters(self, method: str) -> dict[str, RawParameter]:
        node = self.fields.get("parameters")
        reader = ParameterReader(DomainReader(method == "grid", self.warn))
        if node is not None:
            reader.read(node)
        elif "seeds" not in self.fields:
            raise SpecError(
                "is missing; list the values to try, such as parameters: {lr: [0.1, 0.01]}",
                file=self.file,
                key="parameters",
            )
        return reader.found

    def run_cap(self, method: str) -> int | None:
        node = self.fields.get("run_cap")
        if node is not None:
            cap = read_int(node, "run_cap", 1)
            if cap > MAX_RUN_CAP:
                raise fail(node, "run_cap", f"{cap} is too many; use at most {MAX_RUN_CAP}")
            return cap
        if method == "grid":
            return None
        at = self.fields.get("method", self.tree)
        self.warn(
            at, "method", f"{method} without run_cap draws {DEFAULT_RUN_CAP}; set run_cap to change"
        )
        return DEFAULT_RUN_CAP

    def name(self) -> str:
        node = self.fields.get("name")
        if node is None:
            stem = re.split(r"[/\\]", self.file)[-1]
            given = re.sub(r"\.ya?ml$", "", stem)
            return safe_name(given) or "sweep"
        given = read_text(node, "name", "lr-search")
        name = safe_name(given)
        if not name:
            raise fail(node, "name", f"{show(given)} has no letter or digit; add one")
        if name != given:
            self.warn(node, "name", f"{show(given)} becomes {name}, which can name a folder")
        return name

    def program(self, command: Sequence[str] | None) -> str | None:
        node = self.fields.get("program")
        if node is not None:
            return read_text(node, "program", "train.py")
        if command is not None and not any("${program}" in word for word in command):
            return None
        raise SpecError(
            "is missing; name what to run, such as program: train.py", file=self.file, key="program"
        )

    def ignored(self) -> None:
        for key in _IGNORED:
            if key in self.fields:
                self.warn(self.fields[key], key, "is ignored; it is for Weights & Biases only")
        if "early_terminate" in self.fields:
            self.warn(
                self.fields["early_terminate"],
                "early_terminate",
                "is ignored; all trials run to their end",
            )


def safe_name(text: str) -> str:
    """Return a text as a folder's name: letters, digits, ``. _ -``; empty if none is left."""
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", text))
    return name.strip("-.").encode("utf-8")[:100].decode("utf-8", "ignore").rstrip("-.")


def _positions(tree: Node) -> dict[str, tuple[str, int | None]]:
    """Return the places of all keys but those in long lists of values."""
    found: dict[str, tuple[str, int | None]] = {}

    def walk(node: Node, prefix: str) -> None:
        if isinstance(node.value, dict):
            for key, item in node.value.items():
                found[prefix + key] = (item.file, item.line)
                walk(item, f"{prefix}{key}.")

    walk(tree, "")
    return found


def _texts(node: Node, key: str) -> tuple[str, ...]:
    """Read the words of a command; numbers are taken as they are written."""
    if isinstance(node.value, str):
        raise fail(
            node,
            key,
            f"{show(node)} is not allowed; use a list of words, such as "
            '[python, "${program}", "${args}"]',
        )
    words = []
    for item in read_list(node, key):
        if isinstance(item.value, (dict, list)) or item.value is None:
            raise fail(item, key, f"{show(item)} is no word; write text, such as '--verbose'")
        words.append(item.value if isinstance(item.value, str) else item.text)
    if not words:
        raise fail(node, key, "is empty; write the command's words, or remove it")
    return tuple(words)


def _lines(node: Node, key: str) -> tuple[str, ...]:
    """Read shell lines: a list, or one text of several lines."""
    if isinstance(node.value, str):
        return tuple(node.value.splitlines())
    return tuple(
        read_text(item, key, "module load cuda").rstrip("\n") for item in read_list(node, key)
    )


def _variables(node: Node, key: str) -> dict[str, str]:
    found = {}
    for name, item in read_mapping(node, key).items():
        full = f"{key}.{name}"
        if not _VARIABLE.fullmatch(name):
            raise fail(item, full, "is no variable name; use letters, digits and _")
        if name.startswith("TRIAL_"):
            raise fail(item, full, "is set for each trial; use another name")
        if isinstance(item.value, (dict, list)):
            raise fail(item, full, f"{show(item)} is not allowed; use text or a number")
        found[name] = item.value if isinstance(item.value, str) else item.text
    return found


def _workdir(node: Node, key: str) -> str:
    path = read_text(node, key, "/home/me/project")
    if any(ord(char) < 32 for char in path):
        raise fail(node, key, f"{show(path)} has control characters; remove them")
    return path


def _choice(*allowed: str) -> Callable[[Node, str], str]:
    return lambda node, key: read_choice(node, key, allowed)


def _at_least(minimum: int) -> Callable[[Node, str], int]:
    return lambda node, key: read_int(node, key, minimum)


def _checkpoint(node: Node, key: str) -> float:
    fields = read_mapping(node, key, ("interval_min",))
    if "interval_min" not in fields:
        raise fail(node, key, "has no interval_min; write checkpoint: {interval_min: 10}")
    item, full = fields["interval_min"], f"{key}.interval_min"
    minutes = read_number(item, full)
    if not 0 < minutes < 1e6:
        raise fail(item, full, f"{show(item)} is not allowed; use minutes, a number above 0")
    return float(minutes)


_READERS: dict[str, Callable[[Node, str], Any]] = {
    "budget": read_budget,
    "canary": read_canary,
    "check": read_check,
    "cluster": _choice(*CLUSTERS),
    "code": _choice(*CODE_MODES),
    "command": _texts,
    "description": lambda node, key: str(node.value or ""),
    "env": _variables,
    "environment": _lines,
    "layout": _choice(*LAYOUTS),
    "max_concurrent": _at_least(1),
    "max_gpus": _at_least(1),
    "requeue": read_switch,
    "retry": read_retry,
    "sampling_seed": _at_least(0),
    "workdir": _workdir,
}
# What may stand at the top of a spec.
SPEC_KEYS = (
    "name",
    "program",
    "command",
    "method",
    "metric",
    "objectives",
    "parameters",
    "batch",
    "check",
    "checkpoint",
    "run_cap",
    "zip",
    "where",
    "derived",
    "seeds",
    "sampling_seed",
    "resources",
    "budget",
    "partition",
    "cluster",
    "max_concurrent",
    "max_gpus",
    "workdir",
    "code",
    "environment",
    "env",
    "layout",
    "requeue",
    "retry",
    "canary",
    "description",
    "early_terminate",
    *_IGNORED,
)

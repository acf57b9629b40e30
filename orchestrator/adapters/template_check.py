"""What a template's text says about itself, without rendering it: also in branches not taken.

Finds names that templates do not have, values put into a script without a quoting filter, and
``#SBATCH`` lines with options that sbatch does not have. Called by ``usecases.lint``.

Not covered: values that a macro was given (the macro has to quote them), and what a filter other
than ours makes of a quoted value; rendering hostile values finds those.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import meta, nodes

from orchestrator.adapters.template_trace import Place, TracingRenderer
from orchestrator.adapters.template_words import README
from orchestrator.domain.partition import Container
from orchestrator.domain.sbatch_options import read_directives
from orchestrator.domain.sbatch_script import near_miss
from orchestrator.domain.spec_tree import nearest

# Filters whose result is one word, or one value, wherever they may stand.
_SHELL, _DIRECTIVE = frozenset({"sh", "name", "as_is"}), frozenset({"sbatch", "sbatch_path"})
_COMMENT = frozenset({"json"}) | _SHELL
_NUMERIC = frozenset({"int", "float", "length", "count", "round", "abs", "wordcount", "sum"})
_TRUTHS = (nodes.Compare, nodes.Not, nodes.Test)
_SAFE_CALLS = frozenset({"super", "caller"})
_TAG = re.compile(r"\{%.*?%\}")
_VALUE = re.compile(r"\{\{.*?\}\}")
_REMARK = re.compile(r"\{#.*?#\}", re.DOTALL)
_ALLOWED = re.compile(r"lint:\s*allow\s+((?:--[a-z0-9-]+[\s,]*)+)")
_FILLED = "x"


@dataclass(frozen=True)
class TemplateMistake:
    """One thing that is wrong with a template."""

    place: Place
    """Where."""
    check: str
    """A stable name for programs, such as ``undefined``."""
    message: str
    """In words."""


@dataclass(frozen=True)
class Schema:
    """What a template may use."""

    attributes: Mapping[str, frozenset[str]]
    """The names, and what each has; dotted where it has more (``partition.container``)."""
    numbers: frozenset[str]
    """Those that are numbers or yes-or-no, dotted: they need no quoting."""


def schema_of(contexts: Iterable[Mapping[str, Any]]) -> Schema:
    """Learn what templates are given from what they were given."""
    attributes: dict[str, set[str]] = {}
    kinds: dict[str, set[bool]] = {}
    for context in contexts:
        for name, value in context.items():
            known = attributes.setdefault(name, set())
            if dataclasses.is_dataclass(value):
                known |= _fields(name, type(value), attributes, kinds)
            elif isinstance(value, Mapping):
                for key, item in value.items():
                    known.add(key)
                    if item is not None:
                        is_number = isinstance(item, (int, float))
                        kinds.setdefault(f"{name}.{key}", set()).add(is_number)
    return Schema(
        {name: frozenset(known) for name, known in attributes.items()},
        frozenset(name for name, found in kinds.items() if found == {True}),
    )


def _fields(
    name: str, kind: Any, attributes: dict[str, set[str]], kinds: dict[str, set[bool]]
) -> set[str]:
    found = {key for key in vars(kind) if isinstance(vars(kind)[key], property)}
    for key in found:
        returned = str(vars(kind)[key].fget.__annotations__.get("return", ""))
        kinds.setdefault(f"{name}.{key}", set()).add(returned in ("int", "float", "bool"))
    for item in dataclasses.fields(kind):
        found.add(item.name)
        words = {word.strip() for word in str(item.type).split("|")} - {"None"}
        kinds.setdefault(f"{name}.{item.name}", set()).add(words <= {"int", "float", "bool"})
        if words == {Container.__name__}:  # the one record within a record
            nested = {inner.name for inner in dataclasses.fields(Container)}
            attributes.setdefault(f"{name}.{item.name}", set()).update(nested)
    return found


def allowed_options(source: str) -> list[str]:
    """Names of options that a remark of the template allows: ``{# lint: allow --name #}``."""
    found = []
    for match in _ALLOWED.finditer(source):
        found += [word.strip("-, ") for word in match[1].split()]
    return found


def check_template(
    renderer: TracingRenderer,
    template: str,
    schema: Schema,
    version: tuple[int, ...] | None = None,
    more: Collection[str] = (),
) -> list[TemplateMistake]:
    """Return what is wrong with one template.

    Raises:
        TemplateError: It is no template at all, with its line.
    """
    tree = renderer.parse(template)
    source = renderer.source(template)
    checker = _Checker(os.path.join(renderer.folder, template), source, schema)
    checker.learn(tree)
    checker.check_names(tree)
    checker.check_quoting(tree)
    checker.check_directives(version, [*more, *allowed_options(source)])
    return checker.found


def parts_of_others(renderer: TracingRenderer, templates: Iterable[str]) -> set[str]:
    """Templates that others include or import, which need not stand alone."""
    found: set[str] = set()
    for template in templates:
        tree = renderer.parse(template)
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport)):
            name = getattr(node, "template", None)
            if isinstance(name, nodes.Const):
                found.add(str(name.value))
    return found


class _Checker:
    """Collects the mistakes of one template."""

    def __init__(self, path: str, source: str, schema: Schema):
        self.path, self.schema = path, schema
        self.lines = source.split("\n")
        self.text = _REMARK.sub(lambda match: "\n" * match[0].count("\n"), source)
        self.found: list[TemplateMistake] = []
        self.macros: set[str] = set(_SAFE_CALLS)
        self.assigned: dict[str, list[nodes.Node | None]] = {}

    def add(self, line: int | None, check: str, message: str) -> None:
        mistake = TemplateMistake(Place(self.path, line), check, message)
        if mistake not in self.found:
            self.found.append(mistake)

    # --- names ---

    def learn(self, tree: nodes.Template) -> None:
        """Note what the template names by itself: macros, variables, loops."""
        for macro in tree.find_all(nodes.Macro):
            self.macros.add(macro.name)
        for imported in tree.find_all(nodes.FromImport):
            self.macros |= {name if isinstance(name, str) else name[1] for name in imported.names}
        for block in tree.find_all(nodes.AssignBlock):
            if isinstance(block.target, nodes.Name):
                self.assigned.setdefault(block.target.name, [])
        for assign in tree.find_all(nodes.Assign):
            if isinstance(assign.target, nodes.Name):
                self.assigned.setdefault(assign.target.name, []).append(assign.node)
        for loop in tree.find_all(nodes.For):
            for target in [loop.target, *loop.target.find_all(nodes.Name)]:
                if isinstance(target, nodes.Name):
                    each = loop.iter if _is_list_of_words(loop.iter) else None
                    self.assigned.setdefault(target.name, []).append(each)

    def check_names(self, tree: nodes.Template) -> None:
        """Find names, and attributes of known names, that no template is given."""
        environment = tree.environment
        assert environment is not None
        own = set(environment.globals) | set(self.assigned)  # also those set in a branch only
        undeclared = meta.find_undeclared_variables(tree) - own
        for name in tree.find_all(nodes.Name):
            if name.ctx == "load" and name.name in undeclared - set(self.schema.attributes):
                hint = nearest(name.name, self.schema.attributes)
                self.add(name.lineno, "undefined", f"{name.name!r} is undefined; {hint}{README}")
        for node in tree.find_all(nodes.Getattr):
            owner = _dotted(node.node)
            root = owner.partition(".")[0] if owner else ""
            known = self.schema.attributes.get(owner)
            if root in undeclared and known and node.attr not in known:
                words = f"{owner!r} has no {node.attr!r}; {nearest(node.attr, known)}{README}"
                self.add(node.lineno, "undefined", words)

    # --- quoting ---

    def check_quoting(self, tree: nodes.Template) -> None:
        """Find outputs that do not end in the filter that their line needs."""
        for output in tree.find_all(nodes.Output):
            for node in output.nodes:
                if not isinstance(node, nodes.TemplateData):
                    self._check_output(node)

    def _check_output(self, node: nodes.Expr) -> None:
        line = self.lines[node.lineno - 1] if node.lineno <= len(self.lines) else ""
        is_directive = line.lstrip().startswith("#SBATCH")
        is_comment = not is_directive and line.lstrip().startswith("#")
        allowed = _DIRECTIVE if is_directive else _COMMENT if is_comment else _SHELL
        if self._is_safe(node, allowed):
            return
        shown = _show(node)
        wanted = "sbatch" if is_directive else "sh"
        where = "an #SBATCH line" if is_directive else "the script"
        if isinstance(node, nodes.Filter) and node.name in _DIRECTIVE | _COMMENT:
            words = f"{shown}: this filter does not quote for {where}; end it in | {wanted}"
        else:
            words = f"{shown} goes into {where} unquoted; write {{{{ ... | {wanted} }}}}"
        self.add(node.lineno, "unquoted", words)

    def _is_safe(self, node: nodes.Node | None, allowed: frozenset[str]) -> bool:
        if node is None or isinstance(node, (nodes.Const, *_TRUTHS)):
            return True
        if isinstance(node, nodes.Filter):
            if node.name == "join" and isinstance(node.node, nodes.Filter):
                return _maps_to(node.node, allowed)
            return node.name in allowed or node.name in _NUMERIC
        if isinstance(node, nodes.CondExpr):
            return self._is_safe(node.expr1, allowed) and self._is_safe(node.expr2, allowed)
        if isinstance(node, nodes.Concat):
            return all(self._is_safe(item, allowed) for item in node.nodes)
        if isinstance(node, nodes.BinExpr):
            return self._is_safe(node.left, allowed) and self._is_safe(node.right, allowed)
        if isinstance(node, nodes.UnaryExpr):
            return self._is_safe(node.node, allowed)
        if isinstance(node, nodes.Call):
            name = _dotted(node.node)
            return name in self.macros or name.startswith("self.")
        if isinstance(node, nodes.Name):
            known = self.assigned.get(node.name)
            return known is not None and all(
                each is not None and (self._is_safe(each, allowed) or _is_list_of_words(each))
                for each in known
            )
        name = _dotted(node)
        return name.startswith("loop.") or name in self.schema.numbers

    # --- directives ---

    def check_directives(self, version: tuple[int, ...] | None, more: Collection[str]) -> None:
        """Find misspelt ``#SBATCH`` lines, and options that sbatch does not have."""
        for number, line in enumerate(self.text.split("\n"), start=1):
            text = _VALUE.sub(_FILLED, _TAG.sub("", line))
            if text.startswith("#SBATCH"):
                for item in read_directives(text, version, more):
                    if item.mistake and f"--{_FILLED}" not in text:
                        self.add(number, "option", item.mistake)
            elif (words := near_miss(text)) is not None:
                self.add(number, "near-miss", words)


def _dotted(node: nodes.Node) -> str:
    """Return ``a.b`` for attributes of a name; empty for anything else."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        owner = _dotted(node.node)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _show(node: nodes.Node) -> str:
    if isinstance(node, nodes.Filter) and node.node is not None:
        return f"{_show(node.node)} | {node.name}"
    return _dotted(node) or "a value"


def _is_list_of_words(node: nodes.Node) -> bool:
    """Whether what a loop goes through was written into the template itself."""
    if isinstance(node, (nodes.List, nodes.Tuple)):
        return all(isinstance(item, nodes.Const) for item in node.items)
    return isinstance(node, nodes.Call) and _dotted(node.node) == "range"


def _maps_to(node: nodes.Filter, allowed: frozenset[str]) -> bool:
    """Whether this is ``map("sh")`` or the like."""
    names = [arg.value for arg in _constants(node.args)]
    return node.name == "map" and bool(names) and names[0] in allowed


def _constants(items: Iterable[nodes.Node]) -> Iterator[nodes.Const]:
    return (item for item in items if isinstance(item, nodes.Const))

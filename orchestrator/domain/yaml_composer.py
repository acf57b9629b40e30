"""Reading the YAML of a spec or a profile into a tree of nodes.

Pure: text in, tree out; it does not know what a spec means. Called by ``spec_loader``,
``partition_loader`` and ``overrides`` on the login node.

What is read is YAML 1.2 with its core schema, resolved here and not by the YAML library, so that
``1e-5`` is a number and ``no`` is text whatever a ``%YAML`` line says. Beyond the core schema:
``<<`` merges mappings, for the many files that use it. Refused, each with a remedy: duplicate keys,
tags other than the core ones, numbers that YAML 1.1 and 1.2 read differently, NaN and infinities,
several documents, and what would grow beyond ``MAX_NODES`` when its aliases are written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from orchestrator.contract.errors import SpecError
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import Node, show
from orchestrator.domain.yaml_scalars import Scalar, join_surrogates, resolve_scalar, text_problem

MAX_TEXT_CHARS = 2**20
MAX_NODES = 100_000
MAX_DEPTH = 50
# Linux refuses an argument of more than 128 KiB (MAX_ARG_STRLEN); UTF-8 takes up to 4 bytes a
# character, and the parameter's name stands before it.
MAX_STRING_CHARS = 32_000

# The YAML library takes quadratic time for a tag: 14 s for a megabyte.
_ENDLESS_TAG = re.compile(rf"!\S{{{MAX_STRING_CHARS}}}")
_CORE_TAG = "tag:yaml.org,2002:"
_CORE_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq"})


def parse_tree(text: str, *, file: str, has_lines: bool = True) -> Node | None:
    """Read one YAML document.

    Args:
        text: The document.
        file: What errors name as its place.
        has_lines: False for a text whose line numbers mean nothing to the user.

    Returns:
        The tree, or None for an empty document.

    Raises:
        SpecError: It is not YAML, or one of the things that the module refuses.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise SpecError(
            f"{len(text)} characters are too many, at most {MAX_TEXT_CHARS} are allowed; "
            "generate long lists of values with step or n",
            file=file,
        )
    endless = _ENDLESS_TAG.search(text)
    if endless is not None:
        line = text.count("\n", 0, endless.start()) + 1 if has_lines else None
        raise SpecError(
            f"a word of more than {MAX_STRING_CHARS} characters after '!' is not allowed; "
            "put it into a file and pass the file's name",
            file=file,
            line=line,
        )
    composer = _Composer(file, has_lines)
    try:
        return composer.compose(YAML(typ="safe", pure=True).parse(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None and has_lines else None
        problem = one_line(error.problem or error.context or "not understood")
        hint = "; indent with spaces" if "'\\t'" in problem else "; correct it, or quote the text"
        raise SpecError(f"not valid YAML: {problem}{hint}", file=file, line=line) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if has_lines else None
        raise SpecError(
            f"control character 0x{ord(text[error.position]):02x} is not allowed; remove it, or "
            'write it as an escape within double quotes ("\\t")',
            file=file,
            line=line,
        ) from None
    except (YAMLError, RecursionError) as error:
        raise SpecError(f"not valid YAML: {one_line(str(error))}", file=file) from None


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    node: Node
    anchor: str | None
    size: int = 1
    key: str | None = None
    key_line: int | None = None
    is_merge: bool = False
    merged: list[Node] | None = None


class _Composer:
    """Builds the tree from parse events; the parser itself keeps no stack that could overflow."""

    def __init__(self, file: str, has_lines: bool):
        self.file = file
        self.has_lines = has_lines
        self.anchors: dict[str, Node | None] = {}
        self.stack: list[_Open] = []
        self.root: Node | None = None
        self.n_events = 0

    def compose(self, events: Iterator[Any]) -> Node | None:
        n_documents = 0
        for event in events:
            self.n_events += 1
            if self.n_events > 2 * MAX_NODES:
                self.fail(event, f"more than {MAX_NODES} values; use step or n for long lists")
            if isinstance(event, DocumentStartEvent):
                n_documents += 1
                if n_documents > 1:
                    self.fail(event, "a second document begins here; use one file for each sweep")
            elif isinstance(event, ScalarEvent):
                self.scalar(event)
            elif isinstance(event, AliasEvent):
                self.alias(event)
            elif isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                self.open(event)
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                self.close(event)
        if self.root is not None and self.root.value is None and self.root.text == "":
            return None
        return self.root

    def line(self, event: Any) -> int | None:
        return event.start_mark.line + 1 if self.has_lines else None

    def fail(self, event: Any, message: str, key: str = "") -> NoReturn:
        raise SpecError(message, file=self.file, line=self.line(event), key=key)

    def path(self, last: str = "") -> str:
        keys = [frame.key for frame in self.stack if frame.key] + ([last] if last else [])
        return one_line(".".join(keys), 120)

    def scalar(self, event: ScalarEvent) -> None:
        text = join_surrogates(event.value)
        if self.wants_key():
            self.take_key(event, text)
            return
        plain = bool(event.implicit[0])
        tag = self.core_tag(event)
        if len(text) > MAX_STRING_CHARS:
            self.fail(
                event,
                f"text of {len(text)} characters is too long, at most {MAX_STRING_CHARS} are "
                "allowed; put it into a file and pass the file's name",
                self.path(),
            )
        value: Scalar = text
        if (plain and tag is None) or tag in {"int", "float", "bool", "null"}:
            try:
                value = resolve_scalar(text)
            except ValueError as error:
                self.fail(event, str(error), self.path())
            if tag == "float" and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            wanted = {"int": int, "float": float, "bool": bool, "null": type(None)}
            if tag is not None and type(value) is not wanted[tag]:
                self.fail(event, f"{show(text)} is no {tag}; remove the tag !!{tag}", self.path())
        if isinstance(value, str):
            problem = text_problem(value)
            if problem:
                self.fail(event, problem, self.path())
        node = Node(value, self.file, self.line(event), text, plain and tag is None)
        self.add(event, node, event.anchor)

    def core_tag(self, event: Any) -> str | None:
        """Return the explicit tag without its prefix, or None without one."""
        tag = event.tag
        if tag is None or (isinstance(event, ScalarEvent) and tag == "!"):
            return None if tag is None else "str"
        name = str(tag).removeprefix(_CORE_TAG)
        is_core = str(tag).startswith(_CORE_TAG) and name in _CORE_TAGS
        if not is_core:
            shown = one_line(str(tag).replace(_CORE_TAG, "!!"), 60)
            self.fail(event, f"the tag {shown} is not allowed; write the plain value", self.path())
        return name

    def wants_key(self) -> bool:
        frame = self.stack[-1] if self.stack else None
        return frame is not None and isinstance(frame.node.value, dict) and frame.key is None

    def take_key(self, event: Any, key: str) -> None:
        frame = self.stack[-1]
        assert isinstance(frame.node.value, dict)
        self.core_tag(event)
        frame.is_merge = key == "<<" and bool(event.implicit[0])
        problem = text_problem(key)
        if problem or key == "" or len(key) > 200:
            self.fail(
                event, problem or "a key must have 1 to 200 characters; rename it", self.path()
            )
        if not frame.is_merge and key in frame.node.value:
            first = frame.node.value[key].line
            where = f" (first in line {first})" if first is not None else ""
            self.fail(event, f"stands twice{where}; keep one of them", self.path(key))
        frame.key, frame.key_line = key, self.line(event)

    def alias(self, event: AliasEvent) -> None:
        name = str(event.anchor)
        if self.wants_key():
            self.fail(event, f"the alias *{one_line(name, 60)} is no key; write the key itself")
        node = self.anchors.get(name)
        if node is None:
            words = (
                "refers to the value that it stands in"
                if name in self.anchors
                else "refers to nothing above it"
            )
            self.fail(
                event, f"the alias *{one_line(name, 60)} {words}; write the value", self.path()
            )
        self.add(event, node, None)

    def open(self, event: Any) -> None:
        if self.wants_key():
            self.fail(event, "a key must be text, not a list or mapping; quote it", self.path())
        self.core_tag(event)
        if len(self.stack) >= MAX_DEPTH:
            self.fail(event, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        empty: dict[str, Node] | list[Node] = {} if isinstance(event, MappingStartEvent) else []
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(Node(empty, self.file, self.line(event)), event.anchor))

    def close(self, event: Any) -> None:
        frame = self.stack.pop()
        value = frame.node.value
        if frame.merged:
            assert isinstance(value, dict)
            for source in frame.merged:
                assert isinstance(source.value, dict)
                for key, node in source.value.items():
                    value.setdefault(key, node)
        self.add(event, replace(frame.node, size=frame.size), frame.anchor)

    def add(self, event: Any, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        frame.size += node.size
        if frame.size > MAX_NODES:
            self.fail(
                event,
                f"more than {MAX_NODES} values once its aliases are written out; use fewer aliases",
                self.path(),
            )
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
            return
        assert isinstance(frame.node.value, dict)
        assert frame.key is not None
        if frame.is_merge:
            self.merge(event, frame, node)
        else:
            frame.node.value[frame.key] = replace(node, line=frame.key_line)
        frame.key = None

    def merge(self, event: Any, frame: _Open, node: Node) -> None:
        sources = node.value if isinstance(node.value, list) else [node]
        if not all(isinstance(source.value, dict) for source in sources):
            self.fail(event, "<< takes a mapping or a list of mappings; correct it", self.path())
        frame.merged = [*(frame.merged or []), *sources]

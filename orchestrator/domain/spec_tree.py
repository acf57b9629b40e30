"""A sweep spec as a tree in which every value knows the file and line it came from.

Pure: holds the tree, and reads values of one type or another out of it, with an error that names
the place. ``yaml_composer`` makes the tree; the loaders of the spec's parts and ``overrides`` read
it, on the login node.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.contract.errors import SpecError
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.yaml_scalars import Scalar

# What an error names as the file of a value that came with the command.
COMMAND_LINE = "command line"


# Booleans of YAML 1.1, text in YAML 1.2.
_FORMER_BOOLEANS = frozenset({"yes", "no", "on", "off"})


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the tree. Treat the containers as read-only: aliases share them."""

    value: Scalar | dict[str, Node] | list[Node]
    """The value; of a mapping or list, the nodes within."""
    file: str
    """File as the user typed it, or ``COMMAND_LINE``."""
    line: int | None = None
    """1-based line of the value, or of its key when it has one; None on the command line."""
    text: str = ""
    """A scalar as it was written."""
    is_plain: bool = False
    """Whether a scalar was written without quotes."""
    size: int = 1
    """Number of nodes when every alias is written out."""


def plain(node: Node) -> Any:
    """Return the value as plain JSON types."""
    if isinstance(node.value, dict):
        return {key: plain(item) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def show(value: Any) -> str:
    """Show a value within an error: text in quotes, the rest as JSON, on one short line."""
    if isinstance(value, Node):
        value = plain(value)
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"'{one_line(value, 60)}'"
    if isinstance(value, float):
        return repr(value)
    return one_line(json.dumps(value, ensure_ascii=False), 60)


def is_former_boolean(node: Node) -> bool:
    """Whether this is unquoted text that YAML 1.1 read as a boolean."""
    return node.is_plain and isinstance(node.value, str) and node.text.lower() in _FORMER_BOOLEANS


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean x? `` for the most similar known name, or nothing.

    The last part of a dotted name stands for the whole.
    """
    names = list(known)
    matches = [item for item in names if item.endswith("." + name)]
    matches = matches or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {matches[0]}? " if matches else ""


def fail(node: Node, key: str, message: str) -> SpecError:
    """Make the error for what stands at a node."""
    if node.file == COMMAND_LINE:
        key = key.removeprefix("parameters.")
    return SpecError(message, file=node.file, line=node.line, key=one_line(key, 120))


def read_mapping(
    node: Node, key: str, allowed: Iterable[str] | None = None, unlisted: Iterable[str] = ()
) -> dict[str, Node]:
    """Return a mapping's nodes, holding its keys to the allowed ones.

    Args:
        node: The mapping.
        key: Its dotted key.
        allowed: Keys that it may have; None for any.
        unlisted: Those of them that an error does not recommend.

    Raises:
        SpecError: Not a mapping, or an unknown key, with the nearest known one.
    """
    if not isinstance(node.value, dict):
        raise fail(node, key, f"{show(node)} is not allowed; use a mapping (name: value)")
    if allowed is not None:
        known = list(allowed)
        for name, item in node.value.items():
            if name not in known:
                full = f"{key}.{name}" if key else name
                listed = or_list(word for word in known if word not in set(unlisted))
                raise fail(item, full, f"unknown key; {nearest(name, known)}use {listed}")
    return node.value


def read_list(node: Node, key: str) -> list[Node]:
    """Return a list's nodes.

    Raises:
        SpecError: Not a list.
    """
    if not isinstance(node.value, list):
        raise fail(node, key, f"{show(node)} is not allowed; use a list, such as [{show(node)}]")
    return node.value


def read_text(node: Node, key: str, example: str) -> str:
    """Return a text that is not empty.

    Raises:
        SpecError: Not text, or empty.
    """
    if not isinstance(node.value, str) or not node.value.strip():
        raise fail(node, key, f"{show(node)} is not allowed; use text, such as {example}")
    return node.value


def read_int(node: Node, key: str, minimum: int) -> int:
    """Return a whole number of at least ``minimum``.

    Raises:
        SpecError: Not a whole number, or too small.
    """
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise fail(
            node, key, f"{show(node)} is not allowed; use a whole number of at least {minimum}"
        )
    return value


def read_number(node: Node, key: str) -> int | float:
    """Return a number.

    Raises:
        SpecError: Not a number.
    """
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fail(node, key, f"{show(node)} is not allowed; use a number")
    return value


def read_bool(node: Node, key: str) -> bool:
    """Return a boolean.

    Raises:
        SpecError: Neither true nor false.
    """
    if not isinstance(node.value, bool):
        raise fail(node, key, f"{show(node)} is not allowed; use true or false")
    return node.value


def read_switch(node: Node, key: str) -> bool | None:
    """Return a boolean, or None for ``auto``.

    Raises:
        SpecError: Neither ``auto`` nor true nor false.
    """
    if node.value == "auto":
        return None
    if not isinstance(node.value, bool):
        raise fail(node, key, f"{show(node)} is not allowed; use auto, true or false")
    return node.value


def read_choice(node: Node, key: str, allowed: Iterable[str]) -> str:
    """Return one of the allowed words.

    Raises:
        SpecError: Another word, with the nearest allowed one.
    """
    words = list(allowed)
    if not isinstance(node.value, str) or node.value not in words:
        hint = nearest(str(node.value), words)
        raise fail(node, key, f"{show(node)} is not allowed; {hint}use {or_list(words)}")
    return node.value


def or_list(words: Iterable[str]) -> str:
    """Join words as ``a, b or c``."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"

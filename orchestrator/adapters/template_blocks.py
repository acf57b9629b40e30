"""Blocks of a template that no template it extends has: Jinja leaves their lines out in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jinja2 import nodes

from orchestrator.domain.spec_tree import nearest


@dataclass(frozen=True)
class LostBlock:
    """A block that is nowhere put into the script."""

    line: int
    """Its line."""
    message: str
    """What is wrong, in words."""


def find_lost_blocks(
    template: str, read: Callable[[str], nodes.Template | None]
) -> Iterator[LostBlock]:
    """Yield the blocks that a template defines and nothing shows.

    A block within another one, and one that the template calls by ``self.name()``, is shown.

    Args:
        template: The template to look at.
        read: Returns the syntax tree of a template, None if it has none.
    """
    tree = read(template)
    parents = _parents(tree) if tree is not None else None
    if tree is None or not parents:
        return
    known: dict[str, None] = {}
    waiting, seen = list(parents), {template}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parent = read(name)
        above = _parents(parent) if parent is not None else None
        if parent is None or above is None:
            return  # which blocks there are, only rendering tells
        known.update((block.name, None) for block in parent.find_all(nodes.Block))
        waiting += above
    inner = {
        id(block) for outer in tree.find_all(nodes.Block) for block in outer.find_all(nodes.Block)
    }
    called = {
        node.attr
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "self"
    }
    for block in tree.find_all(nodes.Block):
        if block.name not in known and block.name not in called and id(block) not in inner:
            yield LostBlock(block.lineno, _words(block.name, parents[0], known))


def _parents(tree: nodes.Template) -> list[str] | None:
    """Return what a template extends; None if only its values tell."""
    found = []
    for node in tree.find_all(nodes.Extends):
        if not isinstance(node.template, nodes.Const):
            return None
        found.append(str(node.template.value))
    return found


def _words(name: str, parent: str, known: dict[str, None]) -> str:
    hint = nearest(name, known)
    others = f"it has: {', '.join(known)}" if known else "it has none"
    return f"{parent} has no block {name!r}, so its lines are left out; {hint or others}".rstrip()

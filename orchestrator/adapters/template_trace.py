"""Rendering with the knowledge which line of which template made each line. Login node.

``orchestrator lint`` uses it: what is wrong with a rendered script is then said of the template's
line. The text is the very one that ``Renderer`` gives; the places come of a second rendering, in
which every line of a template is marked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from orchestrator.adapters.rendering import TEMPLATE_MISTAKES, Renderer
from orchestrator.contract.errors import TemplateError

# Neither stands in a template, and a quoting filter would not let them pass.
_MARK = re.compile("\x02([0-9]+)\x03")
PARENT_LIMIT = 50


@dataclass(frozen=True, order=True)
class Place:
    """A line of a file."""

    file: str
    """Its path as the user may open it."""
    line: int | None
    """1-based; None: the file as a whole."""


@dataclass(frozen=True)
class Traced:
    """One rendered script."""

    template: str
    """The template that was asked for."""
    context: Mapping[str, Any]
    """What it was given."""
    text: str
    """The script."""
    places: tuple[Place, ...]
    """Which line of which template made each line; empty if that cannot be told."""

    @property
    def kind(self) -> str:
        """``trial``, ``array`` or ``supervisor``."""
        return str(self.context["script"])


class _Marks(Extension):
    """Puts a mark before each line of a template's own text."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Mark the text between tags."""
        file = stream.filename or stream.name or ""
        marks: list[Place] = self.environment.marks  # type: ignore[attr-defined]
        for token in stream:
            if token.type == "data":
                pieces = []
                for offset, line in enumerate(token.value.splitlines(keepends=True)):
                    marks.append(Place(file, token.lineno + offset))
                    pieces.append(f"\x02{len(marks) - 1}\x03{line}")
                yield Token(token.lineno, token.type, "".join(pieces))
            else:
                yield token


class TracingRenderer(Renderer):
    """A renderer that keeps what it rendered, and judges nothing."""

    def __init__(self, folder: str):
        """Use the templates in ``folder``.

        Raises:
            UserError: There is no such folder.
        """
        super().__init__(folder)
        self.rendered: list[Traced] = []
        self.contexts: list[Mapping[str, Any]] = []
        self._marked = self._make_environment()
        self._marked.add_extension(_Marks)
        self._marks: list[Place] = []
        self._marked.marks = self._marks  # type: ignore[attr-defined]

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """Render one script and keep it, with the place of each line.

        Raises:
            TemplateError: It does not render.
        """
        self.contexts.append(context)  # what templates are given, also where they fail
        text = self.expand(template, context)
        self.rendered.append(Traced(template, context, text, self._trace(template, context, text)))
        return text

    def find_parents(self, template: str) -> list[str]:
        """Return the templates that one extends, the nearest first.

        Raises:
            TemplateError: It extends itself, by others or at once.
        """
        chain = [template]
        while len(chain) < PARENT_LIMIT:
            found = self.parse(chain[-1]).find(nodes.Extends)
            if found is None or not isinstance(found.template, nodes.Const):
                break
            parent = str(found.template.value)
            if parent in chain:
                path = os.path.join(self.folder, chain[-1])
                loop = " -> ".join([*chain[chain.index(parent) :], parent])
                raise TemplateError(f"{path}:{found.lineno}: it extends itself: {loop}")
            if parent not in self.names():
                break  # rendering says so
            chain.append(parent)
        return chain[1:]

    def _trace(self, template: str, context: Mapping[str, Any], text: str) -> tuple[Place, ...]:
        try:
            marked = _join_all(self._marked, template, context)
        except TEMPLATE_MISTAKES:  # a filter takes no marks: the places are lost, not the script
            return ()
        if _MARK.sub("", marked) != text:
            return ()
        places = []
        latest = Place(os.path.join(self.folder, template), None)
        for line in marked.split("\n"):
            marks = [self._marks[int(index)] for index in _MARK.findall(line)]
            places.append(marks[0] if marks else latest)
            latest = marks[-1] if marks else latest
        return tuple(places)


def _join_all(environment: Environment, template: str, context: Mapping[str, Any]) -> str:
    pieces: Iterable[str] = environment.get_template(template).generate(context)
    return "".join(pieces)

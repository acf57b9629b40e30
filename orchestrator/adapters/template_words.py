"""What Jinja complains of, in the words of who edits a template. Runs on the login node."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined, UndefinedError, nodes
from jinja2.exceptions import TemplateRuntimeError
from jinja2.utils import missing

from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import nearest

README = "templates/README.md lists the values a template may use"
_TAGS = (
    *("if", "elif", "else", "endif", "for", "endfor", "set", "endset", "block", "endblock"),
    *("extends", "include", "import", "from", "macro", "endmacro", "call", "endcall"),
    *("filter", "endfilter", "with", "endwith", "raw", "endraw"),
)
_MARKS = {"end of statement block": "%}", "end of print statement": "}}"}
_UNKNOWN_TAG = re.compile(r"Encountered unknown tag '([^']*)'")
_OPEN = re.compile(r"The innermost block that needs to be closed is '(\w+)'")
_EXPECTED = re.compile(r"expected token '(.+)', got '(.+)'", re.DOTALL)
_NO_END = re.compile(r"unexpected end of template, expected '(.+)'\.")
_STRAY = re.compile(r"unexpected char (.+) at \d+", re.DOTALL)
_NO_FILTER = re.compile(r"No filter named '(.*)'\.")
_OUTSIDE = "what is meant for the shell stands outside of {{ }} and {% %}"


class MissingError(UndefinedError):
    """A name, or a part of a value, that a template uses and is not given."""

    def __init__(self, owner: Any, name: Any, message: str | None = None):
        """Note what was asked for ``name``; ``jinja2.utils.missing``: the template's values."""
        super().__init__(message)
        self.owner = owner
        self.name = name


class NamedUndefined(StrictUndefined):
    """Jinja's strict undefined value, whose error can tell what was asked for what."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[TemplateRuntimeError] = UndefinedError,
    ):
        """As Jinja makes them."""
        super().__init__(hint, obj, name, exc)
        if hint is None and exc is UndefinedError:
            raising: Any = functools.partial(MissingError, obj, name)
            self._undefined_exception = raising


def undefined_words(
    error: MissingError, context: Iterable[str], tree: nodes.Template | None, line: int | None
) -> str:
    """Say what is missing of what, as the template calls it.

    Args:
        error: What happened.
        context: Names of the values that the template was given.
        tree: The template in which it happened; None if that is not known.
        line: Its line there.
    """
    name, owner = error.name, error.owner
    if owner is missing:
        return f"{name!r} is undefined; {nearest(str(name), context)}{README}"
    called = _owner_name(tree, line, name) if tree is not None else None
    shown = repr(called) if called else "a value"
    if owner is None:
        around = f"; write {{% if {called} %}} around it" if called else ""
        return f"{shown} is not set, so it has no {name!r}{around}; {README}"
    known = _parts(owner)
    listed = ""
    if known and isinstance(owner, Mapping):
        listed = one_line(f"it has: {', '.join(known)}", 200) + "; "
    return f"{shown} has no {name!r}; {nearest(str(name), known)}{listed}{README}"


def syntax_words(message: str, filters: Collection[str]) -> str:
    """Say what is wrong with a template's text, and what to write instead."""
    for mark, sign in _MARKS.items():
        message = message.replace(mark, sign)
    opened, unknown = _OPEN.search(message), _UNKNOWN_TAG.search(message)
    if unknown is not None:
        return _words_of_tag(unknown[1], opened[1] if opened else None)
    if opened is not None:
        return f"{{% {opened[1]} %}} is never closed; add {{% end{opened[1]} %}}"
    if message == "tag name expected":
        return "{% %} without a tag; write {% if ... %}, {% for ... %}, {% set ... %} or the like"
    if message == "Missing end of comment tag":
        return "{# opens a remark that nothing closes; add #}, or write {{ '{#' }} for the shell's"
    if match := _NO_FILTER.fullmatch(message):
        ours = "sh, sbatch, sbatch_path, json, name, as_is"
        return f"no filter {match[1]!r}; {nearest(match[1], filters)}the filters that quote: {ours}"
    if match := _NO_END.fullmatch(message):
        return f"the template ends where {match[1]} is missing; add it"
    if match := _EXPECTED.fullmatch(message):
        return f"expected {match[1]}, found {match[2]!r}; {_OUTSIDE}"
    if match := _STRAY.fullmatch(message):
        return f"{match[1]} is not allowed here, or never closed; {_OUTSIDE}"
    return message


def _words_of_tag(tag: str, opened: str | None) -> str:
    if opened is not None:
        return f"{{% {tag} %}} while {{% {opened} %}} is open; add {{% end{opened} %}} before it"
    if tag in _TAGS:
        opener = tag[3:] if tag.startswith("end") else "if"
        return f"{{% {tag} %}} has no {{% {opener} %}} before it; add that, or remove this"
    return f"no tag {tag!r}; {nearest(tag, _TAGS) or _OUTSIDE}".rstrip()


def _owner_name(tree: nodes.Template, line: int | None, name: Any) -> str | None:
    """Return how a template calls what it asks for ``name`` in a line, if that is one thing."""
    asking: list[nodes.Getattr | nodes.Getitem] = list(tree.find_all(nodes.Getattr))
    asking += tree.find_all(nodes.Getitem)
    found = {_dotted(n.node) for n in asking if n.lineno == line and _asked(n) == name}
    return found.pop() if len(found) == 1 else None


def _dotted(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, (nodes.Getattr, nodes.Getitem)):
        owner, name = _dotted(node.node), _asked(node)
        return f"{owner}.{name}" if owner and name is not None else None
    return None


def _asked(node: nodes.Node) -> Any:
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return node.arg.value
    return None


def _parts(owner: Any) -> list[str]:
    if isinstance(owner, Mapping):
        return [str(key) for key in owner]
    return [name for name in dir(type(owner)) + list(_fields(owner)) if not name.startswith("_")]


def _fields(owner: Any) -> Iterable[str]:
    return getattr(type(owner), "__dataclass_fields__", ())

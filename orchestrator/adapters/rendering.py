"""Rendering of sbatch scripts from Jinja2 templates. Runs on the login node.

Templates come from people who may not be the sweep's author, so they run in Jinja's immutable
sandbox; values never become template text, and enter a script only through a quoting filter:

``sh``           one word of bash, on one line whatever it holds
``sbatch``       one value of an ``#SBATCH`` line
``sbatch_path``  likewise, where Slurm expands percent signs (``--output``)
``json``         JSON on one line, for comments
``name``         the name of a shell variable, and nothing else
``as_is``        shell lines that are meant to be shell lines: says so to ``orchestrator lint``

A value with control characters is refused in a directive: a newline there would start another.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
)
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orchestrator.adapters.template_blocks import LostBlock, find_lost_blocks
from orchestrator.adapters.template_words import (
    README,
    MissingError,
    NamedUndefined,
    syntax_words,
    undefined_words,
)
from orchestrator.contract.errors import TemplateError, UserError
from orchestrator.contract.file_errors import explain
from orchestrator.domain.sbatch_script import MAX_SCRIPT_BYTES, check_misread
from orchestrator.domain.spec_tree import nearest

_PLAIN_DIRECTIVE = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]-]+")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_ANSI_C = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# What an expression in a template can raise; anything else is a mistake of ours.
TEMPLATE_MISTAKES = (
    JinjaError,
    UserError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
)
# Longer ones make more than a script may hold; beyond, a template could fill the memory.
_MAX_FACTOR = MAX_SCRIPT_BYTES
_MAX_BITS = 10_000
_WIDE = re.compile(r"\d{7,}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Renderer:
    """Renders scripts from one folder of templates, each compiled once."""

    def __init__(self, folder: str):
        """Use the templates in ``folder``.

        Raises:
            UserError: There is no such folder.
        """
        if not os.path.isdir(folder):
            raise UserError(f"no templates folder at {folder}; pass --templates FOLDER")
        self.folder = folder
        self._whole: set[str] = set()
        self._environment = self._make_environment()

    def _make_environment(self) -> Environment:
        environment = _Sandbox(
            loader=_Loader(self.folder),
            undefined=NamedUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,  # else each rendering looks at each file again
            autoescape=False,  # bash, not HTML: the filters quote
        )
        environment.filters.update(
            sh=quote_sh,
            sbatch=quote_sbatch,
            sbatch_path=quote_sbatch_path,
            json=_dump_json,
            name=_check_name,
            as_is=str,
        )
        return environment

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """Render one script.

        Raises:
            TemplateError: With the template's file and line: unknown template, syntax error,
                undefined name, refused value, or a script that sbatch would misread.
        """
        text = self.expand(template, context)
        self._check_blocks(template)
        mistake = check_misread(text)
        if mistake is not None:
            place = os.path.join(self.folder, template)
            place += f": rendered line {mistake.line}" if mistake.line is not None else ""
            raise TemplateError(f"{place}: {mistake.message}")
        return text

    def expand(self, template: str, context: Mapping[str, Any]) -> str:
        """Return what a template makes of some values, whatever sbatch would say of it.

        Raises:
            TemplateError: As ``render``.
        """
        try:
            return _join(self._get(template).generate(context))
        except TemplateNotFound as error:
            place = self._place_of(error)
            where = f"{place[0]}:{place[1]}: " if place is not None else ""
            names = self.names()
            raise TemplateError(
                f"{where}no template {error.name} in {self.folder}; "
                f"{nearest(str(error.name), names)}it has: {', '.join(names)}"
            ) from None
        except TemplateSyntaxError as error:
            path = error.filename or os.path.join(self.folder, error.name or template)
            raise self._misspelt(error, path) from None
        except OSError as error:
            raise TemplateError(explain(error)) from None
        except _UnreadableTemplate:
            raise
        except TEMPLATE_MISTAKES as error:
            place = self._place_of(error)
            where = f"{place[0]}:{place[1]}" if place else os.path.join(self.folder, template)
            raise TemplateError(f"{where}: {self._words(error, place, context)}") from None

    def names(self) -> list[str]:
        """Names of the templates in the folder."""
        return sorted(name for name in os.listdir(self.folder) if name.endswith(".j2"))

    def source(self, template: str) -> str:
        """Return a template's text.

        Raises:
            TemplateError: It is not UTF-8.
        """
        loader = self._environment.loader
        assert loader is not None
        return loader.get_source(self._environment, template)[0]

    def parse(self, template: str) -> nodes.Template:
        """Return a template's syntax tree.

        Raises:
            TemplateError: It is no template, with its line.
        """
        path = os.path.join(self.folder, template)
        try:
            return self._environment.parse(self.source(template), template, path)
        except TemplateSyntaxError as error:
            raise self._misspelt(error, path) from None

    def lost_blocks(self, template: str) -> list[LostBlock]:
        """Return the blocks of a template that reach no script.

        Raises:
            TemplateError: It, or one that it extends, is no template, with its line.
        """
        names = self.names()
        return list(find_lost_blocks(template, lambda n: self.parse(n) if n in names else None))

    def _check_blocks(self, template: str) -> None:
        if template in self._whole:
            return
        for block in self.lost_blocks(template):
            place = os.path.join(self.folder, template)
            raise TemplateError(f"{place}:{block.line}: {block.message}")
        self._whole.add(template)

    def _get(self, template: str) -> Template:
        return self._environment.get_template(template)

    def _place_of(self, error: BaseException) -> tuple[str, int] | None:
        # Jinja maps its compiled code back: the innermost frame of a template file is the place.
        place = None
        trace = error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if name.endswith(".j2"):
                place = (name, trace.tb_lineno)
            trace = trace.tb_next
        return place

    def _misspelt(self, error: TemplateSyntaxError, path: str) -> TemplateError:
        words = syntax_words(error.message or "", self._environment.filters)
        return TemplateError(f"{path}:{error.lineno}: {words}")

    def _words(
        self, error: Exception, place: tuple[str, int] | None, context: Mapping[str, Any]
    ) -> str:
        if isinstance(error, RecursionError):
            return "it includes, extends or calls itself without end; remove one of those lines"
        if isinstance(error, MemoryError):
            return "it takes more memory than there is"
        if isinstance(error, MissingError):
            tree = self.parse(os.path.relpath(place[0], self.folder)) if place else None
            return undefined_words(error, context, tree, place[1] if place else None)
        if isinstance(error, UndefinedError):
            return f"{error.message}; {README}"
        return str(error)


class _UnreadableTemplate(TemplateError):
    """A template that is no text; its place stands in the message."""


class _Loader(FileSystemLoader):
    """Jinja's loader, whose complaints about a file name it."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        """Return a template's text, its path, and a function that Jinja asks for changes.

        Raises:
            TemplateError: It is not UTF-8.
        """
        try:
            return super().get_source(environment, template)
        except UnicodeDecodeError as error:
            path = os.path.join(self.searchpath[0], template)
            line = error.object.count(b"\n", 0, error.start) + 1
            raise _UnreadableTemplate(f"{path}:{line}: not UTF-8; save it as UTF-8") from None


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, which asks about an attribute of a type once, not at each use.

    Its answer depends on the object's type and the attribute's name alone, and a sweep renders
    the same few hundred attributes ten thousand times.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._safe: dict[tuple[type, str], bool] = {}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        key = (type(obj), attr)
        if key not in self._safe:
            self._safe[key] = super().is_safe_attribute(obj, attr, value)
        return self._safe[key]

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would fill the memory or never end: the sandbox only caps ``range``."""
        if operator == "*" and _is_long(left, right):
            raise SecurityError("the product is too long")
        are_whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and are_whole and left.bit_length() * right > _MAX_BITS:
            raise SecurityError("the power is too large")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise SecurityError("the formatted text is too long")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        # Plain data needs no asking: the keys of a dict and the fields of a dataclass.
        kind = type(obj)
        if kind is dict:
            if attribute in obj and not hasattr(dict, attribute):
                return obj[attribute]
        elif attribute in getattr(kind, "__dataclass_fields__", ()):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


def quote_sh(value: object) -> str:
    """Quote a value as one word of bash that stays on its line.

    Raises:
        TemplateError: It holds NUL, which no argument can.
    """
    text = value if isinstance(value, str) else str(value)
    if _PLAIN_WORD.fullmatch(text):
        return text
    if "\0" in text:
        raise TemplateError(f"{text!r} holds a NUL character, which no argument can")
    if text.isprintable():
        return shlex.quote(text)
    # bash(1), "QUOTING": $'...' with escapes; a newline or escape code would hide in a script.
    return "$'" + "".join(_ansi_c(c) for c in text) + "'"


def _is_long(left: Any, right: Any) -> bool:
    for many, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(many, (str, list, tuple)):
            return len(many) * times > _MAX_FACTOR
    return False


def _join(pieces: Iterator[str]) -> str:
    """Join what a template gives, until it is more than a script may hold."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size > MAX_SCRIPT_BYTES:
            break  # the check of the script refuses it
    return "".join(kept)


def _ansi_c(char: str) -> str:
    if char in _ANSI_C:
        return _ANSI_C[char]
    if char.isprintable():
        return char
    # Byte by byte: \u would depend on the locale of the shell that reads it.
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def quote_sbatch(value: object) -> str:
    """Quote a value of an ``#SBATCH`` line.

    Raises:
        TemplateError: It holds control characters: a newline would start another directive.
    """
    text = value if isinstance(value, str) else str(value)
    if _PLAIN_DIRECTIVE.fullmatch(text):
        return text
    if not text.isprintable():
        raise TemplateError(f"{text!r} holds control characters; not allowed in an #SBATCH line")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def quote_sbatch_path(value: object) -> str:
    """Quote a path of an ``#SBATCH`` line in which Slurm expands patterns such as ``%j``.

    Raises:
        TemplateError: It holds control characters, or a backslash: Slurm drops it (sbatch(1),
            "filename pattern"), opens a file elsewhere, and the job dies without a word.
    """
    text = str(value)
    if "\\" in text:
        raise TemplateError(
            f"{text!r} holds a backslash, which Slurm drops from the names of logs; "
            "name another folder with RESULTS="
        )
    return quote_sbatch(text.replace("%", "%%"))


def _check_name(value: object) -> str:
    """Return the name of a variable.

    Raises:
        TemplateError: A shell would not take it as one.
    """
    text = str(value)
    if not _NAME.fullmatch(text):
        raise TemplateError(f"{text!r} is no name of a shell variable")
    return text


def _dump_json(value: object) -> str:
    return json.dumps(value, allow_nan=False)

"""Rendering of sbatch scripts from Jinja2 templates. Runs on the login node.

Templates come from people who may not be the sweep's author, so they run in Jinja's immutable
sandbox; values never become template text, and enter a script only through a quoting filter:

``sh``           one word of bash, on one line whatever it holds
``sbatch``       one value of an ``#SBATCH`` line
``sbatch_path``  likewise, where Slurm expands percent signs (``--output``)
``json``         JSON on one line, for comments

A value with control characters is refused in a directive: a newline there would start another.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import (
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
)
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orchestrator.contract.errors import TemplateError, UserError
from orchestrator.contract.file_errors import explain

# sbatch refuses scripts over 4 MB; a script of ours has a few kilobytes.
MAX_SCRIPT_BYTES = 2**20
_PLAIN_DIRECTIVE = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]-]+")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_ANSI_C = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# What an expression in a template can raise; anything else is a mistake of ours.
_TEMPLATE_MISTAKES = (
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
# Each of these may stand once in a script: twice, sbatch silently takes the last.
_ONCE = ("array", "job-name", "requeue", "no-requeue", "signal", "output", "open-mode")
_OPTION = re.compile(r"#SBATCH\s+--([A-Za-z0-9-]+)")


class Renderer:
    """Renders scripts from one folder of templates, each compiled once."""

    def __init__(self, folder: str):
        """Use the templates in ``folder``.

        Raises:
            UserError: There is no such folder.
        """
        if not os.path.isdir(folder):
            raise UserError(f"no templates folder at {folder}; pass --templates FOLDER")
        self._folder = folder
        self._environment = _Sandbox(
            loader=FileSystemLoader(folder),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,  # else each rendering looks at each file again
            autoescape=False,  # bash, not HTML: the filters quote
        )
        self._environment.filters.update(
            sh=quote_sh, sbatch=quote_sbatch, sbatch_path=quote_sbatch_path, json=_dump_json
        )

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """Render one script.

        Raises:
            TemplateError: With the template's file and line: unknown template, syntax error,
                undefined name, refused value, or a script that sbatch would misread.
        """
        try:
            text = _join(self._get(template).generate(context))
        except TemplateNotFound as error:
            raise TemplateError(
                f"no template {error.name} in {self._folder}; it has: {', '.join(self.names())}"
            ) from None
        except TemplateSyntaxError as error:
            raise TemplateError(f"{error.filename}:{error.lineno}: {error.message}") from None
        except OSError as error:
            raise TemplateError(explain(error)) from None
        except _TEMPLATE_MISTAKES as error:
            raise TemplateError(f"{self._line_of(error, template)}: {_words(error)}") from None
        _check_script(text, os.path.join(self._folder, template))
        return text

    def names(self) -> list[str]:
        """Names of the templates in the folder."""
        return sorted(name for name in os.listdir(self._folder) if name.endswith(".j2"))

    def _get(self, template: str) -> Template:
        return self._environment.get_template(template)

    def _line_of(self, error: BaseException, template: str) -> str:
        # Jinja maps its compiled code back: the innermost frame of a template file is the place.
        place = os.path.join(self._folder, template)
        trace = error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if name.endswith(".j2"):
                place = f"{name}:{trace.tb_lineno}"
            trace = trace.tb_next
        return place


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


def _dump_json(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it includes, extends or calls itself without end"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, UndefinedError):
        return f"{error.message}; templates/README.md lists the values a template may use"
    return str(error)


def _once_name(line: str) -> str | None:
    """Return which option of ``_ONCE`` a line states; sbatch takes shortened names too."""
    match = _OPTION.match(line)
    if match is None:
        return None
    short = [name for name in _ONCE if name == match[1] or name.startswith(match[1])]
    return match[1] if match[1] in short else (short[0] if len(short) == 1 else None)


def _check_script(text: str, template: str) -> None:
    """Refuse what sbatch would misread without a word."""
    if len(text) > MAX_SCRIPT_BYTES:
        raise TemplateError(
            f"{template}: the script has more than {MAX_SCRIPT_BYTES} characters; sbatch takes no "
            "such script. Put long values into a file"
        )
    if not text.startswith("#!"):
        raise TemplateError(f"{template}: the script must start with #!/bin/bash")
    if "#SBATCH" not in text:
        return
    seen: set[str] = set()
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if line.startswith("#SBATCH"):
            name = _once_name(line)
            if name in seen:
                raise TemplateError(f"{template}: rendered line {number}: --{name} stands twice")
            seen.update([name] if name else [])
        elif line.strip() and not line.startswith("#"):
            break
    for late, line in enumerate(lines[number:], start=number + 1):
        if line.startswith("#SBATCH"):
            raise TemplateError(
                f"{template}: rendered line {late}: {line!r} stands after the first "
                f"command (line {number}); sbatch would ignore it"
            )

"""What an unquoted scalar means: YAML 1.2's core schema, and what is refused of it.

Pure; used by ``yaml_composer`` and ``overrides``.
"""

from __future__ import annotations

import math
import re
from typing import TypeAlias

from orchestrator.domain.plain_text import one_line

Scalar: TypeAlias = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_OCTAL_1_1 = re.compile(r"[-+]?0[0-9]+")
_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")


def resolve_scalar(text: str) -> Scalar:
    """Read an unquoted scalar by YAML 1.2's core schema.

    Raises:
        ValueError: With the reason and the remedy, for a number that is not finite, too long, or
            read differently by YAML 1.1 and 1.2.
    """
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    if _OCTAL_1_1.fullmatch(text):
        raise ValueError(
            f"{text} is {int(text)} in YAML 1.2 and something else in YAML 1.1; "
            f"write {int(text)}, or '{text}' for text"
        )
    if _INT.fullmatch(text):
        if len(text) > 100:
            raise ValueError(f"a number of {len(text)} digits is not allowed; quote it for text")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"{one_line(text, 40)} is too large for a number; write a smaller one")
        return number
    if _NON_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not allowed; write a finite number, or '{text}' for text")
    if _UNDERSCORED.fullmatch(text):
        plain = text.replace("_", "")
        raise ValueError(
            f"{text} is text in YAML 1.2 and a number in YAML 1.1; "
            f"write {plain}, or '{text}' for text"
        )
    return text


def join_surrogates(text: str) -> str:
    """Join the pairs of escapes by which JSON writes a character beyond the first 65536."""
    if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def text_problem(text: str) -> str | None:
    """Say why a text could not reach the program as it is, or return None."""
    if "\0" in text:
        return "text with a NUL character cannot be passed to a program; remove it"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "text with half a surrogate pair cannot be encoded; write the whole character"
    return None

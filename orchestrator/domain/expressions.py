"""Expressions over a trial's parameters: ``when``, ``where``, ``derived`` and ``resources``.

Pure. An expression is parsed by Python's own parser and then interpreted here, node by node, from
a short list of what is allowed; nothing is ever compiled or evaluated by Python, so there is no
attribute, no import and no call to reach for. (Jinja2's sandbox, which was planned, generates and
executes code, limits neither strings nor powers, and binds ``2 ** 3 ** 2`` to the left.)

Allowed: numbers, text, ``true false none`` (also with capitals), lists; parameter names, dotted for
nested ones (``optim.wd``), ``params['any-name']`` for names that are no identifiers; ``+ - * / // %
**``; comparisons, chains of them, ``in``, ``is none``; ``and or not``; ``a if c else b``; ``x[0]``;
and the functions in ``FUNCTIONS``. A parameter that is inactive in a trial is ``none`` there.
Numbers have at most ``MAX_BITS`` bits and texts ``MAX_TEXT`` characters, so no expression is slow.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.contract.errors import SpecError
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec_tree import nearest, show
from orchestrator.domain.yaml_scalars import text_problem

MAX_SOURCE_CHARS = 2000
MAX_BITS = 2048
MAX_TEXT = 10_000

Values = Mapping[str, Any]
_Run = Callable[[Values], Any]

_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


class _Refused(Exception):
    """An expression that is not allowed or failed; the text says why and what to do."""


def _whole(value: Any) -> int:
    if isinstance(value, str) and len(value) > 300:
        raise _Refused("the text is too long for a number")
    return int(value)


def _round(value: Any, digits: Any = None) -> Any:
    if digits is not None and not -300 <= digits <= 300:
        raise _Refused(f"round takes from -300 to 300 digits, not {show(digits)}")
    return round(value, digits) if digits is not None else round(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "float": float,
    "floor": math.floor,
    "int": _whole,
    "len": len,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "round": _round,
    "sqrt": math.sqrt,
    "str": str,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, (str, list)) and isinstance(b, type(a)) and len(a) + len(b) > MAX_TEXT:
        raise _Refused(f"the result is longer than {MAX_TEXT}")
    return a + b


def _multiply(a: Any, b: Any) -> Any:
    if not (_is_number(a) and _is_number(b)):
        raise _Refused("* takes numbers")
    return a * b


def _remainder(a: Any, b: Any) -> Any:
    if not (_is_number(a) and _is_number(b)):
        raise _Refused("% takes numbers")
    return a % b


def _power(a: Any, b: Any) -> Any:
    if not (_is_number(a) and _is_number(b)):
        raise _Refused("** takes numbers")
    if isinstance(a, int) and isinstance(b, int) and abs(b) * a.bit_length() > MAX_BITS:
        raise _Refused(f"{show(a)} ** {show(b)} is too large, at most {MAX_BITS} bits are allowed")
    result = a**b
    if isinstance(result, complex):
        raise _Refused("a root of a negative number is no number")
    return result


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _remainder,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


@dataclass(frozen=True)
class Expression:
    """A checked expression and the place that its errors name."""

    source: str
    """The expression as it was written."""
    key: str
    """Dotted key it stands at."""
    file: str
    """File, or the command line."""
    line: int | None
    """Line in the file."""
    names: frozenset[str]
    """Dotted names of the parameters that it uses."""
    _run: _Run = field(repr=False, compare=False)

    def evaluate(self, values: Values) -> Any:
        """Return the result, a plain JSON value.

        Args:
            values: Values by dotted name; what is missing is inactive, and ``none``.

        Raises:
            SpecError: It fails with these values, or gives what JSON cannot hold.
        """
        try:
            result = self._run(values)
        except (
            _Refused,
            ArithmeticError,
            TypeError,
            ValueError,
            LookupError,
            RecursionError,
        ) as error:
            raise self.error(f"`{self.shown}` {self._why(error, values)}") from None
        if isinstance(result, float) and not math.isfinite(result):
            raise self.error(
                f"`{self.shown}` gives {result}{self._with(values)}; it must give a finite number"
            )
        if isinstance(result, str) and (problem := text_problem(result)):
            raise self.error(f"`{self.shown}`: {problem}")
        return result

    def is_true(self, values: Values) -> bool:
        """Return the result of a condition.

        Raises:
            SpecError: As ``evaluate``, or the result is neither true nor false.
        """
        result = self.evaluate(values)
        if not isinstance(result, bool):
            raise self.error(
                f"`{self.shown}` gives {show(result)}{self._with(values)}; "
                "write a condition, such as x > 0"
            )
        return result

    def error(self, message: str) -> SpecError:
        """Make the error for this expression's place."""
        return SpecError(message, file=self.file, line=self.line, key=self.key)

    @property
    def shown(self) -> str:
        """The source on one short line."""
        return one_line(self.source, 100)

    def _with(self, values: Values) -> str:
        used = [f"{name} = {show(values[name])}" for name in sorted(self.names) if name in values]
        return f" with {', '.join(used)}" if used else ""

    def _why(self, error: Exception, values: Values) -> str:
        inactive = sorted(name for name in self.names if values.get(name) is None)
        if inactive and isinstance(error, (TypeError, _Refused)):
            return (
                f"needs {inactive[0]}, which is inactive or null{self._with(values)}; "
                f"guard it: ... if {inactive[0]} is not none else ..."
            )
        return f"fails{self._with(values)}: {one_line(str(error))}; correct it"


def compile_expression(
    source: str, *, known: Collection[str], key: str, file: str, line: int | None
) -> Expression:
    """Check an expression and make it ready to be evaluated.

    Args:
        source: The text; a pair of ``{{ }}`` around it is taken off.
        known: Dotted names that it may use.
        key: Dotted key of its place.
        file: File of its place.
        line: Line of its place.

    Raises:
        SpecError: Not an expression, an unknown name (with the nearest known one), or something
            that is not allowed.
    """
    text = source.strip()
    if text.startswith("{{") and text.endswith("}}"):
        text = text[2:-2].strip()
    try:
        compiler = _Compiler(known)
        run = compiler.compile(text)
    except _Refused as refused:
        raise SpecError(
            f"`{one_line(text, 100)}` {refused}", file=file, line=line, key=key
        ) from None
    return Expression(text, key, file, line, frozenset(compiler.names), run)


class _Compiler:
    """Turns a parsed expression into closures over the values."""

    def __init__(self, known: Collection[str]):
        self.known = known
        self.names: set[str] = set()

    def compile(self, text: str) -> _Run:
        if len(text) > MAX_SOURCE_CHARS:
            raise _Refused(f"is longer than {MAX_SOURCE_CHARS} characters; shorten it")
        try:
            with warnings.catch_warnings():  # of odd escapes in a text
                warnings.simplefilter("ignore")
                tree = ast.parse(text, mode="eval").body
            run = self.node(tree)
        except SyntaxError:
            raise _Refused(f"is no expression; {_syntax_hint(text)}") from None
        except (ValueError, RecursionError, MemoryError):
            raise _Refused("is no expression; write it more simply") from None
        return run

    def node(self, node: ast.expr) -> _Run:
        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, (ast.Name, ast.Attribute)):
            return self.name(_dotted(node))
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [self.node(item) for item in node.elts]
            return lambda values: [item(values) for item in items]
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return self.binary(_BINARY[type(node.op)], node)
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            apply, operand = _UNARY[type(node.op)], self.node(node.operand)
            return lambda values: apply(operand(values))
        if isinstance(node, ast.BoolOp):
            return self.boolean(node)
        if isinstance(node, ast.Compare):
            return self.compare(node)
        if isinstance(node, ast.IfExp):
            test, then, other = self.node(node.test), self.node(node.body), self.node(node.orelse)
            return lambda values: then(values) if test(values) else other(values)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Subscript):
            return self.subscript(node)
        kind = type(getattr(node, "op", node)).__name__
        raise _Refused(
            f"uses {kind}, which is not allowed; use numbers, text, names, operators and functions"
        )

    def constant(self, node: ast.Constant) -> _Run:
        value = node.value
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise _Refused(f"uses {type(value).__name__}, which is not allowed; use numbers")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise _Refused("has a number that is too large; write a smaller one")
        return lambda values: value

    def name(self, name: str) -> _Run:
        if name in self.known:
            self.names.add(name)
            return lambda values: values.get(name)
        if name.lower() in _CONSTANTS:
            constant = _CONSTANTS[name.lower()]
            return lambda values: constant
        if name in FUNCTIONS:
            raise _Refused(f"needs brackets after {name}; write {name}(...)")
        hint = nearest(name, self.known) or f"quote it if it is text: '{name}'; "
        known = ", ".join(list(self.known)[:12]) + (", ..." if len(self.known) > 12 else "")
        raise _Refused(f"has the unknown name {name}; {hint}known are {known or 'no parameters'}")

    def binary(self, apply: Callable[[Any, Any], Any], node: ast.BinOp) -> _Run:
        left, right = self.node(node.left), self.node(node.right)

        def run(values: Values) -> Any:
            result = apply(left(values), right(values))
            if type(result) is int and result.bit_length() > MAX_BITS:
                raise _Refused(f"a number grows beyond {MAX_BITS} bits")
            return result

        return run

    def boolean(self, node: ast.BoolOp) -> _Run:
        parts = [self.node(part) for part in node.values]
        stop = isinstance(node.op, ast.Or)  # `or` ends with the first true part, `and` false

        def run(values: Values) -> Any:
            result: Any = None
            for part in parts:
                result = part(values)
                if bool(result) == stop:
                    break
            return result

        return run

    def compare(self, node: ast.Compare) -> _Run:
        operands = [self.node(part) for part in (node.left, *node.comparators)]
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.Is, ast.IsNot)) and not _is_singleton(right):
                raise _Refused("compares with `is`; use ==, or `is none`")
        pairs = [
            (_COMPARE[type(op)], operands[i], operands[i + 1]) for i, op in enumerate(node.ops)
        ]
        if len(pairs) == 1:
            apply, a, b = pairs[0]
            return lambda values: apply(a(values), b(values))
        return lambda values: all(apply(a(values), b(values)) for apply, a, b in pairs)

    def call(self, node: ast.Call) -> _Run:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            shown = name or "that"
            raise _Refused(
                f"calls {shown}, which is no function here; {nearest(name, FUNCTIONS)}"
                f"use {', '.join(FUNCTIONS)}"
            )
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            raise _Refused(f"gives {name} more than plain arguments; write {name}(x)")
        function, args = FUNCTIONS[name], [self.node(arg) for arg in node.args]
        return lambda values: function(*(arg(values) for arg in args))

    def subscript(self, node: ast.Subscript) -> _Run:
        is_params = isinstance(node.value, ast.Name) and node.value.id == "params"
        if is_params and "params" not in self.known:
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                return self.name(node.slice.value)
            raise _Refused("needs a quoted name in params[...]; write params['name']")
        if isinstance(node.slice, ast.Slice):
            raise _Refused("takes a slice; use one index, such as x[0]")
        value, index = self.node(node.value), self.node(node.slice)
        return lambda values: value(values)[index(values)]


def _dotted(node: ast.Name | ast.Attribute) -> str:
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name):
        raise _Refused("takes an attribute of a value; use parameter names only")
    return ".".join([inner.id, *reversed(parts)])


def _is_singleton(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, bool)
    return isinstance(node, ast.Name) and node.id.lower() in _CONSTANTS


def _syntax_hint(text: str) -> str:
    if "&&" in text or "||" in text or "!" in text.replace("!=", ""):
        return "use and, or, not"
    if "=" in text.replace("==", "").replace("<=", "").replace(">=", "").replace("!=", ""):
        return "use == to compare"
    return "correct it, such as x > 0 and y == 'a'"

"""Command-line arguments of ``train/main.py``: what is known, and what is refused.

Standard library only, so that a misspelt argument is refused in milliseconds, before torch loads.
Called by ``main.py`` on the compute node.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from machine import Machine
from options import batch, checkpoints, data, evaluation, model, optimizer, precision, run, steps

_GROUPS = (model, data, batch, steps, optimizer, precision, evaluation, checkpoints, run)


class ArgumentMistake(Exception):
    """A user's mistake in an argument, the data or the model: one line, exit code 2."""


# The last base comes first in --help.
@dataclasses.dataclass(frozen=True)
class Arguments(
    run.RunOptions,
    checkpoints.CheckpointOptions,
    evaluation.EvaluationOptions,
    precision.PrecisionOptions,
    optimizer.OptimizerOptions,
    steps.StepOptions,
    batch.BatchOptions,
    data.DataOptions,
    model.ModelOptions,
):
    """The arguments as typed. The text under each field is also its ``--help``."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Parse and check the command line.

    Raises:
        ArgumentMistake: Unknown argument, wrong type, or a value that is not allowed.
        SystemExit: ``--help``.
    """
    parser = _Parser(
        prog="train/main.py", allow_abbrev=False, description="Train a model; see train/README.md."
    )
    docs = _field_docs() if {"-h", "--help"} & set(argv) else {}
    for field in dataclasses.fields(Arguments):
        parser.add_argument(
            f"--{field.name}",
            type=_TYPES[str(field.type)],
            default=field.default,
            help=f"{docs.get(field.name)} Default: {field.default!r}",
            metavar=field.name.upper(),
        )
    namespace, unknown = parser.parse_known_args(list(argv))
    if unknown:
        raise ArgumentMistake(_explain_unknown(unknown[0]))
    arguments = Arguments(**vars(namespace))
    _check(arguments)
    refuse_mistakes(arguments, Machine())
    return arguments


def _check(arguments: Arguments) -> None:
    for group in _GROUPS:
        for name, allowed in getattr(group, "CHOICES", {}).items():
            value = getattr(arguments, name)
            if value not in allowed:
                raise ArgumentMistake(f"--{name}={value}: not known; allowed: {', '.join(allowed)}")
        for name, least in getattr(group, "AT_LEAST", {}).items():
            value = getattr(arguments, name)
            if not value >= least or math.isinf(value):  # also refuses NaN
                raise ArgumentMistake(f"--{name}={value}: use a number of at least {least}")


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work together, or not on this machine, a line each."""
    for group in _GROUPS:
        if hasattr(group, "find_mistakes"):
            yield from group.find_mistakes(arguments, machine)


def refuse_mistakes(arguments: Arguments, machine: Machine) -> None:
    """Raise the first mistake.

    Raises:
        ArgumentMistake: There is one.
    """
    for mistake in find_mistakes(arguments, machine):
        raise ArgumentMistake(mistake)


def whole_number(text: str) -> int:
    """Read a whole number; ``2e3`` and ``16.0`` are fine, ``1.5`` is not."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise ValueError(text) from None
        return int(value)


def truth(text: str) -> bool:
    """Read ``true`` or ``false`` in any spelling that YAML and Python use."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words[text.lower()] if text.lower() in words else _raise(ValueError(text))


def _raise(error: Exception) -> NoReturn:
    raise error


_TYPES: dict[str, Any] = {"int": whole_number, "float": float, "str": str, "bool": truth}


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of usage and traceback."""

    def error(self, message: str) -> NoReturn:
        raise ArgumentMistake(message)


def _explain_unknown(word: str) -> str:
    name = word.partition("=")[0]
    known = [f"--{field.name}" for field in dataclasses.fields(Arguments)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see --help"
    return f"unknown argument {name}{hint}"


def _field_docs() -> dict[str, str]:
    """Read the string under each field of ``Arguments``, so that every text stands once."""
    import ast  # lazy: only for --help and never on a trial's way
    import inspect
    import itertools

    docs = {}
    for group in Arguments.__bases__:
        body = ast.parse(inspect.getsource(group)).body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                docs[field.target.id] = text.value.value.replace("%", "%%")  # type: ignore
    return docs


def fail(message: str, code: int) -> NoReturn:
    """End the program with one line on standard error."""
    sys.stderr.write(f"train/main.py: {message}\n")
    sys.exit(code)

"""Command-line arguments of ``train/main.py``: what is known, and what is refused.

Standard library only, so that a misspelt argument is refused in milliseconds, before torch loads.
Called by ``main.py`` on the compute node.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import aliases
import hub
import surroundings
from machine import Machine
from options import (
    batch,
    checkpoints,
    curriculum,
    data,
    evaluation,
    finetuning,
    model,
    optimizer,
    precision,
    run,
    steps,
    stopping,
)

_GROUPS = (
    model,
    finetuning,
    data,
    batch,
    curriculum,
    steps,
    stopping,
    optimizer,
    precision,
    evaluation,
    checkpoints,
    run,
)


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
    stopping.StoppingOptions,
    steps.StepOptions,
    curriculum.CurriculumOptions,
    batch.BatchOptions,
    data.DataOptions,
    finetuning.FinetuningOptions,
    model.ModelOptions,
):
    """The arguments as typed. The text under each field is also its ``--help``."""


def parse_arguments(argv: Sequence[str], machine: Machine | None = None) -> Arguments:
    """Parse the command line, and refuse what cannot work on a machine (None: not known yet).

    Raises:
        ArgumentMistake: Unknown argument, wrong type, a value that is not allowed, or arguments
            that do not go together.
        SystemExit: ``--help``.
    """
    arguments, notes = read_arguments(argv, int(os.environ.get("WORLD_SIZE", "1")))
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write("".join(f"train/main.py: {note}\n" for note in notes))
    refuse_mistakes(arguments, machine or Machine())
    if missing := find_missing_model(arguments):
        raise ArgumentMistake(missing)
    if arguments.chat_template and not os.path.isfile(arguments.chat_template):
        raise ArgumentMistake(f"--chat_template={arguments.chat_template}: no such file")
    return arguments


def find_missing_model(arguments: Arguments) -> str:
    """Say that a model is not at hand; empty if it is."""
    name = arguments.model
    if os.path.isdir(name) or name in model.PRESETS:
        return ""
    if hub.is_name(name):
        return hub.explain_missing(name, os.environ)
    return (
        f"--model={name}: neither {' nor '.join(model.PRESETS)} nor a local directory; give one of "
        "them, a directory with config.json, weights and tokenizer, or org/name as on the hub"
    )


def read_arguments(argv: Sequence[str], world_size: int = 1) -> tuple[Arguments, tuple[str, ...]]:
    """Parse the command line, in our names or in those of ``aliases``; check each by itself.

    Args:
        argv: The words.
        world_size: Ranks, for what is given per device.

    Returns:
        The arguments, and what was not taken word by word, in lines for people.

    Raises:
        ArgumentMistake: Unknown argument, wrong type, or a value that is not allowed.
        SystemExit: ``--help``.
    """
    try:
        translated = aliases.translate(argv, _field_types(), world_size)
    except aliases.AliasMistake as error:
        raise ArgumentMistake(str(error)) from None
    parser = _make_parser(bool({"-h", "--help"} & set(argv)))
    namespace, unknown = parser.parse_known_args(list(translated.words))
    if unknown:
        raise ArgumentMistake(_explain_unknown(unknown[0]))
    arguments = Arguments(**vars(namespace))
    _check(arguments)
    if not os.path.isdir(arguments.model):  # a directory by that name comes first
        directory = hub.find_model(arguments.model, os.environ)
        arguments = dataclasses.replace(arguments, model=directory or arguments.model)
    return arguments, translated.notes


@functools.cache
def _field_types() -> dict[str, str]:
    return {field.name: str(field.type) for field in dataclasses.fields(Arguments)}


@functools.cache
def _make_parser(has_help: bool) -> _Parser:
    parser = _Parser(
        prog="train/main.py",
        usage="train/main.py [--ARGUMENT=VALUE ...]",
        allow_abbrev=False,
        description="Train a model; see train/README.md.",
    )
    docs = _field_docs() if has_help else {}
    for options in reversed(Arguments.__bases__):
        group = parser.add_argument_group((options.__doc__ or "").splitlines()[0].rstrip("."))
        for field in dataclasses.fields(options):
            default = "" if field.default == "" else f" Default: {field.default}"
            group.add_argument(
                f"--{field.name}",
                type=_reader(field),
                default=field.default,
                help=f"{docs.get(field.name)}{default}",
                metavar=field.type.upper() if isinstance(field.type, str) else "VALUE",
            )
    return parser


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


def may_change() -> frozenset[str]:
    """Name the arguments that may differ between the attempts of one training."""
    return frozenset(name for group in _GROUPS for name in getattr(group, "MAY_CHANGE", ()))


def refuse_mistakes(arguments: Arguments, machine: Machine) -> None:
    """Raise the first mistake; on this machine, also one of what is around the trial.

    Raises:
        ArgumentMistake: There is one.
    """
    for mistake in find_mistakes(arguments, machine):
        raise ArgumentMistake(mistake)
    if machine.is_here:
        for mistake in surroundings.find_mistakes(arguments, machine, os.environ):
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


def _reader(field: dataclasses.Field[Any]) -> Any:
    """Pick what reads a value; the optimizer's names have aliases, and any case will do."""
    if field.name in optimizer.CHOICES:
        return functools.partial(optimizer.spell, field.name)
    return _TYPES[str(field.type)]


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of usage and traceback."""

    def error(self, message: str) -> NoReturn:
        raise ArgumentMistake(message)


def _explain_unknown(word: str) -> str:
    name = word.partition("=")[0]
    near = aliases.nearest(name.removeprefix("--"), _field_types())
    hint = f"; did you mean --{near}?" if near else "; see --help"
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

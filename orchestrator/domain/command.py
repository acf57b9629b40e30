"""The program's command line: an argument list, never a line for a shell.

Pure. The macros are those of Weights & Biases (wandb, ``sdk/launch/sweeps/utils.py``): a word that
is a macro is replaced by its words, a macro within a word by its one value. Differences:

- nested parameters become ``--optim.wd=0.1`` (there: one Python dictionary);
- ``${envvar:NAME}`` is looked up when the trial's script is written, in the spec's ``env`` and then
  in ``environ``; a variable that is not set is an error (there: its name);
- an unknown macro that is a whole word is an error (there: silently nothing).

Values as text: numbers as Python writes them (``1e-05``), ``True`` and ``False``, ``None``, text as
it is, lists and mappings as compact JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_tree import nearest, or_list
from orchestrator.domain.trials import Trial

_MACRO = re.compile(r"\$\{([a-z_]+)\}")
_ENVIRONMENT = re.compile(r"\$\{envvar:([A-Za-z_][A-Za-z0-9_]*)\}")
_LISTS = (
    "args",
    "args_no_equals",
    "args_no_hyphens",
    "args_no_boolean_flags",
    "args_append_hydra",
    "args_override_hydra",
)
_SINGLE = ("env", "interpreter", "program", "args_json", "args_json_file")


def build_command(
    spec: SweepSpec,
    trial: Trial,
    *,
    params_path: str,
    interpreter: str,
    environ: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the words that start the program of a trial.

    Without a ``command`` a ``.py`` program runs under the interpreter, a ``.sh`` program under
    bash, and any other as it is.

    Args:
        spec: The sweep.
        trial: One of its trials.
        params_path: Path of the trial's parameters file, for ``${args_json_file}``.
        interpreter: The Python to use, for ``${interpreter}``.
        environ: Variables for ``${envvar:NAME}`` beside those of the spec.

    Raises:
        SpecError: An unknown macro, or a variable that is not set.
    """
    named = list(named_values(spec, trial))
    program = spec.program or ""
    if spec.command is None:
        runner = [interpreter] if program.endswith(".py") else []
        runner = ["bash"] if program.endswith(".sh") else runner
        return [*runner, program, *_arguments("args", named)]
    single = {
        "env": "/usr/bin/env",
        "interpreter": interpreter,
        "program": program,
        "args_json": _json(trial.params),
        "args_json_file": params_path,
    }
    variables = {**(environ or {}), **spec.env}
    words: list[str] = []
    for word in spec.command:
        words += _expand(spec, word, single, named, variables)
    return words


def named_values(spec: SweepSpec, trial: Trial) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each active parameter, in the spec's order.

    What the spec does not name comes last: the seed, and what a trial on a fresh seed has of an
    earlier version of the spec.
    """
    known: set[tuple[str, ...]] = {(item.name,) for item in spec.derived}
    for parameter in spec.parameters:
        value: Any = trial.params
        for key in parameter.path:
            if not isinstance(value, Mapping) or key not in value:
                break
            value = value[key]
        else:
            known.add(parameter.path)
            yield parameter.name, value
    for item in spec.derived:
        if item.name in trial.params:
            yield item.name, trial.params[item.name]
    yield from _left_over(trial.params, known, ())


def _left_over(
    params: Mapping[str, Any], known: Set[tuple[str, ...]], above: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        path = (*above, key)
        if path in known:
            continue
        if isinstance(value, Mapping) and value:
            yield from _left_over(value, known, path)
        else:
            yield ".".join(path), value


def argument_text(value: Any) -> str:
    """Return a parameter's value as a program's argument."""
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    return _json(value) if isinstance(value, (list, Mapping)) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _arguments(macro: str, named: list[tuple[str, Any]]) -> list[str]:
    pairs = [(name, argument_text(value)) for name, value in named]
    if macro == "args_no_equals":
        return [word for name, text in pairs for word in (f"--{name}", text)]
    if macro == "args_no_boolean_flags":
        return [
            f"--{name}" if value is True else f"--{name}={argument_text(value)}"
            for name, value in named
            if value is not False
        ]
    prefixes = {"args_no_hyphens": "", "args_append_hydra": "+", "args_override_hydra": "++"}
    prefix = prefixes.get(macro, "--")
    return [f"{prefix}{name}={text}" for name, text in pairs]


def _expand(
    spec: SweepSpec,
    word: str,
    single: Mapping[str, str],
    named: list[tuple[str, Any]],
    variables: Mapping[str, str],
) -> list[str]:
    whole = _MACRO.fullmatch(word)
    if whole and whole[1] in _LISTS:
        return _arguments(whole[1], named)
    if whole and whole[1] not in single:
        known = [f"${{{name}}}" for name in (*_SINGLE, *_LISTS)] + ["${envvar:NAME}"]
        hint = nearest(word, known)
        raise spec.error("command", f"{word} is no macro; {hint}use {or_list(known)}")

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if match[2] is not None:
            if name not in variables:
                raise spec.error(
                    "command", f"the variable {name} is not set; set it, or state it below env:"
                )
            return variables[name]
        if name in _LISTS:
            raise spec.error("command", f"${{{name}}} is several words; let it stand alone")
        return single.get(name, match[0])

    return [re.sub(f"{_MACRO.pattern}|{_ENVIRONMENT.pattern}", value, word)]

"""Says before a sweep is submitted which of its trials cannot work; ``orchestrator`` asks it.

Runs on the login node, without torch: standard library only. Reads a JSON line for each trial and
writes one for each objection; see ``check:`` in the project's README. What it knows: the arguments
of ``main.py``, how they go together, with the machine that the sweep asks for and with the
DeepSpeed configuration. What it does not: what is in a model or in the data, and memory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from arguments import ArgumentMistake, Arguments, find_missing_model, find_mistakes, read_arguments
from hub import is_name
from machine import Machine
from plans import plan_batch, plan_steps

PROGRAM = "main.py"
_FILES = ("data", "eval_data", "chat_template")


def judge(argv: list[str], asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each objection to a trial: ``mistake`` or ``warning``, and a line.

    Args:
        argv: The arguments of ``main.py``.
        asked: The trial's machine; what is unknown is None or absent.
    """
    ranks, gpus = asked.get("ranks"), asked.get("gpus")
    machine = Machine(ranks, None if gpus is None else gpus > 0)
    try:
        arguments, _ = read_arguments(argv, ranks or 1)
    except ArgumentMistake as error:
        yield "mistake", str(error)
        return
    except SystemExit:  # --help
        return
    for mistake in find_mistakes(arguments, machine):
        yield "mistake", mistake
    if ranks is not None:
        try:
            plan_batch(arguments, ranks)
        except ArgumentMistake as error:
            yield "mistake", str(error)
        if gpus and ranks > gpus * (asked.get("nodes") or 1):
            yield "warning", f"{ranks} ranks share {gpus * (asked.get('nodes') or 1)} GPUs"
    yield from _find_missing(arguments)
    yield from _find_idle(arguments, argv)
    plan = plan_steps(arguments, 1)
    if not arguments.epochs and plan.warmup_steps >= plan.max_steps:
        yield (
            "warning",
            f"{plan.warmup_steps} warm-up steps of {plan.max_steps}: the learning rate does not "
            "reach its peak",
        )


def _find_idle(arguments: Arguments, argv: list[str]) -> Iterator[tuple[str, str]]:
    """Look for what changes nothing, so that a grid over it pays for the same training twice."""
    if arguments.finetuning != "full":
        return
    for word in argv:
        if word.startswith("--lora_"):
            name = word.partition("=")[0]
            yield (
                "warning",
                f"{name} means nothing with --finetuning=full; in a sweep over both, give it "
                "under `when:`",
            )


def _find_missing(arguments: Arguments) -> Iterator[tuple[str, str]]:
    """Look for the files; an absolute path may exist on the compute nodes alone, like a cache."""
    if missing := find_missing_model(arguments):
        is_elsewhere = os.path.isabs(arguments.model) or is_name(arguments.model)
        yield ("warning", f"on this machine {missing}") if is_elsewhere else ("mistake", missing)
    places = ((n, p) for n in _FILES for p in getattr(arguments, n).split(","))
    for name, path in places:
        if "/" not in path and "." not in path:
            continue  # a name of ours, or nothing
        if not os.path.exists(path):
            if os.path.isabs(path):
                yield "warning", f"--{name}={path}: not on this machine; have the nodes it?"
            else:
                yield "mistake", f"--{name}={path}: no such file or directory"


def main() -> None:
    """Answer every line of standard input."""
    for line in sys.stdin:
        trial = json.loads(line)
        if os.path.basename(trial["script"]) != PROGRAM:
            continue
        for kind, text in judge(trial["argv"], trial["machine"]):
            print(json.dumps({"trial": trial["trial"], kind: text}), flush=True)


if __name__ == "__main__":
    main()

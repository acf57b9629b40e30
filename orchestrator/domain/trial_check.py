"""What a check of trials is asked, and what its answers say. Pure.

A check is any program that knows before a trial starts that it cannot work, such as
``train/check_trials.py``. It reads a JSON line for each trial and writes one for each objection:

    {"trial": 3, "command": ["python", "train/main.py", "--lr=1"], "script": "train/main.py",
     "argv": ["--lr=1"], "params": {"lr": 1}, "machine": {"cluster": "slurm", "partition": "spot",
     "nodes": 1, "gpus": 8, "gpu_type": null, "cpus": 64, "mem_gb": 512.0, "ranks": 8}}

    {"trial": 3, "mistake": "--lr=1: use a number below 1"}      it cannot work
    {"trial": 3, "warning": "..."}                               it can, but look at it

``trial`` is the trial's number in the spec's order; ``script`` is the last script that the command
names by itself, or its first word; ``argv`` are the words after it. GPUs, CPUs and memory are per
node. What is not known is null. Of scripts that it does not know a check says nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.partition import JobShape
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.spec import SweepSpec

# A check beside a program that is used without being named: no name that another script has.
DEFAULT_NAME = "check_trials.py"
MAX_GROUPS = 20
_SCRIPTS = (".py", ".sh")
# Launchers' options for the ranks of a node: train/launch.py, torchrun (both ways), DeepSpeed.
_PER_NODE = ("--ranks", "--nproc_per_node", "--nproc-per-node", "--num_gpus")
_NODES = ("--nnodes", "--num_nodes")
_TOTAL = ("--num_processes",)  # accelerate
# They take their number of tasks from the job as well.
_UNKNOWN = ("srun", "mpirun", "mpiexec")


@dataclass(frozen=True)
class CheckAnswer:
    """What a check objects to; each thing is said once, with the trials that it is about."""

    problems: tuple[str, ...] = ()
    """Why trials cannot work."""
    warnings: tuple[str, ...] = ()
    """What deserves a look, or went wrong with the check."""


def scripts_of(spec: SweepSpec) -> list[str]:
    """Return the scripts that the command names by itself, not by a parameter's value."""
    program = spec.program or ""
    if spec.command is None:
        return [program]
    words = [word.replace("${program}", program) for word in spec.command]
    return [
        word
        for word in words
        if word and not word.startswith("-") and (word == program or word.endswith(_SCRIPTS))
    ]


def split_command(spec: SweepSpec, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a trial's command after its last script: ``launch.py --ranks=2 main.py | --lr=1``.

    Without a script (``python -m package``) the arguments are all that follows the first word.
    """
    known = set(scripts_of(spec))
    last = max((i for i, word in enumerate(words) if word in known), default=0)
    return list(words[: last + 1]), list(words[last + 1 :])


def count_ranks(launcher: Sequence[str], shape: JobShape | None) -> int | None:
    """Count the processes that a launcher starts on all nodes, by its own options.

    Args:
        launcher: The command up to its last script.
        shape: What the job asks for; None: not known.

    Returns:
        1 without a launcher; None where the command alone does not say.
    """
    names = {os.path.basename(word) for word in launcher}
    if names & set(_UNKNOWN):
        return None
    gpus = shape.gpus or None if shape is not None else None
    total = _option(launcher, _TOTAL)
    if total is not None:
        return _number(total, gpus)
    nodes = _number(_option(launcher, _NODES) or "1", None)
    if (per_node := _option(launcher, _PER_NODE)) is None:
        each = gpus if "deepspeed" in names else 1  # it takes all that it finds
    else:
        each = _number(per_node, gpus)
    return None if each is None or nodes is None else each * nodes


def as_question(
    number: int,
    spec: SweepSpec,
    words: Sequence[str],
    params: Mapping[str, Any],
    machine: Mapping[str, Any],
    shape: JobShape | None,
) -> str:
    """Return the line that asks about a trial.

    Args:
        number: Its number in the spec's order.
        spec: The sweep.
        words: Its command.
        params: Its parameters.
        machine: Cluster and partition.
        shape: What its job asks for; None: not known.
    """
    launcher, argv = split_command(spec, words)
    asked: dict[str, Any] = dict.fromkeys(("nodes", "gpus", "gpu_type", "cpus", "mem_gb"))
    if shape is not None:
        asked |= {
            "nodes": shape.nodes,
            # On this machine nobody takes GPUs from a trial that asks for none.
            "gpus": shape.gpus or None if machine.get("cluster") == "local" else shape.gpus,
            "gpu_type": shape.gpu_type,
            "cpus": shape.cpus,
            "mem_gb": None if shape.mem_mb is None else shape.mem_mb / 1024,
        }
    question = {
        "trial": number,
        "command": list(words),
        "script": launcher[-1],
        "argv": argv,
        "params": dict(params),
        "machine": {**machine, **asked, "ranks": count_ranks(launcher, shape)},
    }
    return json.dumps(question) + "\n"


def read_answers(text: str, n_trials: int, name: str) -> CheckAnswer:
    """Read what a check has written, and say each thing once.

    Args:
        text: Its standard output.
        n_trials: Trials that it was asked about, numbered from 0.
        name: The check, for warnings.
    """
    said: dict[str, dict[str, dict[int, None]]] = {"mistake": {}, "warning": {}}
    strange: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        found = _read_answer(line, n_trials)
        if found is None:
            strange.append(line)
            continue
        for kind in said.keys() & found.keys():
            said[kind].setdefault(one_line(found[kind], 600), {})[found["trial"]] = None
    warnings = _in_words(said["warning"], n_trials)
    if strange:
        count = f"{len(strange)} lines that are" if len(strange) > 1 else "a line that is"
        warnings.append(f"{name} wrote {count} no answer: {one_line(strange[0], 100)}")
    return CheckAnswer(tuple(_in_words(said["mistake"], n_trials)), tuple(warnings))


def _read_answer(line: str, n_trials: int) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    number = found.get("trial")
    is_trial = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < n_trials
    texts = [found[kind] for kind in ("mistake", "warning") if kind in found]
    is_text = all(isinstance(text, str) and text.strip() for text in texts)
    return found if is_trial and is_text else None


def _in_words(said: Mapping[str, Iterable[int]], n_trials: int) -> list[str]:
    lines = [f"{_who(sorted(who), n_trials)}: {text}" for text, who in said.items()]
    if len(lines) > MAX_GROUPS:
        lines[MAX_GROUPS:] = [f"and {len(lines) - MAX_GROUPS} more of the kind"]
    return lines


def _who(numbers: list[int], n_trials: int) -> str:
    if len(numbers) == n_trials:
        return f"all {n_trials} trials" if n_trials > 1 else "the trial"
    if len(numbers) == 1:
        return f"trial {numbers[0]} of {n_trials}"
    shown = ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
    return f"{len(numbers)} of {n_trials} trials ({shown})"


def _option(words: Sequence[str], names: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else next(iter(words[i + 1 : i + 2]), "")
    return None


def _number(text: str, gpus: int | None) -> int | None:
    if text in ("gpu", "auto"):
        return gpus
    return int(text) if text.isdigit() and int(text) else None

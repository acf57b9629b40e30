"""Asking a sweep's check whether its trials can work, before anything is submitted. Login node.

The check is the program that ``check:`` names, else ``check_trials.py`` beside a script of the
command. It runs once for all trials, in the directory that they start in, under the orchestrator's
own Python. ``domain.trial_check`` has the protocol.

What it objects to is the user's mistake. What goes wrong with the check itself is a warning: it
never stands in the way, and never is left out in silence. What trials find on their node only (the
shell lines of ``environment:``, modules, files that the login node does not see) it cannot know.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable

from orchestrator.adapters.check_process import run_check
from orchestrator.contract.errors import UserError
from orchestrator.domain.command import build_command
from orchestrator.domain.placement import Place
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trial_check import (
    DEFAULT_NAME,
    CheckAnswer,
    as_question,
    read_answers,
    scripts_of,
)
from orchestrator.domain.trials import Trial
from orchestrator.usecases.scripts import workdir

# Ten thousand trials of train/main.py take a tenth of it.
TIMEOUT_S = 120.0


def check_trials(
    spec: SweepSpec, trials: Iterable[tuple[Trial, tuple[Place, ...]]], cluster: str
) -> CheckAnswer:
    """Ask the sweep's check about its trials; nothing to say where there is none.

    Args:
        spec: The sweep.
        trials: Its trials, each with the partitions that it fits, the preferred one first.
        cluster: ``slurm``, ``local`` or ``profile``.

    Raises:
        SpecError: ``check:`` names what is not there, or the command does not render.
    """
    words = find_check(spec)
    if not words:
        return CheckAnswer()
    questions = []
    for number, (trial, places) in enumerate(trials):
        place = places[0] if places else None
        machine = {"cluster": cluster, "partition": None if place is None else place.name}
        shape = None if place is None else place.shape
        command = build_command(
            spec, trial, params_path="params.json", interpreter="python", environ=os.environ
        )
        questions.append(as_question(number, spec, command, trial.params, machine, shape))
    name = os.path.relpath(words[-1]) if spec.check is None else " ".join(spec.check)
    done = run_check(
        words,
        "".join(questions),
        workdir(spec),
        # It leaves nothing behind, not even what Python would keep of its imports.
        {**os.environ, **spec.env, "PYTHONDONTWRITEBYTECODE": "1"},
        TIMEOUT_S,
    )
    answer = read_answers(done.output, len(questions), name)
    if not done.failure:
        return answer
    missed = f"{name} {done.failure}; what it did not say of the trials is not known"
    return CheckAnswer(answer.problems, (*answer.warnings, missed))


def refuse_hopeless(
    spec: SweepSpec, trials: Iterable[tuple[Trial, tuple[Place, ...]]], cluster: str
) -> tuple[str, ...]:
    """Refuse trials that cannot work; return what deserves a look.

    Raises:
        UserError: Its check objects to a trial.
    """
    answer = check_trials(spec, trials, cluster)
    if answer.problems:
        first, *others = answer.problems
        more = f" (make plan shows {len(others)} more)" if others else ""
        raise UserError(f"{spec.file}: {first}{more}; nothing was submitted")
    return answer.warnings


def find_check(spec: SweepSpec) -> list[str]:
    """Return the words that start the sweep's check; none if it has none.

    Raises:
        SpecError: ``check:`` names what is not there.
    """
    folder = workdir(spec)
    if spec.check is None:
        found = (
            os.path.join(folder, os.path.dirname(script), DEFAULT_NAME)
            for script in reversed(scripts_of(spec))
            if script.endswith(".py")
        )
        path = next(filter(os.path.isfile, found), None)
        return [sys.executable, path] if path else []
    if not spec.check:
        return []
    program, *rest = spec.check
    is_file = "/" in program or program.endswith((".py", ".sh"))
    place = os.path.join(folder, program) if is_file else shutil.which(program)
    if place is None or not os.path.isfile(place):
        where = folder if is_file else "PATH"
        raise spec.error("check", f"no file {program!r} in {where}; name one, or use none")
    runner = [sys.executable] if program.endswith(".py") else []
    runner = ["bash"] if program.endswith(".sh") else runner
    return [*runner, place, *rest]

"""The canaries' verdicts, and letting the rest of the sweep go once all have passed.

Used on compute nodes by the canary's own attempt, so that nobody needs to be logged in, and on the
login node by ``usecases.canary``, which does what a node could not. A verdict is
``gate/canary/<trial>.json``, published by ``link(2)``: ``trial, attempt, passed, reason, notes,
at``. A failed one is retired by ``make release``, and the trial has to show again what it can do.

The rest waits in Slurm's queue, held by its submission; a note of ``gate.note_held`` for each such
array, written before sbatch is called, tells that it is ours to release. Whoever submits one looks
at the verdicts then; whoever passes writes a verdict and looks at the queue then: so one of the two
lets it go, whichever comes last. The notes are removed on the login node, which knows what sbatch
has answered.
"""

from __future__ import annotations

import os

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.records import dump_record, read_record
from orchestrator.runtime import durable, gate
from orchestrator.runtime.claim import make_folder, utc_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# The key of ``gate/rules.json``: ``trials, checkpoint, metric``.
RULE = "canary"
# Begins the names of the notes about what waits for a canary.
NOTE = "canary-"


def canary_rule(rules: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what ``gate/rules.json`` says about canaries; None if it says nothing usable."""
    rule = rules.get(RULE) if rules else None
    if not isinstance(rule, dict) or not isinstance(rule.get("trials"), list):
        return None
    return {**rule, "trials": [name for name in rule["trials"] if isinstance(name, str)]}


def read_verdicts(sweep_root: str) -> dict[str, dict[str, Any]]:
    """Read the verdicts by trial; retired ones count for nothing, unreadable ones as failed."""
    folder = gate.gate_of(sweep_root).canary
    try:
        names = os.listdir(folder)
    except OSError:
        return {}
    verdicts: dict[str, dict[str, Any]] = {}
    for name in names:
        if name.endswith(".json") and not name.startswith("."):
            try:
                record = read_record(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            except (OSError, CorruptRecord) as error:
                record = {"passed": False, "reason": str(error)}
            verdicts[name.removesuffix(".json")] = record
    return verdicts


def former_canaries(sweep_root: str) -> set[str]:
    """Names of the trials whose verdict was retired."""
    try:
        names = os.listdir(gate.gate_of(sweep_root).canary)
    except OSError:
        return set()
    return {name.partition(".")[0] for name in names if ".retired-" in name} - {""}


def publish_verdict(
    sweep_root: str, trial: str, attempt: int, passed: bool, reason: str, notes: Iterable[str] = ()
) -> bool:
    """Publish a canary's verdict; the first one stands.

    Returns:
        Whether it is this one.

    Raises:
        OSError: It cannot be written.
    """
    paths = gate.gate_of(sweep_root)
    make_folder(paths.root)
    make_folder(paths.canary)
    record = {
        "trial": trial,
        "attempt": attempt,
        "passed": passed,
        "reason": reason,
        "notes": list(notes),
        "at": utc_now(),
    }
    return durable.publish(f"{paths.canary}/{trial}.json", dump_record(record))


def retire_failures(sweep_root: str) -> list[str]:
    """Put failed verdicts aside, so that their trials are canaries again.

    Returns:
        Names of those trials.

    Raises:
        OSError: One cannot be renamed.
    """
    folder = gate.gate_of(sweep_root).canary
    retired = []
    for trial, verdict in read_verdicts(sweep_root).items():
        if verdict.get("passed") is True:
            continue
        number = 1
        while os.path.lexists(f"{folder}/{trial}.retired-{number}"):
            number += 1
        os.rename(f"{folder}/{trial}.json", f"{folder}/{trial}.retired-{number}")
        retired.append(trial)
    if retired:
        durable.sync_directory(folder)
    return retired


def pending(sweep_root: str) -> tuple[str, ...]:
    """Name the canaries of the rules that have not passed."""
    rule = canary_rule(gate.read_rules(sweep_root))
    if rule is None:
        return ()
    verdicts = read_verdicts(sweep_root)
    names = rule["trials"]
    return tuple(n for n in names if verdicts.get(n, {}).get("passed") is not True)


def have_passed(sweep_root: str) -> bool:
    """Tell whether every canary that the rules name has passed; without any, all have."""
    return not pending(sweep_root)


def release_rest(sweep_root: str) -> list[str]:
    """Let go what waits for canaries, if all have passed and the gate is open.

    Returns:
        What was released, as scontrol wants it.

    Raises:
        OSError: No Slurm here.
        subprocess.SubprocessError: Slurm refused or did not answer.
    """
    if not have_passed(sweep_root) or gate.read_closed(sweep_root) is not None:
        return []  # closed for another reason: `make release` lets go of all
    # Lazy: most attempts never speak to Slurm.
    from orchestrator.runtime import gate_queue

    return gate_queue.release_waiting(sweep_root)


def note_rest(sweep_root: str, token: str) -> None:
    """Write down, before it is submitted, that an array is held until the canaries have passed.

    Raises:
        OSError: It cannot be written.
    """
    gate.note_held(sweep_root, NOTE + token, [token])


def waiting_tokens(sweep_root: str) -> set[str]:
    """Tokens of the arrays that were submitted to wait for canaries, and not released since."""
    return {name.removeprefix(NOTE) for name in gate.read_held(sweep_root) if is_ours(name)}


def is_ours(note: str) -> bool:
    """Tell whether a note of ``gate.note_held`` is about what waits for canaries."""
    return note.startswith(NOTE)

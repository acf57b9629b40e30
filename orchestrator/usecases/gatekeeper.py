"""The login node at the gate: its rules, closing it, opening it, and what its queue holds.

Called by ``usecases.reconcile`` and ``usecases.submit``, which hold the sweep's lock. What compute
nodes do at the same gate is in ``runtime.guard``.

Opening goes in this order, so that whoever is killed is followed up by the next: what is pardoned
stands in the journal; the failures' marks are removed; ``closed.json`` is put away; what is held is
released. Notes of what is held outlive that, and while one is there a release is not over.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.journal import JournalState, JournalWriter
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.budget import as_rule
from orchestrator.runtime import breaker, canary, failpoint, gate, gate_queue
from orchestrator.usecases.observe import Observation

if TYPE_CHECKING:  # status needs neither, and they read YAML
    from orchestrator.domain.partition import PartitionProfile
    from orchestrator.domain.spec import SweepSpec

# Names the note of what the login node held.
LOGIN = "login"


def write_rules(
    sweep: SweepPaths,
    spec: SweepSpec,
    profile: PartitionProfile,
    canaries: Mapping[str, Any] | None = None,
) -> None:
    """Write what the compute nodes have to look at, if that has changed.

    Args:
        sweep: The sweep.
        spec: What it asks for.
        profile: Its partition.
        canaries: What ``runtime.canary`` has to know; None without a canary.

    Raises:
        OSError: It cannot be written.
    """
    budget = spec.budget
    rules = {
        "same_failure": spec.retry.same_failure,
        "budget": None if budget is None else as_rule(budget, profile),
        canary.RULE: None if canaries is None else dict(canaries),
    }
    if gate.read_rules(sweep.root) != ({k: v for k, v in rules.items() if v} or None):
        gate.write_rules(sweep.root, rules)


def find_pardons(observation: Observation) -> dict[str, int]:
    """Name the failures that go again at a release: the newest attempt's number by trial.

    Those that closed the gate, and every canary's, since what waits for it would wait for ever.
    """
    detail = observation.closed["detail"] if observation.closed is not None else {}
    named, fingerprint = detail.get("trials"), detail.get("fingerprint")
    pardons = {}
    for trial in observation.trials:
        if observation.states[trial.name] is not TrialState.FAILED:
            continue
        if not trial.attempts:
            if trial.name in observation.canaries:  # given up, as it never started
                pardons[trial.name] = 0
            continue
        last = trial.attempts[-1]
        is_named = isinstance(named, dict) and trial.name in named
        is_named = is_named or trial.name in observation.canaries
        if is_named or (fingerprint is not None and last.fingerprint == fingerprint):
            pardons[trial.name] = last.number
    return pardons


def our_holds(sweep: SweepPaths, journal: JournalState | None = None) -> set[str]:
    """Name what we hold in the queue: array tasks, and tokens of arrays that wait for a canary."""
    notes = gate.read_held(sweep.root)
    texts = [text for name, held in notes.items() if not canary.is_ours(name) for text in held]
    if journal is not None and journal.paused is not None:
        texts += journal.paused.arrays
    tasks = {task for text in texts for task in [text, *gate_queue.expand(text)]}
    return tasks | {name.removeprefix(canary.NOTE) for name in notes if canary.is_ours(name)}


def count_foreign_holds(observation: Observation, ours: set[str]) -> int:
    """Count the array tasks that a person holds: what is held, but not by us."""
    newest = observation.journal.last_submission_of()
    return sum(
        look.reason in gate_queue.HELD
        and look.task not in ours
        and not (name in newest and newest[name][0].token in ours)
        for name, look in observation.looks.items()
    )


def is_release_open(sweep: SweepPaths, journal: JournalState) -> bool:
    """Tell whether something may still be held although the gate is open."""
    return journal.paused is not None or bool(gate.read_held(sweep.root))


def close_gate(sweep: SweepPaths, closing: tuple[str, str, Mapping[str, Any]]) -> None:
    """Close the gate, unless a node did: kind, reason and detail of ``runtime.gate.close``.

    Raises:
        OSError: It cannot be written.
    """
    failpoint.reach("gate.close.before")
    gate.close(sweep.root, closing[0], closing[1], "submit", closing[2])
    failpoint.reach("gate.close.after")


def note_pause(
    sweep: SweepPaths,
    writer: JournalWriter,
    journal: JournalState,
    reason: str,
    waiting: Sequence[str],
) -> None:
    """Write down why the sweep waits, and what is going to be held for it.

    Args:
        sweep: The sweep.
        writer: Its journal.
        journal: What it holds so far.
        reason: One line for people.
        waiting: What waits, as scontrol wants it; what of it cannot be held holds itself.

    Raises:
        OSError: A file cannot be written.
    """
    if waiting:
        earlier = gate.read_held(sweep.root).get(LOGIN, [])
        gate.note_held(sweep.root, LOGIN, sorted({*earlier, *waiting}))
    if journal.paused is None:
        writer.write("paused", reason=reason, arrays=list(waiting))


def open_gate(
    sweep: SweepPaths,
    writer: JournalWriter,
    closed: Mapping[str, Any] | None,
    pardoned: Mapping[str, int],
) -> None:
    """Let new attempts start again, and have failures count anew.

    Raises:
        OSError: A file cannot be written; the gate is closed still, or was open.
    """
    if closed is None:
        return
    failpoint.reach("gate.open.before")
    entry = {"closed": closed["kind"], "reason": closed["reason"], "pardoned": dict(pardoned)}
    writer.write("opened", **entry)
    breaker.forgive(sweep.root)
    failpoint.reach("gate.forgive.after")
    gate.open_again(sweep.root)
    failpoint.reach("gate.open.after")


def release_held(sweep: SweepPaths, writer: JournalWriter, journal: JournalState) -> list[str]:
    """Release what the gate held, and note that this is done.

    Returns:
        What was released, as scontrol wants it.

    Raises:
        ClusterUnreachable: Slurm did not answer, or not let go all; the next round tries again.
        OSError: A file cannot be written.
    """
    if journal.paused is not None and journal.paused.arrays:
        gate.note_held(sweep.root, f"{LOGIN}.journal", journal.paused.arrays)
    try:
        released = gate_queue.release_waiting(sweep.root)
    except (OSError, subprocess.SubprocessError) as error:
        raise ClusterUnreachable(f"not released: {gate_queue.words(error)}") from None
    failpoint.reach("gate.release.after")
    if journal.paused is not None or released:
        writer.write("resumed", arrays=released)
    return released

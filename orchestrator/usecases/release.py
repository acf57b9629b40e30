"""Opening a sweep's gate: what ``make release`` does beside a submission, and what a budget asks.

Runs on the login node, within ``usecases.submit``, which holds the sweep's lock. Before the gate is
opened, the scripts of what waits are written anew, with what the spec and the templates say now:
no bash is in them yet. Killed anywhere, the same command finishes it, since each step looks at what
is on disk and in the queue; see ``usecases.gatekeeper`` for the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.budget import as_rule, check_budget, warn_of_estimate
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.placement import Place
from orchestrator.domain.spec import SweepSpec
from orchestrator.runtime import spend
from orchestrator.usecases import gatekeeper
from orchestrator.usecases.choose import Choice
from orchestrator.usecases.scripts import Scripts


def check_affordable(spec: SweepSpec, places: Iterable[Place]) -> None:
    """Refuse a budget that could never be spent on the sweep's partitions.

    Raises:
        SpecError: With the key's place.
    """
    problem = None if spec.budget is None else check_budget(spec.budget, places)
    if problem is not None:
        raise spec.error(problem.key, problem.message)


def refuse_spent(
    sweep: SweepPaths, spec: SweepSpec, profile: PartitionProfile, choice: Choice, now_s: float
) -> None:
    """Refuse to open the gate of a sweep whose budget would close it again at once.

    Args:
        sweep: The sweep.
        spec: What it asks for.
        profile: Its partition.
        choice: What would go on.
        now_s: The time on the file server's clock.

    Raises:
        SpecError: With what was spent, and how to go on.
    """
    found = choice.spent or _find_no_room(sweep, spec, profile, choice, now_s)
    if found is not None:
        words = found.removeprefix("budget: ")
        key = "gpu_hours" if "GPU-hours are spent" in words else "cost"
        raise spec.error(
            "budget", f"{words}; allow more to go on: make release ARGS='budget.{key}=...'"
        )


def _find_no_room(
    sweep: SweepPaths, spec: SweepSpec, profile: PartitionProfile, choice: Choice, now_s: float
) -> str | None:
    """Say, as a node would, why none of the trials that wait may start; None if one may."""
    waiting = [*choice.waiting, *choice.trials]
    is_closed = choice.observation is not None and choice.observation.closed is not None
    if spec.budget is None or not is_closed or not waiting:
        return None
    rule = as_rule(spec.budget, profile)
    tally = spend.tally(sweep.root, str(rule["currency"]), now_s, None)
    answers = [spend.over_budget(rule, tally, member.name) for member in waiting]
    return None if None in answers else answers[0]


def warn_of_budget(
    spec: SweepSpec, profiles: Mapping[str, PartitionProfile], choice: Choice
) -> list[str]:
    """Warn where what is submitted may cost more than the budget has left."""
    if spec.budget is None:
        return []
    planned = [
        (member.shape, profiles[member.partition]) for member in [*choice.trials, *choice.waiting]
    ]
    currency = next(iter(profiles.values())).currency
    warning = warn_of_estimate(spec.budget, currency, choice.used, planned)
    return [] if warning is None else [warning]


def open_and_release(
    scripts: Mapping[str, Scripts], choice: Choice, writer: JournalWriter
) -> tuple[str | None, list[str]]:
    """Open the gate and let go what it holds.

    Args:
        scripts: By partition.
        choice: What waits.
        writer: The journal.

    Returns:
        Why it was closed, None if it was open; and what was released, as scontrol wants it.

    Raises:
        TemplateError: A template does not render; the gate is as it was.
        ClusterUnreachable: Slurm did not let go all; the gate is open, type it again.
        OSError: A file cannot be written; type it again.
    """
    observation = choice.observation
    if observation is None:
        return None, []
    for name, own in scripts.items():
        own.write_trials([member for member in choice.waiting if member.partition == name])
    pardons = gatekeeper.find_pardons(observation)
    gatekeeper.open_gate(writer.sweep, writer, observation.closed, pardons)
    released = gatekeeper.release_held(writer.sweep, writer, observation.journal)
    return None if observation.closed is None else observation.closed["reason"], released

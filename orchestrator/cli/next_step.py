"""What to do next about a trial, in words: the same ones in every command."""

from __future__ import annotations

from orchestrator.contract.states import TrialState
from orchestrator.usecases.observe import Observation


def tell_again(
    n_open: int, n_asked: int, where_else: str, *, has_others: bool = False
) -> list[str]:
    """Say with what failed and cancelled trials go again, in lines; none if there are none.

    Args:
        n_open: Those about which the retry policy decides.
        n_asked: Those that go again only where a person asks.
        where_else: As of ``tell_next``.
        has_others: Whether other failed ones go again right now.
    """
    lines = []
    if n_open:
        words = "it goes" if n_open == 1 else "they go"
        lines.append(f"{n_open} failed: make submit{where_else} or make supervise decides whether")
        lines.append(f"  {words} again")
    if n_asked:
        which = f"the other {n_asked}" if n_open or has_others else "failed trials"
        verb = "goes" if which == "the other 1" else "go"
        lines.append(f"{which} {verb} again with: make submit{where_else} ARGS=--retry-failed")
    return lines


def count_again(observation: Observation) -> tuple[int, int]:
    """Count the failed and cancelled trials, as ``tell_again`` wants them."""
    ended = [
        name
        for name, state in observation.states.items()
        if state in (TrialState.FAILED, TrialState.CANCELLED)
    ]
    n_asked = sum(map(observation.is_final, ended))
    return len(ended) - n_asked, n_asked


def tell_next(
    state: TrialState,
    is_final: bool,
    is_paused: bool,
    where_else: str,
    *,
    is_imported: bool = False,
) -> str:
    """Say what happens next, or what to type.

    Args:
        state: Where the trial stands.
        is_final: Whether it goes again only where a person asks.
        is_paused: Whether the sweep's gate is closed.
        where_else: What ``make`` needs to be told of a results folder other than its own.
        is_imported: Whether another tool made the trial, so that nothing here can run it.
    """
    if is_imported and state is not TrialState.DONE:
        return "nothing here: it was imported; make collect FROM=... takes over what is new"
    if is_paused:
        return f"mend it, then: make release{where_else}"
    again = f"make submit{where_else}"
    if state is TrialState.FAILED and not is_final:
        return f"{again} or make supervise decides whether it goes again"
    return {
        TrialState.NEW: f"{again} submits it",
        TrialState.PENDING: "it waits for its turn",
        TrialState.RUNNING: "it goes on",
        TrialState.REQUEUED: "it starts again when there is room",
        TrialState.DONE: f"make collect{where_else}",
        TrialState.FAILED: f"{again} ARGS=--retry-failed tries it again, and all other failed ones",
        TrialState.INTERRUPTED: f"{again} or make supervise takes it up again",
        TrialState.LOST: f"{again} or make supervise takes it up again",
        TrialState.CANCELLED: f"{again} ARGS=--retry-failed submits it again",
        TrialState.UNKNOWN: "wait until Slurm answers; nothing is given up",
    }[state]

"""What to do next about a trial, in words: the same ones in every command."""

from __future__ import annotations

from orchestrator.contract.states import TrialState


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

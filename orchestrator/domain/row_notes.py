"""What the columns ``note`` and ``partial`` of a leaderboard say of a row. Pure."""

from __future__ import annotations

from orchestrator.contract.states import TrialState
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.ranking import Configuration, Row


def describe_row(row: Row, reason: str) -> str:
    """Say in one line what is to be known of a trial: why it has no rank, what went wrong."""
    if row.lead >= 0 and not reason:
        return ""
    parts = [row.invalid, row.missing, reason]
    if row.state is not TrialState.DONE and not reason and row.trial.attempts:
        parts.append(row.trial.attempts[-1].cause or "")
    if row.lead < 0:
        parts.extend(row.trial.problems[:1])
    return one_line("; ".join(part for part in parts if part))


def describe_partial(row: Row, one: Configuration) -> str:
    """Say how far a trial is, or a configuration that lacks repeats; empty for what is whole."""
    if row.lead >= 0:
        return f"{one.n} of {len(one.members)} repeats" if one.is_partial else ""
    if row.state is TrialState.DONE or not row.trial.metrics:
        return ""
    return "so far" if row.trial.last_step is None else f"step {row.trial.last_step}"

"""A trial's history for the retry policy, made of its files, the journal and Slurm's word. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from orchestrator.contract.states import SlurmState, TrialState
from orchestrator.domain.bad_nodes import SUSPECT, NodeEnd
from orchestrator.domain.cause import Cause, classify
from orchestrator.domain.retry_policy import Ended, is_final
from orchestrator.domain.trial_files import Attempt, TrialFiles

# A trial that just started seems to have lived for as long as its claim took to write.
MIN_LEAD_S = 2.0


def made_progress(attempts: tuple[Attempt, ...], index: int) -> bool | None:
    """Tell whether an attempt reported or saved something.

    What stood at its start is compared with what stood at its end, or at the start of the next.

    Returns:
        None where the records do not say.
    """
    before = attempts[index].progress_before
    after = attempts[index].progress
    if after is None and index + 1 < len(attempts):
        after = attempts[index + 1].progress_before
    return None if before is None or after is None else before != after


def left_checkpoint(attempts: tuple[Attempt, ...], index: int) -> bool | None:
    """Tell whether something lay in ``checkpoints/`` when an attempt ended.

    Returns:
        None where the records do not say: it was killed, and found none at its start.
    """
    after = attempts[index].progress
    if after is None and index + 1 < len(attempts):
        after = attempts[index + 1].progress_before
    if after is not None:
        return _n_checkpoints(after) > 0
    before = attempts[index].progress_before
    return True if before is not None and _n_checkpoints(before) else None


def _n_checkpoints(progress: Sequence[int]) -> int:
    return progress[1] if len(progress) > 1 else 0


def ended_attempts(
    trial: TrialFiles, state: TrialState, slurm: SlurmState | None, bad_nodes: Mapping[str, str]
) -> tuple[Ended, ...]:
    """List the attempts of a trial that did not end well.

    Args:
        trial: The trial.
        state: Where it stands; the newest attempt of a running one has not ended.
        slurm: How Slurm says its newest array task ended; None if it does not.
        bad_nodes: Nodes whose failures do not count.
    """
    ends = []
    for index, cause in _causes(trial.attempts, state, slurm):
        attempt = trial.attempts[index]
        if cause is not None:
            ends.append(
                Ended(
                    attempt.number,
                    cause,
                    attempt.cause or "",
                    made_progress(trial.attempts, index),
                    cause in SUSPECT and (attempt.node or "") in bad_nodes,
                    left_checkpoint(trial.attempts, index),
                )
            )
    return tuple(ends)


def failed_for_good(trial: TrialFiles, state: TrialState, slurm: SlurmState | None) -> bool:
    """Whether a trial failed in a way that goes again only where a person asks.

    Nodes that fail everybody's trials are not looked for: there it may go again by itself.
    """
    if state is not TrialState.FAILED:
        return False
    ends = ended_attempts(trial, state, slurm, {})
    return bool(ends) and is_final(ends[-1])


def node_ends(trials: Iterable[TrialFiles], states: Mapping[str, TrialState]) -> Iterator[NodeEnd]:
    """List how attempts ended and where, for ``find_bad_nodes``."""
    for trial in trials:
        for index, cause in _causes(trial.attempts, states[trial.name], None):
            attempt = trial.attempts[index]
            if attempt.node:
                progress = bool(made_progress(trial.attempts, index))
                wall_s = attempt.wall_s or 0.0
                yield NodeEnd(attempt.node, trial.name, cause, progress, wall_s)


def common_failures(
    trials: Iterable[TrialFiles],
    states: Mapping[str, TrialState],
    forgiven: Mapping[str, int],
    bad_nodes: Mapping[str, str],
) -> tuple[dict[str, str], int]:
    """Collect what a broken sweep is recognised by; see ``retry_policy.find_common_failure``.

    Failures on bad nodes are left out; while all are on one node and others run elsewhere, it may
    be the node, so those others count as going well until more is known.

    Returns:
        Of each trial that failed without progress what failed, and the number of trials that go
        well: that committed, made progress, or run for twice as long as any of the failed ones.
    """
    failures: dict[str, str] = {}
    n_going_well = 0
    longest_s = 0.0
    running_s: list[float] = []
    failed_on: set[str | None] = set()
    running_on: set[str | None] = set()
    for trial in trials:
        state = states[trial.name]
        if state is TrialState.DONE or trial.metrics or trial.last_step is not None:
            n_going_well += 1
            continue
        last = trial.attempts[-1] if trial.attempts else None
        if state is TrialState.RUNNING and last is not None:
            running_s.append(_seconds_alive(last))
            running_on.add(last.node)
        if state is not TrialState.FAILED or last is None:
            continue
        is_forgiven = last.number <= forgiven.get(trial.name, 0)
        if (last.node or "") in bad_nodes:
            continue
        if not is_forgiven and classify(last) in (Cause.ERROR, Cause.CANNOT_START):
            failures[trial.name] = last.fingerprint or last.cause or ""
            longest_s = max(longest_s, last.wall_s or 0.0)
            failed_on.add(last.node)
    n_going_well += sum(alive_s > 2 * longest_s + MIN_LEAD_S for alive_s in running_s)
    if len(failed_on) == 1 and not n_going_well:
        n_going_well = len(running_on - failed_on)
    return failures, n_going_well


def _seconds_alive(attempt: Attempt) -> float:
    """How long a running attempt has lived at least: up to its last heartbeat, on one clock."""
    if attempt.heartbeat_at is None or attempt.claimed_at is None:
        return 0.0
    return attempt.heartbeat_at - attempt.claimed_at


def _causes(
    attempts: tuple[Attempt, ...], state: TrialState, slurm: SlurmState | None
) -> Iterator[tuple[int, Cause | None]]:
    """List the attempts that have ended, by index, each with its cause."""
    n_ended = len(attempts)
    if state is TrialState.RUNNING and attempts and attempts[-1].outcome is None:
        n_ended -= 1
    for index in range(n_ended):
        is_newest = index == len(attempts) - 1
        yield index, classify(attempts[index], slurm if is_newest else None)

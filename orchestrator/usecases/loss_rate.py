"""Telling compute nodes how often attempts of a sweep are lost without a word. Login node.

``runtime.loss_rate`` says what counts, and how a node uses it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import attempt_wall_s
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.runtime import durable
from orchestrator.runtime.loss_rate import LossRate, is_unannounced_loss, node_count


def measure_loss_rate(
    trials: Iterable[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> LossRate:
    """Add up the losses and the time of all attempts of a sweep.

    Args:
        trials: Its trials.
        states: By name; an attempt without an end is lost unless it is the last one of a trial
            that is running, or of which nothing is known.
        now_s: Unix time up to which running attempts count.
    """
    rate = LossRate()
    for trial in trials:
        state = states.get(trial.name, TrialState.UNKNOWN)
        may_run = state in (TrialState.RUNNING, TrialState.UNKNOWN)
        last = len(trial.attempts) - 1
        for index, attempt in enumerate(trial.attempts):
            is_running = attempt.outcome is None and index == last and may_run
            after = trial.attempts[index + 1] if index < last else None
            wall_s, _ = attempt_wall_s(attempt, now_s, is_running, after)
            is_loss = is_unannounced_loss(attempt.outcome, attempt.exit_code, is_running)
            if index == last and state is TrialState.CANCELLED:
                is_loss = False  # a person ended it
            if index == last and trial.is_committed and attempt.outcome is None:
                is_loss = False  # killed between its commit and its end: nothing was lost
            rate.add(wall_s or 0.0, node_count(attempt.resources), is_loss)
    return rate


def publish_loss_rate(
    sweep: SweepPaths, trials: Iterable[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> None:
    """Write ``loss_rate.json`` if it changes; without it nodes assume one loss in a day."""
    rate = measure_loss_rate(trials, states, now_s)
    record = {"losses": rate.losses, "observed_s": round(rate.observed_s)}
    with contextlib.suppress(OSError, CorruptRecord):
        if read_record(sweep.loss_rate) == record:
            return
    with contextlib.suppress(OSError):  # a full disk is no reason not to submit
        durable.replace(sweep.loss_rate, dump_record(record))

"""How long a sweep still takes, estimated from what its trials took. Pure.

Work left = for each trial that has not ended, the mean time of the done ones minus what it has run.
Time left = that, divided by how many run now, and at least what the one that began last needs.
Unknown while no trial is done, or none runs. Time in the queue between preemptions is not in it,
and trials of different sizes count alike: it is about right, and said so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from orchestrator.contract.states import TERMINAL_STATES, TrialState
from orchestrator.domain.cost import attempt_wall_s
from orchestrator.domain.trial_files import TrialFiles


def estimate_time_left(
    trials: Iterable[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> float | None:
    """Estimate the seconds until every trial has ended.

    Args:
        trials: All trials.
        states: By trial name.
        now_s: Unix time.

    Returns:
        Seconds; None if unknown, 0 when every trial has ended.
    """
    done: list[float] = []
    spent: list[tuple[float, bool]] = []
    for trial in trials:
        state = states[trial.name]
        is_running = state is TrialState.RUNNING
        if state in TERMINAL_STATES and state is not TrialState.DONE:
            continue
        last = len(trial.attempts) - 1
        walls = [
            attempt_wall_s(
                attempt,
                now_s,
                is_running and index == last,
                trial.attempts[index + 1] if index < last else None,
            )[0]
            for index, attempt in enumerate(trial.attempts)
        ]
        seconds = math.fsum(wall_s for wall_s in walls if wall_s is not None)
        if state is not TrialState.DONE:
            spent.append((seconds, is_running))
        elif walls and None not in walls:
            done.append(seconds)
    if not spent:
        return 0.0
    n_running = sum(is_running for _, is_running in spent)
    if not done or not n_running:
        return None
    mean_s = math.fsum(done) / len(done)
    left = [(max(0.0, mean_s - seconds), is_running) for seconds, is_running in spent]
    longest_s = max(seconds for seconds, is_running in left if is_running)
    return max(longest_s, math.fsum(seconds for seconds, _ in left) / n_running)

"""Which trials diverged: that is a result, and no mean is taken over the repeats beside it.

Pure; called by ``ranking``, ``best_so_far`` and ``confirmed_board``. A configuration that diverges
on one seed of three is worse than its two good runs say, and nobody can say by how much: so it has
no rank. A repeat that brought no objective for any other reason (its program broke, a node failed,
somebody cancelled it, it reported none or a text) says nothing of the configuration: it is missing,
and the configuration is partial.

Diverged has what ended for good (done, failed or cancelled) with a last objective that is not
finite, and what failed as diverged by its attempt's record (exit code 65, or words of NaN). What
may still bring a result has not.
"""

from __future__ import annotations

import math

from orchestrator.contract.records import metric_value
from orchestrator.contract.states import TrialState
from orchestrator.domain.cause import Cause, classify
from orchestrator.domain.trial_files import TrialFiles

_ENDED = (TrialState.DONE, TrialState.FAILED, TrialState.CANCELLED)


def describe_divergence(trial: TrialFiles, state: TrialState, metric: str | None) -> str:
    """Say how a trial diverged, as in ``loss is nan``; empty if it did not, or not for good.

    Args:
        trial: Its files.
        state: How it stands.
        metric: The objective; None if nothing is ranked.
    """
    if metric is None or state not in _ENDED:
        return ""
    if state is not TrialState.DONE or trial.result is not None:
        number = metric_value(trial.metrics.get(metric))
        if number is not None and not math.isfinite(number):
            return f"{metric} is {number}"
    if state is TrialState.FAILED and trial.attempts:
        return Cause.NON_FINITE.value if classify(trial.attempts[-1]) is Cause.NON_FINITE else ""
    return ""

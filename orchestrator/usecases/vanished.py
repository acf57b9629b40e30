"""Trials whose folders are gone, among the others of a sweep: no result, but no less asked for.

Runs on the login node, for what shows results: without them a configuration that lost a repeat
would pass for complete. What goes on with a sweep does not see them; ``submit`` makes them anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.adapters.confirmation_file import read_confirmation
from orchestrator.contract.errors import OrchestratorError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.trial_state import NOT_THERE
from orchestrator.usecases.observe import Observation, observe

REASON = "its folder is gone, though it was submitted"


def observe_results(sweep: SweepPaths) -> Observation:
    """Look at every trial of a sweep, those whose folder is gone included; see ``observe``."""
    return with_vanished(observe(sweep), sweep)


def with_vanished(observation: Observation, sweep: SweepPaths) -> Observation:
    """Add the trials whose folder is gone to what was seen.

    They are lost, and have the parameters that the spec gives them, if it still does.
    """
    if not observation.gone:
        return observation
    known = _read_params(sweep)
    gone = []
    for name in observation.gone:
        number, _, trial_id = name.partition("-")
        gone.append(TrialFiles(name, int(number), trial_id, known.get(trial_id)))
    trials = sorted([*observation.trials, *gone], key=lambda trial: (trial.number, trial.name))
    return replace(
        observation,
        scan=replace(observation.scan, trials=trials, stamp=None),
        states={**observation.states, **dict.fromkeys(observation.gone, TrialState.LOST)},
        looks={**observation.looks, **dict.fromkeys(observation.gone, NOT_THERE)},
        reasons={**observation.reasons, **dict.fromkeys(observation.gone, REASON)},
    )


def _read_params(sweep: SweepPaths) -> Mapping[str, Mapping[str, Any]]:
    """Return the parameters of all that was asked for, by trial id, as far as they are known."""
    # Lazy: reading YAML takes longer than collecting, and seldom is a folder gone.
    from orchestrator.domain.trials import expand_trials
    from orchestrator.usecases.frozen_spec import read_frozen

    fresh = {trial.id: trial.params for trial in read_confirmation(sweep).trials}
    try:
        spec, _ = read_frozen(sweep)
        return {**fresh, **{trial.id: trial.params for trial in expand_trials(spec)}}
    except (OrchestratorError, OSError, ValueError):
        return fresh  # they are shown without parameters

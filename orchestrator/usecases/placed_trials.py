"""A spec's trials, each with the partitions that it fits: what plan and submit both start from.

Runs on the login node, before anything is looked at or written: every mistake that a spec and its
profiles can have by themselves shows here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.adapters.executors.local import count_gpus
from orchestrator.domain.budget import warn_of_free
from orchestrator.domain.partition import PartitionProfile, ShapeError
from orchestrator.domain.placement import Place, find_places, warn_of_short_times
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trials import Trial, expand
from orchestrator.usecases.ceilings import check_ceilings
from orchestrator.usecases.release import check_affordable
from orchestrator.usecases.scripts import check_files


@dataclass(frozen=True)
class PlacedTrials:
    """The trials of a spec."""

    trials: list[tuple[Trial, tuple[Place, ...]]]
    """In the spec's order, each with the partitions that it fits, the preferred one first."""
    profiles: dict[str, PartitionProfile]
    """The partitions of the sweep by name, with what the sweep itself says of them."""
    places: list[Place]
    """Every partition with every shape that trials have there."""
    warnings: tuple[str, ...]
    """For people."""


def place_trials(
    spec: SweepSpec, profiles: Mapping[str, PartitionProfile], cluster: str
) -> PlacedTrials:
    """Expand a spec, and find where its trials fit.

    Args:
        spec: The sweep.
        profiles: The partitions that its trials may go to by name, the preferred one first.
        cluster: ``slurm``, ``local`` or ``profile``.

    Raises:
        UserError: A mistake in the spec or a profile.
    """
    own = {name: _with_overrides(profile, spec) for name, profile in profiles.items()}
    expansion = expand(spec)
    check_files(spec)
    try:
        wanted = {trial.resources for trial in expansion.trials}
        found = {resources: find_places(resources, own) for resources in wanted}
    except ShapeError as error:
        raise spec.error(error.key, error.message) from None
    places = [place for fits in found.values() for place in fits]
    check_ceilings(spec, (place.shape for place in places))
    check_affordable(spec, places)
    warnings = [*expansion.warnings]
    if cluster != "local":  # which has no time limits
        warnings += warn_of_short_times(places)
    elif any(place.shape.gpus for place in places) and not count_gpus():
        warnings.append(
            "trials ask for GPUs, and this machine has none: they run without, and their hours "
            "count as GPU-hours all the same"
        )
    if spec.budget is not None:
        warnings += warn_of_free(spec.budget, places)
    trials = [(trial, found[trial.resources]) for trial in expansion.trials]
    return PlacedTrials(trials, own, places, tuple(warnings))


def _with_overrides(profile: PartitionProfile, spec: SweepSpec) -> PartitionProfile:
    """Return a profile with what the sweep itself says of layout and requeuing."""
    changes: dict[str, Any] = {}
    if spec.layout is not None:
        changes["layout"] = spec.layout
    if spec.requeue is not None:
        changes["requeue"] = spec.requeue
    return dataclasses.replace(profile, **changes) if changes else profile

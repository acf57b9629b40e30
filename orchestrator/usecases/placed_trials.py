"""A sweep's trials, each with the partitions that it fits: what plan and submit both start from.

They are the spec's, and behind them those on fresh seeds that ``make confirm`` asked for.

Runs on the login node, before anything is looked at or written: every mistake that a spec and its
profiles can have by themselves shows here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from orchestrator.adapters.executors.local import count_gpus
from orchestrator.contract.errors import SpecError
from orchestrator.domain.budget import warn_of_free
from orchestrator.domain.confirmation import as_trial
from orchestrator.domain.fresh_trials import NOTHING, Confirmation
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
    """In the spec's order, those on fresh seeds after them; each with the partitions that it fits,
    the preferred one first."""
    profiles: dict[str, PartitionProfile]
    """The partitions of the sweep by name, with what the sweep itself says of them."""
    places: list[Place]
    """Every partition with every shape that trials have there."""
    warnings: tuple[str, ...]
    """For people."""
    n_own: int
    """How many are the spec's own; they come first."""

    @property
    def own(self) -> list[Trial]:
        """The spec's own trials."""
        return [trial for trial, _ in self.trials[: self.n_own]]


def place_trials(
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    cluster: str,
    confirmation: Confirmation = NOTHING,
) -> PlacedTrials:
    """Expand a spec, and find where its trials fit, and those on fresh seeds.

    Args:
        spec: The sweep.
        profiles: The partitions that its trials may go to by name, the preferred one first.
        cluster: ``slurm``, ``local`` or ``profile``.
        confirmation: The trials on fresh seeds. One that an edited spec leaves no place for is left
            out with a warning: it stands in nobody's way.

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
    mine = {trial.id for trial in expansion.trials}
    fresh, left_out = _place_fresh(spec, own, confirmation, mine)
    fits_of_all = {**found, **{trial.resources: fits for trial, fits in fresh}}
    places = [place for fits in fits_of_all.values() for place in fits]
    check_ceilings(spec, (place.shape for place in places))
    check_affordable(spec, places)
    warnings = [*expansion.warnings, *left_out]
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
    return PlacedTrials([*trials, *fresh], own, places, tuple(warnings), len(trials))


def _place_fresh(
    spec: SweepSpec,
    profiles: Mapping[str, PartitionProfile],
    confirmation: Confirmation,
    mine: Set[str],
) -> tuple[list[tuple[Trial, tuple[Place, ...]]], list[str]]:
    """Place the trials on fresh seeds that are not the spec's own; warnings about the others."""
    placed: list[tuple[Trial, tuple[Place, ...]]] = []
    lost: dict[str, int] = {}
    for fresh in confirmation.trials:
        if fresh.id in mine:
            continue
        try:
            trial = as_trial(spec, fresh)
            placed.append((trial, find_places(trial.resources, profiles)))
        except (SpecError, ShapeError) as error:
            lost[str(error)] = lost.get(str(error), 0) + 1
    return placed, [
        f"{n} trials on fresh seeds have no place in the spec as it is now, and are left as they "
        f"are: {words}"
        for words, n in lost.items()
    ]


def _with_overrides(profile: PartitionProfile, spec: SweepSpec) -> PartitionProfile:
    """Return a profile with what the sweep itself says of layout and requeuing."""
    changes: dict[str, Any] = {}
    if spec.layout is not None:
        changes["layout"] = spec.layout
    if spec.requeue is not None:
        changes["requeue"] = spec.requeue
    return dataclasses.replace(profile, **changes) if changes else profile

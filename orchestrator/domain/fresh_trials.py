"""What ``make confirm`` asked for, as values and as the record in the sweep's folder. Pure.

``confirmation`` decides what is asked for, from the spec; whoever reads results needs no spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.contract.errors import CorruptRecord
from orchestrator.domain.trial_params import flatten, trial_id

SEED = "seed"


@dataclass(frozen=True)
class FreshTrial:
    """One run of a configuration on a fresh seed."""

    of: str
    """Directory name of the trial that the configuration was chosen by."""
    seed: int
    """The fresh seed."""
    params: Mapping[str, Any]
    """What the program receives, the seed included."""

    @cached_property
    def id(self) -> str:
        """Return the trial's id, as of any trial."""
        return trial_id(self.params)


@dataclass(frozen=True)
class Confirmation:
    """All that was asked for in a sweep, so far."""

    seed_parameter: str = SEED
    """Dotted name of the parameter that takes the seed."""
    differs: tuple[str, ...] = (SEED,)
    """Dotted names of what differs between runs of one configuration: the seed, and what the spec
    derives from it."""
    seeds: tuple[int, ...] = ()
    """The fresh seeds, in the order in which they were asked for."""
    top: int = 0
    """How many configurations were asked for last."""
    trials: tuple[FreshTrial, ...] = ()
    """The runs, by configuration in the order of the choice, then by seed."""

    @cached_property
    def by_id(self) -> Mapping[str, FreshTrial]:
        """Return its trials by id."""
        return {trial.id: trial for trial in self.trials}

    def key(self, params: Mapping[str, Any]) -> str:
        """Return what is equal for two runs of one configuration."""
        rest = {k: v for k, v in flatten(params).items() if k not in self.differs}
        return json.dumps(rest, sort_keys=True)

    def missing(self, before: Confirmation) -> tuple[FreshTrial, ...]:
        """Return the trials that an earlier state of it does not have."""
        return tuple(trial for trial in self.trials if trial.id not in before.by_id)


NOTHING = Confirmation()


def as_record(confirmation: Confirmation) -> dict[str, Any]:
    """Return it as the record in the sweep's folder."""
    return {
        "seed_parameter": confirmation.seed_parameter,
        "differs": list(confirmation.differs),
        "seeds": list(confirmation.seeds),
        "top": confirmation.top,
        "trials": [
            {"of": trial.of, "seed": trial.seed, "params": dict(trial.params)}
            for trial in confirmation.trials
        ],
    }


def parse_confirmation(record: Mapping[str, Any], source: str) -> Confirmation:
    """Read the record.

    Raises:
        CorruptRecord: It cannot be used; to go on without it would mix its trials with others.
    """
    try:
        parameter, differs, seeds = record["seed_parameter"], record["differs"], record["seeds"]
        trials = tuple(
            FreshTrial(_typed(t["of"], str), _typed(t["seed"], int), _typed(t["params"], dict))
            for t in _typed(record["trials"], list)
        )
        names = tuple(_typed(name, str) for name in _typed(differs, list))
        numbers = tuple(_typed(seed, int) for seed in _typed(seeds, list))
        top = _typed(record["top"], int)
        return Confirmation(_typed(parameter, str), names, numbers, top, trials)
    except (KeyError, TypeError) as error:
        raise CorruptRecord(
            f"{source}: {error}; it lists the trials on fresh seeds, restore it from a copy"
        ) from None


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{json.dumps(value)[:60]} is no {kind.__name__}")
    return value

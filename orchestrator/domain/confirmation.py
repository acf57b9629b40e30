"""Which configurations run again on fresh seeds: what ``make confirm`` asked for. Pure.

Whoever comes first of many was good, and lucky: the runs that chose it flatter it (the winner's
curse). So the best are run again with seeds that had no part in the choice, the same ones for each
of them, and compared by those alone; ``domain.confirmed`` does that.

What was asked for is a record in the sweep's folder, and its trials are trials of the sweep beside
those of the spec. The record holds each trial's parameters in full, so that no later edit of the
spec makes others of them. A trial that stands in it stays fresh for good: it never counts among the
runs that choose, even where the spec comes to have the same seed.

Fresh seeds start at 10,000, which ``seeds: N`` never reaches: widening a spec claims none of them.
Not covered: a ``when:`` or ``zip:`` that depends on the seed stays as it was for the old one.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.contract.errors import UserError
from orchestrator.domain.fresh_trials import SEED, Confirmation, FreshTrial
from orchestrator.domain.relation_loader import MAX_SEEDS, seed_dependent
from orchestrator.domain.resources import resolve_resources
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.trial_params import flatten
from orchestrator.domain.trials import Trial

FIRST_FRESH = MAX_SEEDS
# Of one sweep; more is no confirmation but a sweep of its own.
MAX_TRIALS = 1000


def find_seed_parameter(spec: SweepSpec, asked: str | None) -> str:
    """Find the parameter by which the program gets its seed.

    Args:
        spec: The sweep.
        asked: What the user named; None: to be found.

    Raises:
        UserError: It cannot be known, or cannot be set.
    """
    names = [parameter.name for parameter in spec.parameters]
    if spec.seeds:
        if asked not in (None, SEED):
            raise UserError(
                f"--seed-parameter {asked}: seeds: of {spec.file} passes the parameter {SEED}; "
                "leave the option out"
            )
        return SEED
    if asked is not None:
        if any(asked == item.name for item in spec.derived):
            raise UserError(
                f"--seed-parameter {asked}: {spec.file} computes it (derived:), so it cannot be "
                "chosen; name the parameter that it is computed from"
            )
        inside = next((n for n in names if n.startswith(f"{asked}.")), None)
        if inside is not None or not all(asked.split(".")):
            raise UserError(f"--seed-parameter {asked}: no name of one parameter")
        return asked
    if SEED in names:
        return SEED
    near = [name for name in names if SEED in name.lower() or "random_state" in name.lower()]
    hint = f" (is it {' or '.join(near[:3])}?)" if near else ""
    raise UserError(
        f"{spec.file} has neither seeds: nor a parameter {SEED}, so it is not known how the "
        f"program gets its seed{hint}. Name the parameter: ARGS='--seed-parameter NAME'; each run "
        "gets it as --NAME=10000 and so on, and as TRIAL_SEED. A program that reads no seed cannot "
        "be confirmed: let it read one"
    )


def differing_names(spec: SweepSpec, seed_parameter: str) -> tuple[str, ...]:
    """Return the names of what differs between runs of one configuration."""
    return tuple(sorted(seed_dependent(spec.derived, seed_parameter)))


def seeds_in(params: Iterable[Mapping[str, Any]], seed_parameter: str) -> set[int]:
    """Return the seeds that trials have.

    Raises:
        UserError: A value of that parameter is no whole number.
    """
    found: set[int] = set()
    for values in params:
        flat = flatten(values)
        value = flat.get(seed_parameter)
        if value is None:
            continue
        if type(value) is not int:
            raise UserError(
                f"{seed_parameter} is {json.dumps(value)[:60]} in a trial, and a seed is a whole "
                "number; name the seed's parameter: ARGS='--seed-parameter NAME'"
            )
        found.add(value)
    return found


def reseed(
    spec: SweepSpec, params: Mapping[str, Any], seed_parameter: str, seed: int
) -> dict[str, Any]:
    """Return a trial's parameters with another seed, and with what the spec derives from it.

    Raises:
        SpecError: A derived parameter fails with this seed.
        UserError: The seed's place is taken by something else.
    """
    found = copy.deepcopy(dict(params))
    *groups, last = _path(spec, seed_parameter)
    inner = found
    for key in groups:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"--seed-parameter {seed_parameter}: {key} is a value, no group")
    inner[last] = seed
    values = _values(spec, found)
    by_seed = seed_dependent(spec.derived, seed_parameter)
    for item in spec.derived:
        if item.name not in by_seed:
            continue
        values[item.name] = value = item.expression.evaluate(values)
        if value is None:
            found.pop(item.name, None)
        else:
            found[item.name] = value
    return found


def extend(
    before: Confirmation,
    spec: SweepSpec,
    chosen: Sequence[tuple[str, Mapping[str, Any]]],
    seed_parameter: str,
    n_seeds: int,
    taken: Collection[int],
) -> Confirmation:
    """Add what is missing so that the chosen configurations have so many fresh seeds.

    Asking for the same again adds nothing. A configuration that was not chosen before gets the
    seeds that the others have, for comparing them seed by seed.

    Args:
        before: What was asked for so far.
        spec: The sweep.
        chosen: Name and parameters of a trial of each configuration, the best first.
        seed_parameter: As of ``find_seed_parameter``.
        n_seeds: How many fresh seeds each shall have at least.
        taken: Seeds that trials of the sweep have.

    Raises:
        UserError: Another parameter took the seed before, or it would be too many trials.
    """
    if before.trials and before.seed_parameter != seed_parameter:
        raise UserError(
            f"--seed-parameter {seed_parameter}: this sweep is confirmed by "
            f"{before.seed_parameter} already; leave the option out"
        )
    differs = tuple(sorted({*differing_names(spec, seed_parameter), *before.differs}))
    if not before.trials:
        differs = differing_names(spec, seed_parameter)
    seeds = list(before.seeds)
    candidate = FIRST_FRESH
    while len(seeds) < n_seeds:
        if candidate not in taken and candidate not in seeds:
            seeds.append(candidate)
        candidate += 1
    top = len(chosen)
    after = Confirmation(seed_parameter, differs, tuple(seeds), top, before.trials)
    there = {(after.key(trial.params), trial.seed) for trial in before.trials}
    added = []
    for name, params in chosen:
        for seed in seeds:
            fresh = reseed(spec, params, seed_parameter, seed)
            if (after.key(fresh), seed) not in there:
                there.add((after.key(fresh), seed))
                added.append(FreshTrial(name, seed, fresh))
    if len(before.trials) + len(added) > MAX_TRIALS:
        raise UserError(
            f"{len(before.trials) + len(added)} fresh trials are too many, at most {MAX_TRIALS}; "
            "use a smaller --top or --seeds"
        )
    return replace(after, trials=(*before.trials, *added))


def as_trial(spec: SweepSpec, fresh: FreshTrial) -> Trial:
    """Return a fresh trial with what the spec, as it is now, asks for its parameters.

    Raises:
        SpecError: An expression of ``resources:`` fails with them.
    """
    resources = resolve_resources(spec.resources, _values(spec, fresh.params))
    return Trial(fresh.id, fresh.params, fresh.seed, resources)


def _values(spec: SweepSpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters by dotted name for expressions; a value may be a mapping itself."""
    values = flatten(params)
    for parameter in spec.parameters:
        value: Any = params
        for key in parameter.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values[parameter.name] = value
    return values


def _path(spec: SweepSpec, name: str) -> tuple[str, ...]:
    found = next((p.path for p in spec.parameters if p.name == name), None)
    return tuple(name.split(".")) if found is None else found

"""Trials: the combinations of a sweep, each with its identity and its resources.

Pure. ``expand`` turns a spec into its trials in an order that depends on the spec alone: grid
points with the last parameter fastest, or draws in their order; the repeats (``seeds``) of one
combination stand together, so that a larger ``run_cap`` only appends.

A trial is identified by its parameters as the program receives them: the first ten hexadecimal
digits of SHA-256 over their JSON with sorted keys, no spaces, ASCII only and floats in their
shortest form (``repr``). 16 and 16.0 are different parameters, the order of keys is none, and code,
resources and the order of trials have no part in it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.plain_text import one_line
from orchestrator.domain.relation_loader import seed_dependent
from orchestrator.domain.resources import TrialResources as TrialResources
from orchestrator.domain.resources import is_constant, resolve_resources
from orchestrator.domain.samplers.dimensions import Dimension, Point, order_dimensions
from orchestrator.domain.samplers.grid import MAX_POINTS, GridTooLarge, grid_points
from orchestrator.domain.samplers.quasi_random import sobol_units
from orchestrator.domain.samplers.random import random_units
from orchestrator.domain.spec import Parameter, SweepSpec
from orchestrator.domain.trial_params import ID_DIGITS, canonical
from orchestrator.domain.trial_params import flatten as flatten
from orchestrator.domain.trial_params import trial_id as trial_id

# How many draws may be refused, by `where` or as duplicates, for each one that is kept.
_DRAWS_PER_TRIAL = 100
_MIN_DRAWS = 10_000
_MAX_DRAWS = 2_000_000

Units = Callable[[Sequence[str], int, int], list[list[float]]]
_UNITS: dict[str, Units] = {"random": random_units, "quasi_random": sobol_units}


@dataclass(frozen=True)
class Trial:
    """One hyperparameter combination, with its seed if the spec repeats."""

    id: str
    """``trial_id`` of the parameters."""
    params: Mapping[str, Any]
    """What the program receives, nested as in the spec; derived parameters and ``seed`` last."""
    seed: int | None
    """Seed of this repeat; None without ``seeds``."""
    resources: TrialResources
    """What it asks of its node."""


@dataclass(frozen=True)
class Expansion:
    """The trials of a spec."""

    trials: tuple[Trial, ...]
    """In order, no two alike."""
    warnings: tuple[str, ...] = ()
    """What may surprise, one line each: a cap that cuts a grid, a space that is exhausted."""


def expand_trials(spec: SweepSpec) -> list[Trial]:
    """Return the trials of a spec, as ``expand``."""
    return list(expand(spec).trials)


def expand(spec: SweepSpec) -> Expansion:
    """Make the trials of a spec.

    Raises:
        SpecError: An expression fails, a grid is too large, ``where`` leaves nothing or too little,
            or two different trials share an id.
    """
    dimensions = order_dimensions(spec.parameters, spec.zips)
    builder = _Builder(spec)
    if spec.method == "grid":
        warnings = _take_grid(spec, dimensions, builder)
    else:
        warnings = _draw(spec, dimensions, builder)
    return Expansion(tuple(builder.trials), tuple(warnings))


def varying_names(trials: Sequence[Trial]) -> list[str]:
    """Return the dotted names whose values differ between trials, in their order."""
    first: dict[str, Any] = {}
    count: dict[str, int] = {}
    differs: dict[str, bool] = {}
    for trial in trials:
        for name, value in flatten(trial.params).items():
            count[name] = count.get(name, 0) + 1
            differs[name] = first.setdefault(name, value) != value or differs.get(name, False)
    return [name for name in first if differs[name] or count[name] < len(trials)]


def _take_grid(spec: SweepSpec, dimensions: Sequence[Dimension], builder: _Builder) -> list[str]:
    n_points = n_kept = 0
    try:
        for point in grid_points(dimensions):
            n_points += 1
            if n_kept == spec.run_cap:
                cut = f"{n_kept} cuts the grid short; raise it to have all of it"
                return [str(spec.error("run_cap", cut))]
            n_kept += builder.offer(point)
    except GridTooLarge as error:
        raise spec.error(
            "parameters",
            f"the grid is too large: {error} combinations, at most {MAX_POINTS} are allowed; "
            "use fewer values, or method: random",
        ) from None
    if not n_kept:
        raise spec.error(
            "where", f"leaves none of {n_points} combinations; loosen it: {_shown_where(spec)}"
        )
    return []


def _draw(spec: SweepSpec, dimensions: Sequence[Dimension], builder: _Builder) -> list[str]:
    assert spec.run_cap is not None
    names = [dimension.name for dimension in dimensions if not dimension.is_constant]
    limit = min(max(_MIN_DRAWS, _DRAWS_PER_TRIAL * spec.run_cap), _MAX_DRAWS)
    size = _space_size(dimensions)
    seen: set[str] = set()
    n_kept = done = 0
    count = min(limit, 2 * spec.run_cap)
    while done < limit:
        columns = iter(_UNITS[spec.method](names, spec.sampling_seed, count))
        per_dimension = [None if dim.is_constant else next(columns) for dim in dimensions]
        for index in range(done, count):
            point: Point = {}
            raw = []
            for dimension, column in zip(dimensions, per_dimension, strict=True):
                row = dimension.from_unit(0.0 if column is None else column[index])
                dimension.set_active(point, row)
                raw.append(row)
            n_kept += builder.offer(point)
            if n_kept == spec.run_cap:
                return []
            if size is not None:
                seen.add(json.dumps(raw))
                if len(seen) == size:
                    return _exhausted(spec, n_kept, size)
        done, count = count, min(limit, 2 * count)
    raise spec.error(
        "where" if spec.where else "run_cap",
        f"only {n_kept} of {spec.run_cap} combinations were found in {limit} draws; "
        + (f"loosen it: {_shown_where(spec)}, or lower run_cap" if spec.where else "lower it"),
    )


def _space_size(dimensions: Sequence[Dimension]) -> int | None:
    """Count the points of a space that draws could exhaust; None for larger ones."""
    sizes = [dimension.size for dimension in dimensions]
    known = [size for size in sizes if size is not None]
    size = math.prod(known)
    return size if len(known) == len(sizes) and size <= _MAX_DRAWS else None


def _exhausted(spec: SweepSpec, n_kept: int, size: int) -> list[str]:
    if not n_kept:
        raise spec.error(
            "where", f"leaves none of {size} combinations; loosen it: {_shown_where(spec)}"
        )
    return [
        str(
            spec.error(
                "run_cap", f"{spec.run_cap} is not reached: all {n_kept} combinations are in"
            )
        )
    ]


def _shown_where(spec: SweepSpec) -> str:
    return " and ".join(f"`{item.shown}`" for item in spec.where)


class _Builder:
    """Turns points into trials, and refuses what `where` or a duplicate excludes."""

    def __init__(self, spec: SweepSpec):
        self.spec = spec
        self.trials: list[Trial] = []
        self._known: dict[str, str] = {}
        by_seed = seed_dependent(spec.derived) if spec.seeds else set()
        self._early = [item for item in spec.derived if item.name not in by_seed]
        self._late = [item for item in spec.derived if item.name in by_seed]
        self._resources = (
            resolve_resources(spec.resources, {}) if is_constant(spec.resources) else None
        )

    def offer(self, point: Point) -> bool:
        """Add the trials of a point; whether it is a new combination that passes the filters.

        Raises:
            SpecError: An expression fails, or two different trials share an id.
        """
        values: dict[str, Any] = dict(point)
        for item in self._early:
            values[item.name] = item.expression.evaluate(values)
        if not all(condition.is_true(values) for condition in self.spec.where):
            return False
        if not self.spec.seeds:
            return self._add(point, values, None)
        return all(
            self._add(point, self._with_seed(values, seed), seed) for seed in self.spec.seeds
        )

    def _with_seed(self, values: dict[str, Any], seed: int) -> dict[str, Any]:
        values = {**values, "seed": seed}
        for item in self._late:
            values[item.name] = item.expression.evaluate(values)
        return values

    def _add(self, point: Point, values: dict[str, Any], seed: int | None) -> bool:
        params = _nest(self.spec.parameters, point)
        for item in self.spec.derived:
            if values[item.name] is not None:
                params[item.name] = values[item.name]
        if seed is not None:
            params["seed"] = seed
        text = canonical(params)
        key = hashlib.sha256(text.encode("ascii")).hexdigest()[:ID_DIGITS]
        other = self._known.setdefault(key, text)
        if other is not text:
            if other == text:
                return False
            raise self.spec.error(
                "parameters",
                f"two trials have the id {key}: {one_line(other, 80)} and {one_line(text, 80)}; "
                "change a value or add a constant parameter",
            )
        resources = self._resources
        if resources is None:
            resources = resolve_resources(self.spec.resources, values)
        self.trials.append(Trial(key, params, seed, resources))
        return True


def _nest(parameters: Sequence[Parameter], point: Point) -> dict[str, Any]:
    """Put a point's values into groups, in the spec's order."""
    params: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in point:
            inner = params
            for key in parameter.path[:-1]:
                inner = inner.setdefault(key, {})
            inner[parameter.path[-1]] = point[parameter.name]
    return params

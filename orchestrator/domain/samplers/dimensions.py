"""What a sampler sees: the independent dimensions of a search space, in an order to decide them in.

Pure. A dimension is one parameter, or a group of parameters that are zipped. A point is a mapping
from dotted name to value, without the parameters whose ``when`` is false there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from orchestrator.domain.search_space import Constant
from orchestrator.domain.spec import Parameter

Point: TypeAlias = dict[str, Any]
Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Dimension:
    """One parameter, or several that advance together."""

    parameters: tuple[Parameter, ...]
    """One, or the members of a zip group, whose domains are lists of one length."""

    @cached_property
    def name(self) -> str:
        """The first parameter's name; it names the random stream."""
        return self.parameters[0].name

    @cached_property
    def is_conditional(self) -> bool:
        """Whether a member is inactive in some points."""
        return any(parameter.when for parameter in self.parameters)

    @cached_property
    def is_constant(self) -> bool:
        """Whether it takes no draw."""
        return all(isinstance(parameter.domain, Constant) for parameter in self.parameters)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The grid's values, one tuple for each step, a value for each member."""
        columns = [parameter.domain.grid() for parameter in self.parameters]
        return tuple(zip(*(column for column in columns if column is not None), strict=True))

    @cached_property
    def size(self) -> int | None:
        """How many rows drawing can give; None for more than can be counted."""
        if len(self.parameters) > 1:
            return len(self.rows)
        return self.parameters[0].domain.size()

    def from_unit(self, u: float) -> Row:
        """Return the row at ``u`` of [0, 1)."""
        if len(self.parameters) == 1:
            return (self.parameters[0].domain.from_unit(u),)
        return self.rows[min(int(u * len(self.rows)), len(self.rows) - 1)]

    def set_active(self, point: Point, row: Row) -> bool:
        """Put the active members of a row into a point; whether there were any.

        Raises:
            SpecError: A condition fails.
        """
        is_active = False
        for parameter, value in zip(self.parameters, row, strict=True):
            if all(condition.is_true(point) for condition in parameter.when):
                point[parameter.name] = value
                is_active = True
        return is_active


def order_dimensions(
    parameters: Sequence[Parameter], zips: Sequence[tuple[str, ...]]
) -> tuple[Dimension, ...]:
    """Group parameters into dimensions, in the spec's order but after what their conditions use.

    Raises:
        SpecError: Conditions refer to one another in a circle.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    group_of = {name: group for group in zips for name in group}
    waiting: list[Dimension] = []
    taken: set[str] = set()
    for parameter in parameters:
        if parameter.name not in taken:
            group = group_of.get(parameter.name, (parameter.name,))
            taken.update(group)
            waiting.append(Dimension(tuple(by_name[name] for name in group)))
    ordered: list[Dimension] = []
    decided: set[str] = set()
    while waiting:
        ready = next((item for item in waiting if _uses(item) <= decided), None)
        if ready is None:
            parameter = next(item for dim in waiting for item in dim.parameters if item.when)
            others = ", ".join(dim.name for dim in waiting)
            raise parameter.when[-1].error(
                f"the conditions of {others} depend on one another; drop one of them"
            )
        waiting.remove(ready)
        ordered.append(ready)
        decided.update(parameter.name for parameter in ready.parameters)
    return tuple(ordered)


def _uses(dimension: Dimension) -> set[str]:
    return {
        name
        for parameter in dimension.parameters
        for condition in parameter.when
        for name in condition.names
    }

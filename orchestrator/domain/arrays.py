"""Grouping trials into job arrays. Pure.

Trials of one shape share an array, cut into chunks that the cluster takes. Slurm limits the largest
index (``MaxArraySize`` - 1, whatever the count) and, where set, the tasks of one array.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

ShapeT = TypeVar("ShapeT", bound=Hashable)
ItemT = TypeVar("ItemT")


def group_into_arrays(
    items: Sequence[tuple[ItemT, ShapeT]], tasks_per_array: int
) -> list[tuple[ShapeT, list[ItemT]]]:
    """Group items by shape, in order of first appearance, into chunks of at most the limit.

    Raises:
        ValueError: ``tasks_per_array`` is under 1.
    """
    if tasks_per_array < 1:
        raise ValueError(f"an array of at most {tasks_per_array} tasks holds no trial")
    by_shape: dict[ShapeT, list[ItemT]] = {}
    for item, shape in items:
        by_shape.setdefault(shape, []).append(item)
    return [
        (shape, members[start : start + tasks_per_array])
        for shape, members in by_shape.items()
        for start in range(0, len(members), tasks_per_array)
    ]

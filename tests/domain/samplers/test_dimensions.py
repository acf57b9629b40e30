"""Dimensions: what varies on its own, and in which order it is decided."""

from __future__ import annotations

from orchestrator.domain.samplers.dimensions import Dimension, order_dimensions
from orchestrator.domain.spec_loader import load_spec


def dimensions(text: str) -> tuple[Dimension, ...]:
    head = "program: t\nmetric: {name: x, goal: minimize}\n"
    spec = load_spec(head + text, file="s.yaml")
    return order_dimensions(spec.parameters, spec.zips)


def names(text: str) -> list[list[str]]:
    return [[item.name for item in dimension.parameters] for dimension in dimensions(text)]


def test_order_dimensions_zipped_parameters_are_one_where_the_first_stands() -> None:
    text = "parameters: {a: [1, 2], b: [3], c: [4, 5]}\nzip: [[c, a]]"
    assert names(text) == [["c", "a"], ["b"]]


def test_order_dimensions_conditional_one_follows_what_it_depends_on() -> None:
    text = "parameters: {a: {value: 1, when: b > 1}, x: 1, b: {values: [1], when: c > 1}, c: [2]}"
    assert names(text) == [["x"], ["c"], ["b"], ["a"]]


def test_dimension_from_unit_zipped_parameters_advance_together() -> None:
    (dimension,) = dimensions("parameters: {a: [1, 2, 3], b: [x, y, z]}\nzip: [[a, b]]")
    rows = [dimension.from_unit(u) for u in (0.0, 0.34, 0.99, 1.0 - 2.0**-53)]
    assert rows == [(1, "x"), (2, "y"), (3, "z"), (3, "z")]
    assert dimension.size == 3


def test_dimension_set_active_leaves_out_inactive_members() -> None:
    text = "parameters: {o: [s], a: [1, 2], b: {values: [3, 4], when: o == 's'}}\nzip: [[a, b]]"
    dimension = dimensions(text)[1]
    active, inactive = {"o": "s"}, {"o": "t"}
    assert dimension.set_active(active, (1, 3))
    assert dimension.set_active(inactive, (1, 3))
    assert (active, inactive) == ({"o": "s", "a": 1, "b": 3}, {"o": "t", "a": 1})

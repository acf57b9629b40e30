"""Every fault of the catalogue has a test named after it, or a reason why not."""

from __future__ import annotations

from tests.faults.catalogue import FAULTS, WITHOUT_TEST, find_tests


def test_every_fault_has_a_test_or_a_reason() -> None:
    tests = find_tests()
    assert len(FAULTS) == 87
    assert set(tests) <= set(FAULTS), "a test of a fault that is not in the catalogue"
    assert set(FAULTS) - set(tests) == set(WITHOUT_TEST)

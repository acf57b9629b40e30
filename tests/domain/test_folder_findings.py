"""What a folder's abilities mean."""

from __future__ import annotations

import pytest

from orchestrator.domain.finding import NOTE, OK, PROBLEM, WARNING
from orchestrator.domain.folder_findings import (
    find_clock,
    find_links,
    find_locks,
    find_private,
    find_space,
    find_writable,
)


def test_find_writable() -> None:
    good = find_writable("/w/results", "/w/results", "nfs4", None)
    assert (good.severity, good.what_is) == (OK, "/w/results (nfs4) can be written to.")
    new = find_writable("/w/results", "/w", "", None)
    assert new.what_is == "/w/results can be made; tried in /w, which is there."
    bad = find_writable("/w/results", "/w", "", "Permission denied")
    assert (bad.severity, bad.what_is) == (
        PROBLEM,
        "/w cannot be written to: Permission denied.",
    )


def test_find_private() -> None:
    assert find_private(True, False).severity == OK
    assert find_private(False, False).severity == NOTE
    assert find_private(True, True).severity == WARNING


def test_find_links_and_locks() -> None:
    assert find_links(None).severity == OK
    assert find_links("Operation not permitted").severity == PROBLEM
    assert find_locks(None, False).severity == OK
    assert find_locks("No locks available", True).severity == NOTE
    assert find_locks("two processes got the same lock", False).severity == PROBLEM


@pytest.mark.parametrize(
    ("free_bytes", "free_inodes", "severity"),
    [
        (2**40, 10**6, OK),
        (2**40, None, OK),
        (2**20, 10**6, WARNING),
        (2**40, 100, WARNING),
        (None, None, NOTE),
    ],
)
def test_d17_space_and_inodes_that_run_out_are_named(
    free_bytes: int | None, free_inodes: int | None, severity: str
) -> None:
    assert find_space(free_bytes, free_inodes).severity == severity


@pytest.mark.parametrize(
    ("ahead_s", "severity", "words"),
    [
        (0.2, OK, "agrees"),
        (-30, WARNING, "30 s behind"),
        (3600, PROBLEM, "3,600 s ahead of"),
    ],
)
def test_c10_clock_skew_is_named(ahead_s: float, severity: str, words: str) -> None:
    finding = find_clock(ahead_s, "Node n1", "probe-clock", "spot")
    assert finding is not None
    assert (finding.severity, words in finding.what_is, finding.profile) == (severity, True, "spot")


def test_find_clock_not_measured_says_nothing() -> None:
    assert find_clock(None, "Node n1", "probe-clock") is None

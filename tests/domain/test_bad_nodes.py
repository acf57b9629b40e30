"""Which nodes are found bad."""

from __future__ import annotations

import pytest

from orchestrator.domain.bad_nodes import NodeEnd, find_bad_nodes
from orchestrator.domain.cause import Cause


def ends(node: str, n_failed: int, n_good: int, cause: Cause = Cause.ERROR) -> list[NodeEnd]:
    failed = [NodeEnd(node, f"{node}-f{i}", cause, False) for i in range(n_failed)]
    return failed + [NodeEnd(node, f"{node}-g{i}", None, True) for i in range(n_good)]


def test_black_hole_is_found_with_words() -> None:
    found = find_bad_nodes(ends("n1", 5, 0) + ends("n2", 1, 9), 3)
    assert found == {"n1": "5 trials failed there at once, elsewhere 9 of 10 attempts went well"}


@pytest.mark.parametrize(
    ("all_ends", "why"),
    [
        (ends("n1", 5, 0) + ends("n2", 5, 0), "the code is broken, not the nodes"),
        (ends("n1", 5, 0), "nothing ran elsewhere"),
        (ends("n1", 2, 0) + ends("n2", 0, 9), "too few trials"),
        (ends("n1", 3, 2) + ends("n2", 0, 9), "too much went well there"),
        (ends("n1", 4, 0) + ends("n2", 0, 2), "too little is known of the others"),
        (ends("n1", 9, 3) + ends("n2", 9, 3) + ends("n3", 3, 9), "all fail: the code is broken"),
        (
            [NodeEnd("n1", str(i), Cause.ERROR, False, 900.0) for i in range(5)] + ends("n2", 0, 9),
            "it failed after it had run well",
        ),
        (
            [NodeEnd(n, str(i), Cause.ERROR, False) for i in range(5) for n in ("n1", "n2")]
            + ends("n2", 0, 9),
            "the same trials fail elsewhere too",
        ),
        (ends("n1", 5, 0, Cause.CUDA_OOM) + ends("n2", 0, 9), "a micro-batch is too large"),
        (ends("n1", 5, 0) + ends("n2", 9, 2), "elsewhere most fail as well"),
        (ends("n1", 5, 0, Cause.NON_FINITE) + ends("n2", 0, 9), "diverged is no node's fault"),
        (ends("n1", 5, 0, Cause.PREEMPTED) + ends("n2", 0, 9), "nor is a preemption"),
        ([NodeEnd("n1", "same", Cause.ERROR, False)] * 5 + ends("n2", 0, 9), "one trial's fault"),
        ([], "nothing at all"),
    ],
)
def test_node_is_not_blamed_when(all_ends: list[NodeEnd], why: str) -> None:
    assert find_bad_nodes(all_ends, 3) == {}, why


def test_find_bad_nodes_switched_off_finds_none() -> None:
    assert find_bad_nodes(ends("n1", 5, 0) + ends("n2", 0, 9), 0) == {}

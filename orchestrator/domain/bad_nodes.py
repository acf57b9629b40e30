"""Finding nodes that break trials: a pure function of how attempts ended and where.

A node whose GPU, driver or mount is broken fails every trial within seconds, is free again at once,
and so eats a whole sweep ("black hole"). Its failures are not the trials' fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.domain.cause import Cause

# Failures that a node can be the reason of. Divergence and a micro-batch that is too large are none
# of them, nor is a preemption.
SUSPECT = frozenset(
    {Cause.ERROR, Cause.KILLED, Cause.CANNOT_START, Cause.DISK_FULL, Cause.NODE_FAILURE}
)
# A broken node fails at once; what fails after that long was running well.
AT_ONCE_S = 120.0
# On the suspected node so many attempts must have failed for each that went well.
MIN_RATIO_THERE = 3
# On all others together at most this share may fail; else it is the code that is broken.
MAX_SHARE_ELSEWHERE = 0.4


@dataclass(frozen=True)
class NodeEnd:
    """How one attempt ended on its node."""

    node: str
    """Slurm's name of the node."""
    trial: str
    """Which trial."""
    cause: Cause | None
    """Why it ended; None: well."""
    made_progress: bool
    """Whether it reported or saved something."""
    wall_s: float = 0.0
    """How long it lasted, in seconds."""

    @property
    def is_good(self) -> bool:
        """Whether the node did its part."""
        return self.cause is None or self.made_progress

    @property
    def is_suspect(self) -> bool:
        """Whether the node may be the reason."""
        return not self.is_good and self.cause in SUSPECT and self.wall_s <= AT_ONCE_S


def find_bad_nodes(ends: Iterable[NodeEnd], min_trials: int) -> dict[str, str]:
    """Find the nodes that fail trials which other nodes run.

    A node is bad when at least ``min_trials`` trials failed on it at once that failed nowhere else,
    three attempts there for each that went well, while on all other nodes together at least as many
    trials went well and at most two attempts in five failed so.

    Args:
        ends: Attempts that ended, of one sweep.
        min_trials: How many; 0 finds none.

    Returns:
        By node, the reason in words.
    """
    if not min_trials:
        return {}
    good: dict[str, set[str]] = {}
    failed: dict[str, set[str]] = {}
    n_good: dict[str, int] = {}
    n_failed: dict[str, int] = {}
    for end in ends:
        trials, counts = (good, n_good) if end.is_good else (failed, n_failed)
        if end.is_good or end.is_suspect:
            trials.setdefault(end.node, set()).add(end.trial)
            counts[end.node] = counts.get(end.node, 0) + 1
    found = {}
    for node in sorted(failed):
        others = [other for other in {*good, *failed} if other != node]
        good_elsewhere = set().union(*(good.get(other, set()) for other in others))
        failed_elsewhere = set().union(*(failed.get(other, set()) for other in others))
        total_good = sum(n_good.get(other, 0) for other in others)
        total = total_good + sum(n_failed.get(other, 0) for other in others)
        is_bad_there = n_failed[node] >= MIN_RATIO_THERE * n_good.get(node, 0)
        alone = failed[node] - failed_elsewhere
        if (
            len(alone) >= min_trials
            and is_bad_there
            and len(good_elsewhere) >= min_trials
            and total - total_good <= MAX_SHARE_ELSEWHERE * total
        ):
            found[node] = (
                f"{len(alone)} trials failed there at once, "
                f"elsewhere {total_good} of {total} attempts went well"
            )
    return found

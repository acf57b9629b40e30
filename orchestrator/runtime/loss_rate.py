"""How often attempts of a sweep are lost without a word, so that programs know how often to save.

Lost without a word: the attempt died and left no end (its node failed, it was killed with all its
kin), its program was killed with SIGKILL (out of memory), or it was told to stop and ended without
a checkpoint (no grace, or too short a one). Preemptions with a checkpoint, and programs that fail
by themselves, do not count.

The login node sees all attempts and writes their sum into ``loss_rate.json`` of the sweep when it
submits, shows the status or collects. A compute node reads that one file and the records of its own
trial, never those of others: a sweep may have ten thousand trials on a network file system.

The estimate is Bayesian: losses of a node are a Poisson process whose rate has a Gamma prior with
the weight of one loss in 24 h of one node. So ``MTBF = (24 h + observed) / (1 + losses) / nodes``:
24 h for a job of one node when nothing is known, and the data's own mean in the long run.
"""

from __future__ import annotations

import os
import signal

from orchestrator.contract import records
from orchestrator.contract.errors import EXIT_CHECKPOINTED, CorruptRecord
from orchestrator.contract.records import read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from orchestrator.contract.paths import TrialPaths

PRIOR_LOSSES = 1
PRIOR_S = 24 * 3600.0


class LossRate:
    """Losses seen in so much time."""

    __slots__ = ("losses", "observed_s")

    def __init__(self, losses: int = 0, observed_s: float = 0.0):
        """State ``losses`` in ``observed_s`` seconds, each counted once for each node."""
        self.losses, self.observed_s = losses, observed_s

    def add(self, wall_s: float, nodes: int, is_loss: bool) -> None:
        """Add one attempt."""
        self.losses += is_loss
        self.observed_s += wall_s * nodes

    def mtbf_s(self, nodes: int) -> float:
        """Mean seconds between unannounced losses of a job of so many nodes."""
        return (PRIOR_S + self.observed_s) / (PRIOR_LOSSES + self.losses) / max(1, nodes)


def is_unannounced_loss(outcome: str | None, exit_code: int | None, is_running: bool) -> bool:
    """Tell whether an attempt was lost without a word; see the module's docstring."""
    if outcome is None:
        return not is_running
    if outcome == records.FAILED:
        return exit_code == -signal.SIGKILL
    return outcome == records.PREEMPTED and exit_code != EXIT_CHECKPOINTED


def node_count(resources: object) -> int:
    """Nodes of an allocation, as a claim's ``resources`` say; 1 if they do not."""
    nodes = resources.get("nodes") if isinstance(resources, dict) else None
    return nodes if type(nodes) is int and 0 < nodes < 10**6 else 1


def read_loss_rate(trial: TrialPaths, before: Iterable[Mapping[str, Any]]) -> LossRate:
    """Read what the sweep knows, and add what this trial's own attempts have seen since.

    Args:
        trial: The trial, in its sweep's folder or copied elsewhere.
        before: Records of its earlier attempts, as ``claim.previous_ends`` gives them.

    Returns:
        The rate; nothing observed where nothing can be read. Never raises: a wrong guess costs a
        little time, no trial.
    """
    path = trial.sweep_loss_rate
    rate, written = LossRate(), 0.0
    try:
        record = read_record(path)
        losses, observed_s = record["losses"], float(record["observed_s"])
        if type(losses) is int and losses >= 0 and 0 <= observed_s < 1e15:
            rate, written = LossRate(losses, observed_s), os.stat(path).st_mtime
    except (OSError, CorruptRecord, KeyError, TypeError, ValueError):
        pass
    for end in before:
        wall_s = end.get("wall_s")
        try:
            # Both times are the file server's: an older record is in the sum already.
            is_new = os.stat(trial.attempt(end["attempt"])).st_mtime > written
        except (OSError, KeyError):
            continue
        if is_new and isinstance(wall_s, (int, float)) and 0 <= wall_s < 1e12:
            code = end.get("exit_code")
            is_loss = is_unannounced_loss(end.get("outcome"), code, is_running=False)
            rate.add(wall_s, node_count(end.get("resources")), is_loss)
    return rate

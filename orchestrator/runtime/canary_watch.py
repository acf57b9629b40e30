"""What an attempt asks about canaries: of all other trials the answer is nothing, and costs little.

Runs on the compute node. ``canary_check`` has the answers of a canary.
"""

from __future__ import annotations

import os

from orchestrator.runtime.gate import gate_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from orchestrator.runtime.claim import Claim


class CanaryWatch:
    """Watches an attempt that is no canary's."""

    is_asked = False
    """Whether the program was told to stop, for the check."""
    is_overdue = False
    """Whether the program goes on though it was told so, for longer than a preemption lets it."""

    def wait_s(self, wait_s: float) -> float:
        """Return how long to wait for the next look, at most ``wait_s`` seconds."""
        return wait_s

    def look(self) -> bool:
        """Look at what the program reported; True once: it is to be told to stop now."""
        return False

    def on_stopped(self, code: int) -> tuple[str, dict[str, Any]]:
        """The program was told to stop for the check, and ended.

        Args:
            code: As ``Program.poll`` has it.

        Returns:
            Why the trial cannot go on, empty if nothing but the program's last words tells; and, if
            it can, what to record of the attempt's end.
        """
        raise AssertionError("nobody told it to stop")

    def on_commit(self) -> None:
        """The trial has its result."""

    def on_failure(self, cause: str) -> None:
        """The attempt failed, for this cause."""


def watch(claim: Claim, environ: Mapping[str, str], say: Callable[[str], None]) -> CanaryWatch:
    """Return what watches an attempt: the check that it has to go through, if it is a canary's."""
    if not os.path.exists(gate_of(claim.trial.sweep).rules):
        return CanaryWatch()
    # Lazy: few sweeps have a canary.
    from orchestrator.runtime.canary_check import canary_check

    return canary_check(claim, claim.trial.sweep, environ, say) or CanaryWatch()

"""Everything that a report is made of, read once. Runs on the login node; see ``report``."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases.collect import Collection
from orchestrator.usecases.observe import Observation


@dataclass(frozen=True)
class ReportInput:
    """A sweep at one moment, for a report."""

    sweep: SweepPaths
    """Its folder."""
    observation: Observation
    """Trials with their attempts, states, reasons, and the journal."""
    collection: Collection
    """The ranked leaderboard."""
    now_s: float
    """Unix time of that moment."""

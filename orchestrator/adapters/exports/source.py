"""What an export is made of, and what it made. Runs on the login node; see ``formats``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.adapters.metric_curves import Curves, read_curves
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import metric_value
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.trial_files import TrialFiles


@dataclass(frozen=True)
class ExportSource:
    """A sweep at one moment."""

    sweep: SweepPaths
    """Its folder."""
    board: Leaderboard
    """The ranked leaderboard."""
    trials: Sequence[TrialFiles]
    """What the trials' files say, in number order."""
    top: int = 10
    """How many configurations a format for people shows."""

    def curves(self, trial: TrialFiles) -> Curves:
        """Read a trial's reported values by metric and step; empty where there are none."""
        return read_curves(self.sweep.trial(trial.name)) if trial.attempts else {}

    def points(self, trial: TrialFiles) -> dict[str, dict[int, float]]:
        """Return a trial's curves, each ending with the committed value, also those of one point.

        For tools that show a metric's last value: whatever the file still holds, it is the one
        that counts. A metric without a curve has its value at the trial's last step.
        """
        points = {name: dict(found) for name, found in self.curves(trial).items()}
        last = max((max(found) for found in points.values()), default=trial.last_step or 0)
        for name, value in trial.metrics.items():
            number = metric_value(value)
            if number is not None:
                found = points.setdefault(name, {})
                found[max(found, default=max(last, 0))] = number
        return points


@dataclass
class Exported:
    """One export that was written."""

    paths: list[str] = field(default_factory=list)
    """Files and folders, complete."""
    notes: list[str] = field(default_factory=list)
    """What is not as it was: renamed keys, what was left out; how to open it."""

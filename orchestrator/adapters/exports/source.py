"""What an export is made of, and what it made. Runs on the login node; see ``formats``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.adapters.metric_curves import Curves, read_curves
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import metric_value
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.trial_files import TrialFiles

_FACTS = (
    "rank",
    "tie",
    "state",
    "confirmed_rank",
    "confirmed_tie",
    "confirmed_mean",
    "confirmed_n",
    "attempts",
    "gpu_hours",
    "currency",
    "node",
    "note",
)
_OF_REPEATS = ("mean", "ci95_low", "ci95_high")


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

    @property
    def fact_names(self) -> tuple[str, ...]:
        """Columns of ``facts``, whether there are such or not."""
        is_seeded = self.board.summary.seeded
        means = (f"{self.board.objective}_{name}" for name in _OF_REPEATS if is_seeded)
        return (*_FACTS, "wall_hours", *self.board.costs, *means)

    def facts(self, trial: TrialFiles, row: Mapping[Any, Any]) -> dict[str, Any]:
        """Return what the leaderboard says of a trial beyond its parameters and metrics.

        Args:
            trial: What its files say.
            row: Its row.

        Returns:
            By column, those with a value: rank, mean of the objective and what fresh seeds came to,
            attempts, GPU-hours and cost as numbers; state, node, currency and note as text; and
            ``wall_hours``, those of all attempts, if all are known.
        """
        found = {}
        for name in self.fact_names:
            value: Any = row.get(name)
            value = value.item() if hasattr(value, "item") else value
            # Missing cells are None, NaN or pandas' NA, none of which is text.
            if value is not None and (isinstance(value, (str, bool)) or _is_finite(value)):
                found[name] = value
        walls = [attempt.wall_s for attempt in trial.attempts]
        if walls and None not in walls:
            found["wall_hours"] = round(sum(filter(None, walls)) / 3600, 6)
        return found

    def purpose(self, trial: TrialFiles) -> str:
        """Return ``confirm`` for a run on a fresh seed, which is no part of the ranking."""
        return "confirm" if trial.name in self.board.fresh else "search"

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


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


@dataclass
class Exported:
    """One export that was written."""

    paths: list[str] = field(default_factory=list)
    """Files and folders, complete."""
    notes: list[str] = field(default_factory=list)
    """What is not as it was: renamed keys, what was left out; how to open it."""

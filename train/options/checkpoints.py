"""When checkpoints are saved, and where. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """When checkpoints are saved, and where."""

    save_steps: int = -1
    """Save a checkpoint every so many steps; 0: never; -1: by time. Always at the end, and when
    told to stop."""
    save_minutes: float = 0.0
    """Minutes of work between checkpoints; 0: as the sweep says, else by how long saves take and
    how often trials of the sweep are lost."""
    keep_checkpoints: int = 2
    """Complete checkpoints to keep, at least 2."""
    output_dir: str = ""
    """Where checkpoints go; empty: TRIAL_CHECKPOINT_DIR, else ./output."""


AT_LEAST = {"save_steps": -1, "save_minutes": 0.0, "keep_checkpoints": 2}
MAY_CHANGE = ("save_steps", "save_minutes", "keep_checkpoints", "output_dir")


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if arguments.save_minutes and arguments.save_steps >= 0:
        yield "--save_minutes and --save_steps: give one"

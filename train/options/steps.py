"""How long it trains, and when it reports. Standard library only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How long it trains, and when it reports."""

    max_steps: int = 2000
    """Optimizer steps, before --steps_scale."""
    epochs: float = 0.0
    """Passes over the training data instead of --max_steps, if greater than 0."""
    steps_scale: float = 1.0
    """Multiplies max_steps, epochs, warmup_steps, save_steps, eval_steps and logging_steps."""
    logging_steps: int = 100
    """Report the training loss every so many steps."""
    max_reports: int = 2000
    """Most reports of the training loss, and of evaluations; a longer training spaces them out."""
    tensorboard: bool = False
    """Also write TensorBoard event files, one per attempt, into tensorboard/ of the trial."""


AT_LEAST = {"max_steps": 1, "epochs": 0.0, "logging_steps": 1, "max_reports": 1}
MAY_CHANGE = ("logging_steps", "max_reports", "tensorboard")


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if not 0 < arguments.steps_scale < math.inf:
        yield f"--steps_scale={arguments.steps_scale}: use a number above 0"

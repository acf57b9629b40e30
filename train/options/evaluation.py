"""When and how it is evaluated. Standard library only."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """When and how it is evaluated."""

    eval_steps: int = 500
    """Evaluate every so many steps and at the end; 0: only at the end."""
    eval_batch_size: int = 64
    """Sequences per forward pass and rank in evaluation."""


AT_LEAST = {"eval_steps": 0, "eval_batch_size": 1}

"""Optimizer, learning rate, weight decay, and their schedules. Standard library only."""

from __future__ import annotations

import dataclasses

OPTIMIZERS = ("adamw", "lamb")
LR_SCHEDULES = ("linear", "cosine", "constant")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer, learning rate, weight decay, and their schedules."""

    learning_rate: float = 3e-4
    """Peak learning rate, after the warm-up."""
    weight_decay: float = 0.01
    """Weight decay of matrices; norms and biases get none."""
    warmup_steps: int = 100
    """Optimizer steps of linear warm-up, before --steps_scale."""
    optimizer: str = "adamw"
    """adamw or lamb."""
    lr_schedule: str = "linear"
    """After the warm-up: linear or cosine to zero, or constant."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0 turns clipping off."""


CHOICES = {"optimizer": OPTIMIZERS, "lr_schedule": LR_SCHEDULES}
AT_LEAST = {"learning_rate": 0.0, "weight_decay": 0.0, "warmup_steps": 0, "max_grad_norm": 0.0}

"""What belongs to the run and not to the training. Standard library only."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What belongs to the run and not to the training."""

    seed: int = -1
    """Seed of initial weights and data order; -1: TRIAL_SEED, else 0."""
    threads: int = 0
    """CPU threads; 0: OMP_NUM_THREADS, else SLURM_CPUS_PER_TASK, else 1 in a trial, else all."""


AT_LEAST = {"seed": -1, "threads": 0}
MAY_CHANGE = ("threads",)

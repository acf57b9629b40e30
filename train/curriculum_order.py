"""The order of a training whose sequences grow: ``curriculum``'s rules on ``batches``' examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from batches import Examples, TrainingOrder
from curriculum import Stage, cut, length_at
from tokenizer import IGNORED


class CurriculumOrder(TrainingOrder):
    """All examples a training sees, in order, each cut to the length of its step."""

    def __init__(
        self,
        examples: Examples,
        n_items: int,
        seed: int,
        stages: Sequence[Stage],
        batch_size: int,
    ):
        """Order ``examples``; ``n_items`` = steps x ``batch_size``, the effective one."""
        super().__init__(examples, n_items, seed)
        self.stages, self.batch_size = stages, batch_size

    def length_of_step(self, step: int) -> int:
        """Return the longest sequence of a step, 0 for the first."""
        return length_at(self.stages, step, self.n_items // self.batch_size)

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        length = self.length_of_step(position // self.batch_size)
        return cut(super().__getitem__(position), length, IGNORED)

"""What is reported, as TensorBoard event files too: one file per attempt, off by default.

Below the trial's directory, so that ``tensorboard --logdir results/<sweep>/trials`` shows a curve
for each trial. A resumed attempt says from which step on it counts, and TensorBoard drops what
earlier attempts wrote from there on: no step shows twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


class EventFile:
    """The event file of this attempt."""

    def __init__(self, folder: Path, from_step: int):
        """Open it.

        Args:
            folder: Shared by all attempts of the trial.
            from_step: Events of earlier attempts at this step and later no longer count.
        """
        # Lazy: takes as long to import as a short training.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=from_step)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write metrics of a step; they are in the file when this returns.

        Otherwise a kill would lose what stands before the newest checkpoint, which no later
        attempt does again.
        """
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


def events_folder(output_dir: str) -> Path:
    """Return where event files go: into the trial's directory, by hand beside the checkpoints."""
    return Path(os.environ.get("TRIAL_DIR") or output_dir) / "tensorboard"

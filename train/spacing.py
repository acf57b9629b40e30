"""At which steps something is done. Standard library only and pure.

By the step alone, so that an interrupted training does it at the same steps as a whole one.
"""

from __future__ import annotations

import math


def space_out(every: int, max_steps: int, max_reports: int) -> int:
    """Return the smallest multiple of ``every`` that fits ``max_steps`` into ``max_reports``.

    0 stays 0.
    """
    if every <= 0:
        return every
    return every * max(1, math.ceil(max_steps // every / max_reports))


def is_due(step: int, every: int) -> bool:
    """Tell whether something that is done every so many steps is due; never for ``every`` <= 0."""
    return every > 0 and step % every == 0

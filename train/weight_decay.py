"""Weight decay that changes while training: from one value to another, by the step alone.

Standard library only and pure: nothing is kept between steps, so a resumed trial has the very same
values. A weight decay that grows on a cosine (0.04 to 0.4) comes from DINO (arXiv 2104.14294,
section 3.2). ``optimizing`` sets it before every optimizer step, on the compute node.
"""

from __future__ import annotations

import math


def weight_decay_at(
    schedule: str, start: float, final: float, step: int, total_steps: int
) -> float:
    """Give the weight decay of optimizer step ``step`` (from 0) of ``total_steps``.

    Args:
        schedule: ``constant``, ``linear`` or ``cosine``.
        start: Value at step 0.
        final: Value at ``total_steps`` and after, except for ``constant``.
        step: Optimizer steps done before.
        total_steps: All of them, at least 1.

    Raises:
        ValueError: No such schedule.
    """
    p = min(1.0, step / total_steps)
    match schedule:
        case "constant":
            return start
        case "linear":
            return start + (final - start) * p
        case "cosine":
            return final + (start - final) * 0.5 * (1.0 + math.cos(math.pi * p))
    raise ValueError(f"no such schedule: {schedule}")

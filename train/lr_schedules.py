"""Learning-rate schedules: step, warm-up and total in, multiplier of the peak rate out.

Standard library only and pure: a schedule keeps no state but the step, so a resumed trial goes on
with the very same numbers. ``optimizing`` hands ``multiplier`` to torch's LambdaLR.

Every schedule starts with a linear warm-up: step s of W has s / W of the peak, step 0 none. After
it, p = (s - W) / (T - W) runs from 0 to 1 at the end T, and r is the floor (``--min_lr_ratio``).
Linear, cosine and constant are those of transformers (5.23, optimization.py) to the last bit.

Called on the compute node. Not here: schedules that follow the loss (reduce on a plateau); they
would need its history.
"""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class LrSchedule:
    """One schedule with its numbers."""

    name: str
    """One of ``options.optimizer.LR_SCHEDULES``."""
    warmup_steps: int
    """Optimizer steps of linear warm-up; 0: none."""
    total_steps: int
    """Optimizer steps in all, the warm-up included."""
    min_ratio: float = 0.0
    """r: what the decay ends at, as a share of the peak; constant has no decay."""
    cycles: int = 1
    """Cosine waves of ``cosine_with_restarts``."""
    decay_ratio: float = 0.1
    """Share of ``total_steps`` in which ``wsd`` decays, at their end."""
    decay_shape: str = "sqrt"
    """How ``wsd`` decays: one of ``options.optimizer.DECAY_SHAPES``."""
    power: float = 2.0
    """Exponent of ``polynomial``."""


def multiplier(schedule: LrSchedule, step: int) -> float:
    """Give the share of the peak learning rate that optimizer step ``step`` (from 0) has.

    From ``total_steps`` on it stays at what it has come to: the floor, for those that decay.

    Raises:
        ValueError: No schedule has this name.
    """
    warmup_steps, total_steps = schedule.warmup_steps, schedule.total_steps
    if step < warmup_steps:
        return step / warmup_steps
    floor = schedule.min_ratio
    p = progress(step, warmup_steps, total_steps)
    match schedule.name:
        case "constant":
            return 1.0
        case "linear":
            # Not 1 - p: transformers divides what is left, which may differ in the last bit.
            left = max(0, total_steps - step) / max(1, total_steps - warmup_steps)
            return above(floor, left)
        case "cosine":
            return above(floor, cosine(p))
        case "cosine_with_restarts":
            return above(floor, cosine_with_restarts(p, schedule.cycles))
        case "wsd":
            begin = decay_begin(schedule)
            if step < begin:
                return 1.0
            return above(floor, decay(progress(step, begin, total_steps), schedule.decay_shape))
        case "exponential":
            return exponential(p, floor)
        case "polynomial":
            return above(floor, (1.0 - p) ** schedule.power)
    raise ValueError(f"no such schedule: {schedule.name}")


def progress(step: int, begin: int, end: int) -> float:
    """Say how much of the way from ``begin`` to ``end`` is behind ``step``, at most 1."""
    return min(1.0, (step - begin) / max(1, end - begin))


def above(floor: float, share: float) -> float:
    """Squeeze a share that runs from 1 to 0 into 1 to ``floor``."""
    return share * (1.0 - floor) + floor


def cosine(p: float) -> float:
    """Half a cosine wave from 1 to 0 (SGDR, arXiv 1608.03983, equation 5)."""
    return 0.5 * (1.0 + math.cos(math.pi * p))


def cosine_with_restarts(p: float, cycles: int) -> float:
    """Half a cosine wave ``cycles`` times, each from 1 (SGDR, equal periods); 0 at the end."""
    return cosine((cycles * p) % 1.0) if p < 1.0 else 0.0


def exponential(p: float, floor: float) -> float:
    """Fall by the same factor at every step, from 1 to ``floor`` (above 0) at the end."""
    return float(floor**p)


def decay_begin(schedule: LrSchedule) -> int:
    """First step of warm-up-stable-decay's decay; the warm-up is never cut short."""
    decay_steps = math.ceil(schedule.decay_ratio * schedule.total_steps)
    return max(schedule.warmup_steps, schedule.total_steps - decay_steps)


def decay(p: float, shape: str) -> float:
    """Fall from 1 to 0 in the last part of warm-up-stable-decay (MiniCPM, arXiv 2404.06395).

    ``sqrt`` is 1 - sqrt(p), which arXiv 2405.18392 (section 4) found better than ``linear``.

    Raises:
        ValueError: No such shape.
    """
    match shape:
        case "linear":
            return 1.0 - p
        case "cosine":
            return cosine(p)
        case "sqrt":
            return 1.0 - math.sqrt(p)
    raise ValueError(f"no such shape: {shape}")

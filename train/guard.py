"""Decides whether a training has diverged. Pure and standard library only.

Three ways to diverge. A loss or gradient norm that is not finite ends the trial at that step: each
step after it would spread it over all weights. So does an evaluation whose loss is not finite: the
last step may have spoilt the weights, which no training step has seen yet. A loss that is finite
but has left its course ends it by the curve: the smoothed training loss above ``factor`` times its
best for ``reports`` reports in a row. The default of 3 is above what a good training does (a new
stage of a curriculum, a restart of the learning rate, harder data: seldom twice the best) and below
what a broken one reaches: from 3 nats back to the logarithm of the vocabulary, 10 to 12. It can
only miss: what climbs by less, or diverges in the last reports, goes on to its end and is ranked by
its loss.

With fp16, gradients that overflow are no divergence: the scaler skips the step and halves its
scale. Only a scale that could be halved no further is one. The loss is judged before it is scaled,
and no scale changes it: one that is not finite ends the trial with fp16, too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

# sysexits.h's EX_DATAERR; orchestrator.runtime.cause knows it as "diverged", not to be run again.
EXIT_DIVERGED = 65
# Weight of the newest report in the smoothed loss: about the last five reports count.
NEWEST_WEIGHT = 0.3
# GradScaler starts at 2^16 and halves at each skip (torch.amp, 2.13); 2^16 to 2^-24, the smallest
# fp16 number, are 40 skips in a row.
MAX_SKIPPED_IN_A_ROW = 40


class Diverged(Exception):
    """The training diverged; nothing after this step is worth computing."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """What is remembered of the reported training losses."""

    smoothed: float = math.nan
    """Exponential mean of the reports; NaN: none yet."""
    best: float = math.inf
    """Lowest smoothed loss."""
    n_above: int = 0
    """Reports in a row above the bound."""

    def as_dict(self) -> dict[str, float]:
        """Give plain numbers, to be saved with a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, float]) -> Curve:
        """Take up what ``as_dict`` gave; an empty mapping is the start."""
        return cls(**saved)  # type: ignore[arg-type]


def follow(curve: Curve, loss: float, factor: float) -> Curve:
    """Take the next reported loss into account; one that is not finite changes nothing."""
    if not math.isfinite(loss):
        return curve
    if math.isnan(curve.smoothed):
        smoothed = loss
    else:
        smoothed = (1 - NEWEST_WEIGHT) * curve.smoothed + NEWEST_WEIGHT * loss
    is_above = factor > 0 and smoothed > factor * curve.best
    return Curve(smoothed, min(curve.best, smoothed), curve.n_above + 1 if is_above else 0)


def judge_curve(curve: Curve, factor: float, reports: int) -> str:
    """Say why the curve is a divergence; empty if it is none."""
    if factor <= 0 or curve.n_above < reports:
        return ""
    return (
        f"loss diverged: smoothed {curve.smoothed:.4g}, above {factor:g} x its best "
        f"{curve.best:.4g} for {curve.n_above} reports"
    )


def judge_step(
    *, is_loss_finite: bool, is_norm_finite: bool, was_skipped: bool, n_skipped: int
) -> str:
    """Say why a step is a divergence; empty if it is none.

    Args:
        is_loss_finite: Before fp16 scales it, on every rank and in every part of the batch.
        is_norm_finite: The gradient's norm before clipping.
        was_skipped: The gradient scaler of fp16 left the step out.
        n_skipped: Steps in a row, up to this one, that it left out.
    """
    if not is_loss_finite:
        return "loss is not finite"
    if was_skipped:
        if n_skipped > MAX_SKIPPED_IN_A_ROW:
            return f"gradient is not finite in {n_skipped} steps in a row, whatever the fp16 scale"
        return ""
    if not is_norm_finite:
        return "gradient norm is not finite"
    return ""


def judge_evaluation(metrics: Mapping[str, float]) -> str:
    """Say why an evaluation is a divergence; empty if it is none.

    Only the loss tells: a perplexity is infinite from a loss of 710 nats on, and a share of right
    classes is finite whatever the logits are.
    """
    return "" if math.isfinite(metrics["eval_loss"]) else "eval_loss is not finite"

"""When a training ends before its last step. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deepspeed_config import zero_stage

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

GOALS = ("auto", "minimize", "maximize")


@dataclasses.dataclass(frozen=True)
class StoppingOptions:
    """When a training ends before its last step."""

    early_stopping_patience: int = 0
    """Stop after so many evaluations in a row without improvement; 0: train to the last step."""
    early_stopping_metric: str = "eval_loss"
    """The metric of evaluations that has to improve; it also says which evaluation is the best."""
    early_stopping_goal: str = "auto"
    """minimize or maximize the metric; auto: minimize names that end in loss or perplexity."""
    early_stopping_min_delta: float = 0.0
    """What is better than the best by less than this is no improvement."""
    load_best: bool = False
    """Keep the checkpoint of the best evaluation, and at the end report and merge that one."""
    divergence_factor: float = 3.0
    """End as diverged once the smoothed training loss has been above its best times this for
    --divergence_reports reports in a row; 0: only at a loss that is not finite."""
    divergence_reports: int = 5
    """Reports in a row above the bound that make a divergence."""


CHOICES = {"early_stopping_goal": GOALS}
AT_LEAST = {
    "early_stopping_patience": 0,
    "early_stopping_min_delta": 0.0,
    "divergence_factor": 0.0,
    "divergence_reports": 1,
}
# What evaluations report, by task; as ``Task.metrics``, which cannot be read without torch.
METRICS = {
    "sft": ("eval_loss", "eval_perplexity"),
    "clm": ("eval_loss", "eval_perplexity"),
    "classification": ("eval_loss", "eval_accuracy", "eval_f1"),
}
MAY_CHANGE = ("early_stopping_patience", "divergence_factor", "divergence_reports")


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if 0 < arguments.divergence_factor <= 1:
        yield (
            f"--divergence_factor={arguments.divergence_factor}: use a number above 1, or 0 to "
            "turn it off"
        )
    if arguments.early_stopping_patience and not arguments.eval_steps:
        yield (
            f"--early_stopping_patience={arguments.early_stopping_patience}: with --eval_steps=0 "
            "the only evaluation is at the end; set --eval_steps"
        )
    if arguments.load_best and not arguments.eval_steps:
        yield (
            "--load_best=true: with --eval_steps=0 the only evaluation is at the end; set "
            "--eval_steps"
        )
    metric, known = arguments.early_stopping_metric, METRICS[arguments.task]
    if (arguments.early_stopping_patience or arguments.load_best) and metric not in known:
        yield (
            f"--early_stopping_metric={metric}: evaluations report {', '.join(known)} with "
            f"--task={arguments.task}"
        )
    if arguments.load_best and zero_stage(arguments.deepspeed) == 3:
        # deepspeed/runtime/engine.py, load_checkpoint: it "wants a pristine model" there
        yield (
            "--load_best=true: not with ZeRO stage 3, where DeepSpeed loads no checkpoint into a "
            "model that has trained; use stage 2"
        )

"""When and how it is evaluated. Standard library only."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deepspeed_config import zero_stage

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

# A response score on more is a matter for a program of its own; the answers are kept in one file.
MOST_PROMPTS = 2000


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """When and how it is evaluated."""

    eval_steps: int = 500
    """Evaluate every so many steps and at the end; 0: only at the end."""
    eval_batch_size: int = 64
    """Sequences per forward pass and rank in evaluation."""
    response_score_prompts: int = 0
    """Held-out prompts that the model answers at the end, for a score from 0 to 5; 0: none."""
    response_max_tokens: int = 0
    """Longest answer in tokens; 0: twice its reference, at least 16."""
    eval_quantized: str = ""
    """Evaluate the trained weights also in 8bit, 4bit or 8bit,4bit; empty: not."""


AT_LEAST = {
    "eval_steps": 0,
    "eval_batch_size": 1,
    "response_score_prompts": 0,
    "response_max_tokens": 0,
}
MAY_CHANGE = (
    "eval_steps",
    "eval_batch_size",
    "response_score_prompts",
    "response_max_tokens",
    "eval_quantized",
)


# Of train/quantized.py, which needs torch.
QUANTIZED = ("8bit", "4bit")


def quantized_formats(arguments: Arguments) -> list[str]:
    """Part ``--eval_quantized`` into its formats, each once."""
    return list(dict.fromkeys(filter(None, arguments.eval_quantized.split(","))))


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    n_prompts = arguments.response_score_prompts
    if n_prompts > MOST_PROMPTS:
        yield f"--response_score_prompts={n_prompts}: use at most {MOST_PROMPTS}"
    task = arguments.task
    if n_prompts and task != "sft":
        yield (
            f"--response_score_prompts={n_prompts}: with --task=sft only, which has answers to "
            f"compare with; found --task={task}"
        )
    # A login node needs none of these packages.
    if n_prompts and machine.is_here and not importlib.util.find_spec("sacrebleu"):
        yield (
            f"--response_score_prompts={n_prompts}: sacrebleu is not installed; "
            "make setup-train installs it"
        )
    yield from _quantized_mistakes(arguments, machine)


def _quantized_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    formats, given = quantized_formats(arguments), f"--eval_quantized={arguments.eval_quantized}"
    if unknown := [name for name in formats if name not in QUANTIZED]:
        yield f"--eval_quantized={unknown[0]}: not known; allowed: {', '.join(QUANTIZED)}"
        return
    if formats and arguments.finetuning == "qlora":
        yield f"{given}: with --finetuning=qlora the model is in 4 bits already; leave it out"
    if formats and zero_stage(arguments.deepspeed) == 3:
        yield (
            f"{given}: not with ZeRO stage 3, whose ranks hold parts of the weights; "
            "use train/compare_quantized.py on the checkpoint"
        )
    if formats and machine.is_here:
        # Lazy: torch is loaded here already; and told now, not after hours of training.
        from quantized import explain_unusable

        for name in formats:
            if why := explain_unusable(name, "cuda" if machine.has_gpu else "cpu"):
                yield f"--eval_quantized={name}: {why}"

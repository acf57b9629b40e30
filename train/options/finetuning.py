"""Full fine-tuning or low-rank adapters, and which. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deepspeed_config import zero_stage

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

METHODS = ("full", "lora", "qlora")
VARIANTS = ("lora", "rslora", "dora")
# With its experts in one tensor, which peft adapts without dropout and without DoRA.
_PRESET_WITH_EXPERTS = "tiny-deepseek"


@dataclasses.dataclass(frozen=True)
class FinetuningOptions:
    """Full fine-tuning or low-rank adapters, and which."""

    finetuning: str = "full"
    """full: every weight is trained; lora: only low-rank adapters; qlora: adapters on a base that
    is held in 4 bits."""
    lora_rank: int = 8
    """Rank of the adapters."""
    lora_alpha: float = 16.0
    """Adapters are scaled by alpha / rank (rslora: by alpha / root of rank)."""
    lora_dropout: float = 0.0
    """Dropout on what goes into an adapter."""
    lora_targets: str = "auto"
    """Layers with an adapter: auto (all linear ones except the head), or the ends of their names,
    such as q_proj,v_proj."""
    lora_variant: str = "lora"
    """lora (arXiv 2106.09685), rslora (2312.03732) or dora (2402.09353)."""
    merge_adapters: bool = False
    """At the end, write a full model with the adapters merged to merged/ beside the checkpoints."""


CHOICES = {"finetuning": METHODS, "lora_variant": VARIANTS}
AT_LEAST = {"lora_rank": 1, "lora_alpha": 0.0}
MAY_CHANGE = ("merge_adapters",)


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if not 0 <= arguments.lora_dropout < 1:
        yield f"--lora_dropout={arguments.lora_dropout}: use 0 to 1"
    if arguments.finetuning == "full":
        if arguments.merge_adapters:
            yield (
                "--merge_adapters=true: with --finetuning=full there are no adapters, and every "
                "checkpoint is the full model; leave it out, or use lora or qlora"
            )
        return
    if arguments.model == _PRESET_WITH_EXPERTS and arguments.lora_targets == "auto":
        yield from _find_mistakes_with_experts(arguments)
    if zero_stage(arguments.deepspeed) == 3:
        if arguments.finetuning == "qlora":
            yield (
                "--finetuning=qlora: not with ZeRO stage 3, which would cut 4-bit blocks apart "
                "from their scales; use stage 2, a base in 4 bits is small"
            )
        if arguments.merge_adapters:
            yield (
                "--merge_adapters=true: not with ZeRO stage 3, where no rank holds the whole base; "
                "use stage 2, or merge the last checkpoint later"
            )


def _find_mistakes_with_experts(arguments: Arguments) -> Iterator[str]:
    remedy = "name --lora_targets without them, such as q_b_proj,kv_b_proj,o_proj"
    if arguments.lora_dropout:
        yield (
            f"--lora_dropout={arguments.lora_dropout}: peft knows no dropout for experts that are "
            f"held in one tensor; use 0, or {remedy}"
        )
    if arguments.lora_variant == "dora":
        yield (
            "--lora_variant=dora: peft knows no DoRA for experts that are held in one tensor; use "
            f"lora or rslora, or {remedy}"
        )

"""What ``make bench-train`` compares: arguments of ``train/main.py``, a name for each set.

Pure. A lever whose argument does not exist or that cannot work on the machine is refused by the
program itself, and its reason stands in the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

PLAIN = "plain fp32 Trainer"


@dataclasses.dataclass(frozen=True)
class Lever:
    """One set of arguments beyond those of the plain training."""

    name: str
    """As in the table."""
    arguments: Mapping[str, str]
    """Name and value; they rule over those of the plain training."""
    n_ranks: int = 1
    """Processes, one per GPU where there are GPUs."""
    joins: bool = True
    """Whether it is a part of "all together": of levers that exclude each other, one is."""


PLAIN_ARGUMENTS = {"precision": "fp32"}


def levers(micro_batch_size: int, *, has_gpu: bool) -> list[Lever]:
    """List every lever; ``micro_batch_size`` is that of accumulation, a part of the batch."""
    adapters = {"finetuning": "lora"}
    return [
        Lever("bf16", {"precision": "bf16"}),
        Lever("tf32", {"precision": "tf32"}, joins=False),
        Lever("fp16", {"precision": "fp16"}, joins=False),
        Lever("fp8", {"precision": "fp8"}, joins=False),
        Lever("accumulation", {"micro_batch_size": str(micro_batch_size)}),
        Lever("gradient checkpointing", {"gradient_checkpointing": "true"}),
        Lever("torch.compile", {"compile": "true"}, joins=has_gpu),
        Lever("attention eager instead of sdpa", {"attention": "eager"}, joins=False),
        # Its kernels take 16-bit numbers only, so it never stands quite alone.
        Lever(
            "flash attention (with bf16)",
            {"attention": "flash_attention_2", "precision": "bf16"},
        ),
        Lever("packing", {"packing": "true"}),
        Lever("fused optimizer", {"optimizer": "adamw", "fused": "true"}),
        Lever("ZeRO-2 on two ranks", {"deepspeed": "train/deepspeed/zero2.json"}, n_ranks=2),
        Lever("LoRA", adapters, joins=False),
        Lever("QLoRA", {"finetuning": "qlora"}, joins=False),
    ]


def all_together(levers: Collection[Lever], works: Collection[str]) -> list[Lever]:
    """Join the levers that worked alone: once on one rank, once with LoRA, once on two ranks.

    Args:
        levers: All of them.
        works: Names of those that ran here.
    """
    parts = [lever for lever in levers if lever.joins and lever.name in works]
    joined: dict[str, str] = {}
    for lever in parts:
        if lever.n_ranks == 1:
            joined.update(lever.arguments)
    combined = []
    if joined:
        combined.append(Lever("all together", joined))
        if "LoRA" in works:
            combined.append(Lever("all together, LoRA", {**joined, "finetuning": "lora"}))
    sharded = [lever for lever in parts if lever.n_ranks > 1]
    if joined and sharded:
        everything = {**joined, **sharded[0].arguments}
        combined.append(Lever(f"all together, {sharded[0].name}", everything, sharded[0].n_ranks))
    return combined


def command_line(base: Mapping[str, str], lever: Lever) -> list[str]:
    """Return the words after ``train/main.py``: the plain training's, and the lever's over them."""
    arguments = {**base, **lever.arguments}
    return [f"--{name}={value}" for name, value in arguments.items()]

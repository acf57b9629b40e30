"""Precision, memory and parallelism. Standard library only."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import deepspeed_config

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16", "fp8")
ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2", "flex")
# CUDA compute capability from which a GPU has it, and the first generation of such GPUs.
# bf16, TF32: A100 white paper; FP8: CUDA C programming guide, table of arithmetic by capability.
_NEEDS_CAPABILITY = {
    "tf32": ((8, 0), "Ampere"),
    "bf16": ((8, 0), "Ampere"),
    "fp8": ((8, 9), "Ada or Hopper"),
}


@dataclasses.dataclass(frozen=True)
class PrecisionOptions:
    """Precision, memory and parallelism."""

    precision: str = "auto"
    """fp32, tf32, bf16, fp16 (scaled losses), fp8; auto: bf16 on a GPU that has it, else fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    attention: str = "auto"
    """eager, sdpa, flash_attention_2 (package flash-attn), flex; auto: the model's own choice."""
    packing: bool = False
    """Put several sequences of a micro-batch into one row of seq_len, apart from each other."""
    compile: bool = False
    """Compile the model (torch.compile): minutes at the start, then faster on a GPU."""
    deepspeed: str = "none"
    """Path of a DeepSpeed configuration, or none."""


CHOICES = {"precision": PRECISIONS, "attention": ATTENTIONS}
# None of them changes a gradient beyond rounding.
MAY_CHANGE = ("gradient_checkpointing", "attention", "packing", "compile")


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    yield from deepspeed_config.find_mistakes(arguments, machine)
    yield from _precision_mistakes(arguments, machine)
    yield from _attention_mistakes(arguments, machine)
    if arguments.packing and arguments.micro_batch_size == 1:
        yield (
            "--packing=true: a micro-batch of 1 sequence has nothing to pack; use a larger "
            "--micro_batch_size, or --packing=false"
        )


def _precision_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    name = arguments.precision
    if name in ("fp16", "tf32", "fp8") and machine.has_gpu is False:
        yield f"--precision={name}: needs a GPU; use fp32 or bf16 here"
    elif name in _NEEDS_CAPABILITY and machine.has_gpu and machine.capability:
        least, generation = _NEEDS_CAPABILITY[name]
        if machine.capability < least:
            found = ".".join(map(str, machine.capability))
            yield (
                f"--precision={name}: needs a GPU of compute capability {least[0]}.{least[1]} "
                f"({generation}) or newer, this one has {found}; use fp16 or fp32"
            )
    if name == "fp8":
        if _is_missing("torchao", machine):
            yield "--precision=fp8: needs the package torchao; install it, or use bf16"
        if arguments.deepspeed != "none":
            yield (
                "--precision=fp8 and --deepspeed: DeepSpeed casts the weights that fp8 layers keep "
                "and scale themselves; use bf16, or --deepspeed=none"
            )


def _attention_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    name = arguments.attention
    if name == "flash_attention_2":
        if machine.has_gpu is False:
            yield "--attention=flash_attention_2: needs a GPU; use sdpa"
        elif _is_missing("flash_attn", machine):
            yield "--attention=flash_attention_2: the package flash-attn is missing; use sdpa"
        elif machine.capability and machine.capability < (8, 0):
            yield (
                "--attention=flash_attention_2: needs a GPU of compute capability 8.0 (Ampere) or "
                "newer; use sdpa"
            )
        if arguments.precision in ("fp32", "tf32"):
            yield (
                f"--attention=flash_attention_2 and --precision={arguments.precision}: its kernels "
                "take 16-bit numbers only; use bf16, or sdpa"
            )
    if name == "flex" and machine.has_gpu is False:
        yield ("--attention=flex: torch's flex attention has no backward pass on a CPU; use sdpa")
    if name == "flex" and arguments.attention_dropout:
        yield "--attention=flex and --attention_dropout: flex has no dropout; use sdpa or eager"


def _is_missing(package: str, machine: Machine) -> bool:
    """Tell whether the machine lacks a package; asked elsewhere, it is not known."""
    return machine.is_here and importlib.util.find_spec(package) is None

"""Precision, memory and parallelism. Standard library only."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclasses.dataclass(frozen=True)
class PrecisionOptions:
    """Precision, memory and parallelism."""

    precision: str = "auto"
    """fp32, bf16, fp16; auto: bf16 on a GPU that has it, else fp32."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    deepspeed: str = "none"
    """Path of a DeepSpeed configuration, or none."""


CHOICES = {"precision": PRECISIONS}


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if arguments.deepspeed != "none" and not os.path.isfile(arguments.deepspeed):
        yield f"--deepspeed={arguments.deepspeed}: no such file; or use none"
    if arguments.precision == "fp16" and machine.has_gpu is False:
        yield "--precision=fp16: needs a GPU; use fp32 or bf16 here"

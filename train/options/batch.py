"""How large a batch is, and how it is split. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """How large a batch is, and how it is split."""

    batch_size: int = 16
    """EFFECTIVE batch: sequences per optimizer step over all ranks and accumulation steps."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step and rank."""
    micro_batch_size: int = 0
    """Sequences per forward pass and rank; if given, the accumulation follows from it."""


AT_LEAST = {"batch_size": 1, "gradient_accumulation_steps": 1, "micro_batch_size": 0}
MAY_CHANGE = ("gradient_accumulation_steps", "micro_batch_size")  # the effective batch stays


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if arguments.micro_batch_size and arguments.gradient_accumulation_steps > 1:
        yield "--micro_batch_size and --gradient_accumulation_steps: give one; the other follows"

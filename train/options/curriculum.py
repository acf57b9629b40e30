"""Shorter sequences first. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from curriculum import CurriculumMistake, parse_curriculum

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


@dataclasses.dataclass(frozen=True)
class CurriculumOptions:
    """Shorter sequences first."""

    curriculum: str = "none"
    """Cut sequences to a length that grows: length:share of the training from which on it holds,
    such as 64:0,128:0.3,256:0.7 (arXiv 2108.06084); none: --seq_len throughout."""


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    try:
        stages = parse_curriculum(arguments.curriculum)
    except CurriculumMistake as error:
        yield f"--curriculum={arguments.curriculum}: {error}"
        return
    if stages and stages[-1].length > arguments.seq_len:
        yield (
            f"--curriculum={arguments.curriculum}: {stages[-1].length} tokens are more than "
            f"--seq_len={arguments.seq_len}; use at most that"
        )

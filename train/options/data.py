"""What it is trained and evaluated on. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """What it is trained and evaluated on."""

    data: str = "dialogues"
    """dialogues (self-made), a JSONL file, or a directory of datasets.save_to_disk."""
    eval_data: str = ""
    """As --data; empty: hold back --eval_fraction of --data."""
    eval_fraction: float = 0.1
    """Share of --data held back for evaluation, chosen by content, the same for every seed."""
    seq_len: int = 64
    """Longest sequence in tokens; longer dialogues are cut on the right."""


AT_LEAST = {"seq_len": 2}


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if not arguments.eval_data and not 0 < arguments.eval_fraction < 1:
        yield (
            f"--eval_fraction={arguments.eval_fraction}: use a number between 0 and 1, or give "
            "--eval_data"
        )

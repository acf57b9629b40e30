"""Which model is trained. Standard library only."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import model_files

if TYPE_CHECKING:
    from arguments import Arguments
    from machine import Machine


PRESETS = ("tiny-deepseek", "tiny-llama", "small-llama", "llama-1b")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model is trained."""

    model: str = "tiny-deepseek"
    """tiny-deepseek, tiny-llama, small-llama, llama-1b (random start), or a local model
    directory."""
    attention_dropout: float = 0.0
    """Dropout on attention weights while training."""


def find_mistakes(arguments: Arguments, machine: Machine) -> Iterator[str]:
    """Say what cannot work, a line each; what is unknown of the machine is no mistake."""
    if not 0 <= arguments.attention_dropout < 1:
        yield f"--attention_dropout={arguments.attention_dropout}: use 0 to 1"
    if os.path.isdir(arguments.model):
        for mistake in model_files.find_mistakes(arguments.model):
            yield f"--model={arguments.model}: {mistake}"

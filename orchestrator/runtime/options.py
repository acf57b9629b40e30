"""The command line of an attempt. Compute node; standard library only.

argparse would double the start-up time of ten thousand tasks.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Options:
    """The parsed command line of an attempt."""

    def __init__(self, argv: Sequence[str]):
        """Parse ``argv``.

        Raises:
            ValueError: An unknown option, a missing value or no program.
        """
        self.trial_dir = ""
        self.seed: str | None = None
        self.layout = "local"
        self.requeue = False
        self.resources: dict[str, Any] = {}
        n_words = 0
        words = iter(argv)
        for word in words:
            if word == "--":
                break
            if word == "--requeue":
                self.requeue = True
                continue
            value = next(words, None)
            if value is None:
                raise ValueError(f"{word} needs a value")
            if word == "--trial-dir":
                self.trial_dir = value.rstrip("/")
            elif word == "--seed":
                self.seed = value
            elif word == "--layout":
                self.layout = value
            elif word == "--resources":
                self.resources = json.loads(value)
            elif word == "--words":
                n_words = int(value)
            else:
                raise ValueError(f"unknown option {word}")
        self.command = list(words) or _words_from_environment(n_words)
        if not self.trial_dir or not self.command:
            raise ValueError("needs --trial-dir DIR -- PROGRAM [ARGUMENT ...]")


def _words_from_environment(n_words: int) -> list[str]:
    """Take the program's words out of the environment.

    Raises:
        ValueError: One is missing.
    """
    names = [f"ORCHESTRATOR_WORD_{index}" for index in range(n_words)]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(f"{missing[0]} is not in the environment; does the site clean it?")
    return [os.environ.pop(name) for name in names]

"""Which trial a person means by a word. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.contract.errors import UserError


def choose_trial(names: Sequence[str], word: str) -> str:
    """Return the directory name of the trial that is meant.

    Args:
        names: Directory names of all trials, in number order.
        word: A number, a directory name or a path that ends in it, or the beginning of a hash.

    Raises:
        UserError: No trial, or more than one, is meant.
    """
    text = word.strip().rstrip("/").rpartition("/")[2]
    exact = [
        name for name in names if name == text or (text.isdecimal() and _number(name) == int(text))
    ]
    begun = [name for name in names if len(text) >= 4 and name.partition("-")[2].startswith(text)]
    found = exact or begun
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{word!r} can mean {', '.join(found[:5])}; give the whole name")
    known = f"0 to {_number(names[-1])}" if names else "none yet"
    raise UserError(f"no trial {word!r}; give a number ({known}) or a directory name")


def _number(name: str) -> int | None:
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else None

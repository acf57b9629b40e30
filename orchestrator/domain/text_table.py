"""A small table of texts, the same for a terminal, Markdown and HTML. Pure; knows no layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are texts for people."""

    title: str
    """What it shows, as a heading."""
    headers: Sequence[str]
    """Names of the columns."""
    rows: Sequence[Sequence[str]]
    """Cells; foreign text is shown through ``plain_text``, and escaped by who writes it."""
    right: Sequence[bool] = ()
    """Which columns hold numbers, and stand to the right; empty: none."""
    notes: Sequence[str] = ()
    """Lines below it: how it was computed, what is not known."""

"""A figure of the report, as data that the page's JavaScript draws. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure."""

    id: str
    """Name within the page: letters and hyphens; also names the function that draws it."""
    title: str
    """Heading."""
    caption: str
    """What it shows and how to read it; doubles as the text alternative."""
    data: Mapping[str, Any]
    """JSON values for the drawing function; large ones as columns (lists of equal length)."""
    table: str = ""
    """The same in words, one sentence, for who cannot see it: the extremes and the trend."""

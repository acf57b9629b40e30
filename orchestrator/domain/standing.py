"""How sure the first place of a leaderboard is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Certainty(Enum):
    """How sure the first place is."""

    NONE = "none"
    """Nothing is ranked."""
    PROVISIONAL = "provisional"
    """One run each, trials still to come, or repeats missing: noise may have decided."""
    TIED = "tied"
    """Its repeats cannot tell it from others."""
    CLEAR = "clear"
    """Its repeats tell it from all others; chosen and measured on the same runs, though."""
    CONFIRMED = "confirmed"
    """It came first on fresh seeds, too, or is tied for it there."""
    OVERTURNED = "overturned"
    """On fresh seeds another is better."""


@dataclass(frozen=True)
class Standing:
    """The first place, and how sure it is."""

    certainty: Certainty = Certainty.NONE
    """How sure."""
    words: str = ""
    """One sentence for people: why; empty when nothing is ranked."""

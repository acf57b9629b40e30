"""Spans of time in words, as short as a line of a table wants them. Pure."""

from __future__ import annotations

import math

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def tell_duration(seconds: float | None) -> str:
    """Show a span in its two largest units: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``.

    Unknown, and what is not finite, is ``—``; less than nothing counts as nothing.
    """
    if seconds is None or not math.isfinite(seconds):
        return "—"
    whole = max(0, round(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < _DAY_S:
        hours, minutes = divmod(whole // _MINUTE_S, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(whole // _HOUR_S, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"

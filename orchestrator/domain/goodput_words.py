"""A sweep's goodput in words, the same in collect, costs and the report. Pure.

Shares are tenths of a percent that add up to 100.0 %, so that the share in results and the share
lost are those of the rows beside them. Where attempts ended without a word, what is in results is
*at most*, and what is lost *at least*, the share that is shown.
"""

from __future__ import annotations

from decimal import Decimal

from orchestrator.domain.amounts import UNKNOWN, show_hours, show_parts, show_rate
from orchestrator.domain.goodput import PARTS, RESULTS, UNFINISHED, Goodput


def show_shares(goodput: Goodput) -> dict[str, str]:
    """Show the share of each part, by name, as in ``4.1%``; empty when nothing was allocated.

    Unknown is what only attempts are in of which no length is known.
    """
    allocated = goodput.allocated_ms
    if not allocated:
        return {}
    shown = show_parts([goodput.parts_ms[name] * 100 for name in PARTS], allocated, 1, 1)
    return {
        name: UNKNOWN if name in goodput.open_in and not goodput.parts_ms[name] else f"{share}%"
        for name, share in zip(PARTS, shown, strict=False)
    }


def result_share(goodput: Goodput) -> str:
    """Say which share is in results: ``85.4%``, ``at most 85.4%`` or ``about 85.4%``."""
    share = show_shares(goodput).get(RESULTS, UNKNOWN)
    return share if share == UNKNOWN else f"{_about(goodput, 'at most ')}{share}"


def lost_share(goodput: Goodput) -> str:
    """Say which share is in no result and in no trial that can still finish, likewise."""
    lost = _lost(goodput)
    return UNKNOWN if lost is None else f"{_about(goodput, 'at least ')}{lost}%"


def has_lost(goodput: Goodput) -> bool:
    """Tell whether a share is lost that is not shown as 0."""
    return bool(_lost(goodput))


def describe_allocated(goodput: Goodput) -> str:
    """Say how much was allocated: ``412.0 GPU-hours``, ``at least 412.0 GPU-hours``."""
    least = "at least " if goodput.n_open else ""
    return f"{least}{show_hours(goodput.allocated_ms)} {goodput.unit}"


def results_per_hour(goodput: Goodput) -> str:
    """Say how many results an hour brought; empty when nothing was allocated."""
    rate = goodput.done_per_hour
    if rate is None:
        return ""
    most = "at most " if goodput.n_open else ""
    return f"{most}{show_rate(rate)} results per {goodput.unit.removesuffix('s')}"


def _lost(goodput: Goodput) -> Decimal | None:
    """Return what the shown shares leave, in percent; None when nothing was allocated."""
    shares = show_shares(goodput)
    if not shares:
        return None
    kept = (shares[name] for name in (RESULTS, UNFINISHED) if shares[name] != UNKNOWN)
    return Decimal("100.0") - sum(Decimal(share.removesuffix("%")) for share in kept)


def _about(goodput: Goodput, bound: str) -> str:
    """Say how a share is known, where attempts ended without a word or the saved part is a guess.

    In vain is what such an attempt did beyond what is known, unless its result is there.
    """
    if goodput.n_open and RESULTS not in goodput.open_in:
        return bound
    return "about " if goodput.is_estimate else ""


def describe_open(n_open: int) -> str:
    """Say what attempts without an end mean for the sums; empty without any."""
    if not n_open:
        return ""
    count, its = (
        ("attempt", "counts up to its") if n_open == 1 else ("attempts", "count up to their")
    )
    return (
        f"{n_open:,} {count} ended without a word and {its} last sign of life: it was at least that"
    )


def describe_goodput(goodput: Goodput) -> list[str]:
    """Say in a few lines where the time went; no line before anything ran."""
    is_least = [f"{describe_open(goodput.n_open)}."] if goodput.n_open else []
    if not goodput.allocated_ms:
        return is_least
    lines = [f"Goodput: {result_share(goodput)} of {describe_allocated(goodput)} is in results."]
    shares = show_shares(goodput)
    named = [n for n in PARTS if n != RESULTS and (goodput.parts_ms[n] or n in goodput.open_in)]
    width = max([6, *(len(shares[name]) for name in named)])
    lines += [f"  {shares[name]:>{width}}  {PARTS[name]}" for name in named]
    lines += is_least
    p50, p99 = goodput.resume_percentile_s(50), goodput.resume_percentile_s(99)
    if p50 is not None and p99 is not None:
        lines.append(f"From an interruption to the next attempt: p50 {p50:.0f} s, p99 {p99:.0f} s.")
    if goodput.success_rate is not None:
        lines.append(
            f"{goodput.success_rate:.1%} of the trials that ended have a result; "
            f"{results_per_hour(goodput)}."
        )
    return lines

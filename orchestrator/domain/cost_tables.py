"""The tables of ``make costs``, as texts, and the same as JSON values. Pure.

Numbers of a table that are parts of a total add up to the total as it is shown (``amounts``). What
is not known says so, and is never shown as 0; what is known from below only says "at least". Hours
have the unit of ``Goodput.unit``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orchestrator.domain.amounts import (
    AT_LEAST,
    HOUR_MS,
    UNKNOWN,
    at_least,
    show_hours,
    show_money,
    show_money_parts,
    show_parts,
)
from orchestrator.domain.economics import LOST, Economics, Way
from orchestrator.domain.goodput import (
    PARTS,
    PREEMPTED,
    RESULTS,
    UNFINISHED,
    goodput_record,
)
from orchestrator.domain.goodput_words import (
    describe_open,
    lost_share,
    result_share,
    results_per_hour,
    show_shares,
)
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.text_table import TextTable

_MEASURED, _EXTRAPOLATED = "measured", "extrapolated"
_WAYS = {
    "as_run": ("as run", _MEASURED),
    "on_demand": ("the same on demand", _EXTRAPOLATED),
    "in_series": ("one machine, in series", _EXTRAPOLATED),
}


def way_table(economics: Economics) -> TextTable:
    """Compare what the sweep took with other ways of running it."""
    ways = [getattr(economics, name) for name in _WAYS]
    run = economics.as_run
    goodput = economics.goodput
    unit = goodput.unit
    rows = [
        ["how it is known", *(basis for _, basis in _WAYS.values())],
        ["wall time", *(show_duration(way.wall_s) for way in ways)],
        [unit, *(at_least(way.is_at_least, _hours(way.device_h)) for way in ways)],
        ["cost", *(_cost(way) for way in ways)],
        ["cost saved as run", "", *(_saved_money(run, way) for way in ways[1:])],
        ["time saved as run", "", *(_share(saved_time(run, way)) for way in ways[1:])],
        ["trials at once", *(_count(way.at_once) for way in ways)],
        ["trials with a result", f"{goodput.n_done} of {economics.n_trials}", "", ""],
        ["success rate", _share(goodput.success_rate), "", ""],
    ]
    headers = ["", *(title for title, _ in _WAYS.values())]
    title = "What it took, and what it would have taken"
    return TextTable(
        title + (", so far" if economics.is_so_far else ""),
        headers,
        rows,
        (False, True, True, True),
        _way_notes(economics),
    )


def part_table(economics: Economics) -> TextTable:
    """Show where the allocated time and money went; the rows add up to the last one."""
    goodput = economics.goodput
    names = [name for name, part in economics.parts.items() if part.n_attempts or name == RESULTS]
    parts = [economics.parts[name] for name in names]
    are_open = [*(part.n_open > 0 for part in parts), goodput.n_open > 0]
    hours = show_parts([part.device_ms for part in parts], HOUR_MS, least=1)
    shares = show_shares(goodput)
    columns = [
        [*(str(part.n_attempts) for part in parts), str(economics.n_attempts)],
        [at_least(*cell) for cell in zip(are_open, hours, strict=True)],
        [*(shares[name] for name in names), "100.0%"] if shares else ["-"] * len(hours),
    ]
    headers = ["where it went", "attempts", goodput.unit, "share"]
    for currency in economics.money:
        amounts = [(part.money or {}).get(currency, 0) for part in parts]
        # Of a part that has nothing to do with this currency nothing is open.
        are_open_here = [
            *(
                is_open and currency in (p.money or {})
                for p, is_open in zip(parts, are_open, strict=False)
            ),
            are_open[-1],
        ]
        cells = zip(are_open_here, show_money_parts(amounts), strict=True)
        columns.append([at_least(*cell) for cell in cells])
        headers.append(one_line(currency, 12) or "cost")
    if not economics.money:
        columns.append([UNKNOWN] * len(hours))
        headers.append("cost")
    words = [PARTS[name] for name in names]
    rows = list(zip([*words, "allocated in all"], *columns, strict=True))
    title = "Where it went" + (", so far" if economics.is_so_far else "")
    right = (False, *[True] * (len(headers) - 1))
    return TextTable(title, headers, rows, right, _part_notes(economics))


def show_duration(seconds: float | None) -> str:
    """Show a time in the unit that suits it: ``35.0 s``, ``12.4 min``, ``64.8 h``."""
    if seconds is None:
        return UNKNOWN
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def saved_money(run: Way, other: Way) -> float | None:
    """Return the share of the other way's cost that was saved; below 0 if it cost more.

    None where either is not known, is nothing, or is in another currency.
    """
    if run.unknown_cost or other.unknown_cost or len(run.cost) != 1 or len(other.cost) != 1:
        return None
    ((currency, amount),), ((other_currency, other_amount),) = run.cost.items(), other.cost.items()
    if currency != other_currency or other_amount <= 0:
        return None
    return 1 - amount / other_amount


def saved_time(run: Way, other: Way) -> float | None:
    """Return the share of the other way's wall time that was saved; below 0 if it took longer."""
    if run.wall_s is None or not other.wall_s:
        return None
    return 1 - run.wall_s / other.wall_s


def economics_record(economics: Economics) -> dict[str, Any]:
    """Put it into JSON values."""
    ways = {}
    for name, (_, basis) in _WAYS.items():
        way: Way = getattr(economics, name)
        ways[name] = {
            "basis": basis,
            "wall_s": way.wall_s,
            "device_h": way.device_h,
            "cost": None if way.unknown_cost and not way.cost else dict(way.cost),
            "unknown_cost": way.unknown_cost or None,
            "trials_at_once": way.at_once,
            "is_at_least": way.is_at_least,
        }
        if name != "as_run":
            ways[name]["cost_saved"] = saved_money(economics.as_run, way)
            ways[name]["time_saved"] = saved_time(economics.as_run, way)
    parts = {
        name: {
            "attempts": part.n_attempts,
            "device_ms": part.device_ms,
            "cost_nano": dict(part.money or {}),
            "is_lost": name in LOST,
            "attempts_without_end": part.n_open,
        }
        for name, part in economics.parts.items()
    }
    return {
        "so_far": economics.is_so_far,
        "trials": economics.n_trials,
        "trials_unfinished": economics.n_unfinished,
        "attempts": economics.n_attempts,
        "attempts_without_price": economics.n_unpriced,
        "attempts_without_end": economics.goodput.n_open,
        "beyond_at_most_device_ms": economics.open_at_most_ms,
        "began_unix": economics.began_s,
        "ended_unix": economics.ended_s,
        "since_submission": economics.is_since_submission,
        "idle_s": economics.idle_s,
        "ways": ways,
        "parts": parts,
        "total": {"device_ms": economics.goodput.allocated_ms, "cost_nano": dict(economics.money)},
        "goodput": goodput_record(economics.goodput),
    }


def _way_notes(economics: Economics) -> list[str]:
    run, goodput = economics.as_run, economics.goodput
    notes = []
    if economics.began_s is not None and economics.ended_s is not None:
        first = "first submission" if economics.is_since_submission else "first start"
        last = "present" if economics.is_under_way else "last end"
        idle = f", {show_duration(economics.idle_s)} of it with no trial running"
        notes.append(
            f"as run: measured, from the {first} ({_moment(economics.began_s)}) to the {last} "
            f"({_moment(economics.ended_s)}){idle if economics.idle_s >= 1 else ''}; all attempts "
            "count, lost work included."
        )
    if run.unknown_cost:
        notes.append(f"as run: {run.unknown_cost}, so what they cost is in no amount.")
    if economics.on_demand.wall_s is None:
        notes.append(f"on demand, in series: {economics.on_demand.unknown_cost}.")
        return notes
    notes.append(
        "on demand: extrapolated from the work that survived and one start-up a trial, without "
        f"lost work or waiting, {_count(run.at_once)} at once."
    )
    notes.append("in series: the same work, one trial after the other, without lost work.")
    if economics.on_demand.unknown_cost:
        notes.append(f"{one_line(economics.on_demand.unknown_cost, 400)}.")
    if economics.n_gave_up:
        lacking = "1 trial without a result is"
        if economics.n_gave_up > 1:
            lacking = f"{economics.n_gave_up} trials without a result are"
        notes.append(f"{lacking} in what it took, not in the others.")
    if economics.is_so_far:
        notes.append(f"{economics.n_unfinished} of {economics.n_trials} trials have not ended.")
    if goodput.n_open:
        notes.append(f"{AT_LEAST.strip()}, ≤: {describe_open(goodput.n_open)}.")
    elif goodput.is_estimate:
        notes.append("The saved part of some attempts is a guess.")
    return notes


def _part_notes(economics: Economics) -> list[str]:
    goodput = economics.goodput
    notes = []
    if goodput.allocated_ms:
        notes.append(
            f"Goodput {result_share(goodput)}; lost {lost_share(goodput)}; "
            f"success rate {_share(goodput.success_rate)}; {results_per_hour(goodput)}."
        )
    if economics.parts[PREEMPTED].device_ms:
        notes.append("preempted: told to stop, also by a time limit, a budget or a canary's check.")
    if sum(part.n_attempts for part in economics.parts.values()) > economics.n_attempts:
        notes.append("An attempt can be in several rows.")
    if economics.n_unpriced:
        notes.append(f"{one_line(economics.as_run.unknown_cost)}.")
    if goodput.n_open:
        notes.append(_open_note(economics))
    if economics.parts[UNFINISHED].device_ms:
        notes.append("What is in trials that are not finished may still become a result.")
    return notes


def _open_note(economics: Economics) -> str:
    """Say what attempts of which no end is known mean for the sums; empty without any."""
    note = describe_open(economics.goodput.n_open)
    if note and economics.open_at_most_ms is not None:
        more = _hours(economics.open_at_most_ms / HOUR_MS)
        note += f", and at most {more} {economics.goodput.unit} more, until the next began"
    return f"{AT_LEAST.strip()}: {note}." if note else ""


def _cost(way: Way) -> str:
    if not way.cost:
        return UNKNOWN
    shown = f"{show_money(way.cost)}{' + ' + UNKNOWN if way.unknown_cost else ''}"
    return at_least(way.is_at_least, shown)


def _hours(hours: float | None) -> str:
    return UNKNOWN if hours is None else show_hours(hours * HOUR_MS)


def _saved_money(run: Way, other: Way) -> str:
    share = saved_money(run, other)
    return f"{'≤ ' if run.is_at_least and share is not None else ''}{_share(share)}"


def _share(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.1%}"


def _count(n: int | None) -> str:
    return UNKNOWN if n is None else str(n)


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")

"""The timeline of attempts: when each ran, how it ended, how many ran at once. Pure.

Begin and end are the attempt record's, on its node's clock; an attempt without an end ends now if
it runs, else at its last heartbeat, which is an estimate.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.contract import records
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import attempt_wall_s
from orchestrator.domain.figure import Figure
from orchestrator.domain.figures.columns import MAX_CHARS
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.trial_files import Attempt, TrialFiles

# Bars beyond this are thinner than a pixel, and slow to draw.
MAX_ATTEMPTS = 4000
MAX_INTERRUPTED = 60
_MAX_STEPS = 1000
# How an attempt ended, in the order of the legend.
ENDS = ("committed", "preempted", "killed", "failed", "superseded", "running")
_END_OF = {
    records.COMMITTED: "committed",
    records.PREEMPTED: "preempted",
    records.FAILED: "failed",
    # Neither counts, and neither did harm: another attempt had the trial.
    records.REFUSED: "superseded",
    records.SUPERSEDED: "superseded",
}


class Bar(NamedTuple):
    """An attempt on the timeline."""

    start_s: float
    """Unix time of its start."""
    end_s: float
    """And of its end."""
    end: str
    """How it ended; one of ``ENDS``."""
    trial: str
    """Whose."""
    number: int
    """Which of the trial's."""
    is_estimate: bool
    """Whether the end is a guess."""


def build_timeline(
    trials: Iterable[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> Figure:
    """Build the figure.

    Args:
        trials: What the trials' files say.
        states: By trial name.
        now_s: Unix time, up to which running attempts go.
    """
    title = "Timeline of attempts"
    caption = (
        "Every attempt from start to end (UTC), packed into as few rows as ran at once, coloured "
        "by how it ended; above, how many ran. Preempted: it was told to stop. Killed: it ended "
        "without a word, and its end is its last sign of life."
    )
    bars, n_unknown = collect_bars(trials, states, now_s)
    if not bars:
        reason = "No attempt has started yet."
        if n_unknown:
            reason = f"None of {n_unknown} attempts says when it started."
        return Figure("timeline", title, caption, {"reason": reason})
    shown = _choose(bars)
    if len(shown) < len(bars):
        caption += (
            f" Drawn are {len(shown):,} of {len(bars):,} attempts: all that were not committed "
            "as far as there is room, then the longest; the numbers above count all."
        )
    if n_unknown:
        caption += f" Left out: {n_unknown:,} that do not say when they ran."
    origin_s = math.floor(min(bar.start_s for bar in bars))
    names = list(dict.fromkeys(bar.trial for bar in shown))
    place = {name: index for index, name in enumerate(names)}
    lanes = pack_lanes(shown)
    times, running = count_running(bars)
    gaps = _gaps(bars)
    interrupted = _most_interrupted(bars)
    if len(interrupted) > MAX_INTERRUPTED:
        caption += (
            f" The other choice of rows shows {MAX_INTERRUPTED} of the {len(interrupted):,} trials "
            "with several attempts, those with most of them first."
        )
    data = {
        "origin_s": origin_s,
        "ends": list(ENDS),
        "start": [round(bar.start_s - origin_s) for bar in shown],
        "length": [round(bar.end_s) - round(bar.start_s) for bar in shown],
        "end": [ENDS.index(bar.end) for bar in shown],
        "trials": [one_line(name, MAX_CHARS) for name in names],
        "trial": [place[bar.trial] for bar in shown],
        "attempt": [bar.number for bar in shown],
        "guessed": [index for index, bar in enumerate(shown) if bar.is_estimate],
        "lane": lanes,
        "n_lanes": max(lanes) + 1,
        "count_t": [round(time_s - origin_s) for time_s in times],
        "count": running,
        "interrupted": [place[name] for name in interrupted[:MAX_INTERRUPTED] if name in place],
    }
    counts = Counter(bar.end for bar in bars)
    ended = ", ".join(f"{counts[end]:,} {end}" for end in ENDS if counts[end])
    table = f"{len(bars):,} attempts: {ended}; at most {max(running):,} at once"
    if gaps:
        middle = sorted(gaps)[len(gaps) // 2]
        length = f"{middle:.0f} s" if middle < 90 else f"{middle / 60:,.0f} min"
        table += f"; {len(gaps):,} went on after a gap of {length} (median)"
    return Figure("timeline", title, caption, data, table + ".")


def collect_bars(
    trials: Iterable[TrialFiles], states: Mapping[str, TrialState], now_s: float
) -> tuple[list[Bar], int]:
    """Return every attempt whose times are known, by start, and how many are not."""
    bars: list[Bar] = []
    n_unknown = 0
    for trial in trials:
        last = len(trial.attempts) - 1
        for index, attempt in enumerate(trial.attempts):
            is_running = (
                index == last
                and attempt.outcome is None
                and attempt.ended_at is None
                and states.get(trial.name) is TrialState.RUNNING
            )
            after = trial.attempts[index + 1] if index < last else None
            bar = _make_bar(trial.name, attempt, after, now_s, is_running)
            if bar is None:
                n_unknown += 1
            else:
                bars.append(bar)
    return sorted(bars), n_unknown


def _make_bar(
    trial: str, attempt: Attempt, after: Attempt | None, now_s: float, is_running: bool
) -> Bar | None:
    wall_s, is_estimate = attempt_wall_s(attempt, now_s, is_running, after)
    if wall_s is None or attempt.started_at is None:
        return None
    start_s = attempt.started_at.timestamp()
    end = "running" if is_running else _END_OF.get(attempt.outcome or "", "killed")
    return Bar(start_s, start_s + wall_s, end, trial, attempt.number, is_estimate)


def pack_lanes(bars: Sequence[Bar]) -> list[int]:
    """Put bars, by start, into as few rows as possible: each into the lowest that is free."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes: list[int] = []
    n_lanes = 0
    for bar in bars:
        while busy and busy[0][0] <= bar.start_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, n_lanes = n_lanes, n_lanes + 1
        heapq.heappush(busy, (bar.end_s, lane))
        lanes.append(lane)
    return lanes


def count_running(bars: Sequence[Bar]) -> tuple[list[float], list[int]]:
    """Count how many ran at once: times, and the number from each on.

    Of very many changes each of ``_MAX_STEPS`` spans keeps its largest number.
    """
    changes: Counter[float] = Counter()
    for bar in bars:
        changes[bar.start_s] += 1
        changes[bar.end_s] -= 1
    times = sorted(time_s for time_s, change in changes.items() if change)
    counts: list[int] = []
    running = 0
    for time_s in times:
        running += changes[time_s]
        counts.append(running)
    if len(times) <= _MAX_STEPS:
        return times, counts
    span_s = (times[-1] - times[0]) / _MAX_STEPS
    spans: dict[int, tuple[float, int]] = {}
    for time_s, count in zip(times, counts, strict=True):
        span = min(_MAX_STEPS - 1, int((time_s - times[0]) / span_s))
        before = spans.get(span)
        spans[span] = (before[0], max(before[1], count)) if before else (time_s, count)
    kept = [*list(spans.values())[:-1], (times[-1], counts[-1])]
    return [time_s for time_s, _ in kept], [count for _, count in kept]


def _choose(bars: Sequence[Bar]) -> list[Bar]:
    """Pick what is drawn of very many: what was not committed, then the longest; by start."""
    if len(bars) <= MAX_ATTEMPTS:
        return list(bars)
    by_need = sorted(bars, key=lambda bar: (bar.end == "committed", bar.start_s - bar.end_s))
    return sorted(by_need[:MAX_ATTEMPTS])


def _most_interrupted(bars: Sequence[Bar]) -> list[str]:
    """Name the trials with more than one attempt, most attempts first."""
    counts = Counter(bar.trial for bar in bars)
    many = [name for name, n in counts.items() if n > 1]
    return sorted(many, key=lambda name: (-counts[name], name))


def _gaps(bars: Sequence[Bar]) -> list[float]:
    """Return the seconds between attempts of one trial."""
    last_end: dict[str, float] = {}
    gaps = []
    for bar in bars:
        if bar.trial in last_end:
            gaps.append(max(0.0, bar.start_s - last_end[bar.trial]))
        last_end[bar.trial] = bar.end_s
    return gaps

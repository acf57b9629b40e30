"""What a sweep took, where it went, and what it would have taken otherwise.

Pure. Built on ``domain.goodput``, which parts the time of all attempts exactly, in whole
device-milliseconds. Money is parted likewise, in whole billionths of its currency: of each attempt
in proportion to its time. So the parts add up to what was allocated, in time and in money.

Ways of running the same sweep:

- *as run*: measured; a lower bound where attempts died without a word, which count up to their last
  sign of life (``domain.cost``): then the part of what was killed, and the sums, are at least that.
  Wall time from the first submission (or, where the journal has none, the first start) to the last
  end; GPU-hours and money of all attempts, lost work included.
- *the same on demand*: extrapolated. The work that survives, and one start-up a trial; nothing is
  lost. As many trials at once as ran at once at most, in the order of their numbers, and no waiting
  in a queue. At the price on demand that was known at submit.
- *one machine, in series*: extrapolated. The same work, one trial after the other.

Trials that failed for good or were cancelled cost money as run, and are not in the other two, which
makes the comparison a cautious one. Start-up that no attempt recorded counts as work.

Not covered: what allocations cost besides (storage, traffic); a machine that is paid for in whole
nodes or whole hours; how long the queue of an on-demand partition is.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.contract.states import TrialState
from orchestrator.domain.amounts import HOUR_MS, NANO
from orchestrator.domain.cost import HOUR_S, attempt_price, device_count, on_demand_price
from orchestrator.domain.goodput import (
    PARTS,
    RESULTS,
    START_UP,
    UNFINISHED,
    AttemptAccount,
    Goodput,
    TrialAccount,
    account_trial,
    measure_goodput,
    open_part,
)
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.trial_files import TrialFiles

LOST = tuple(name for name in PARTS if name not in (RESULTS, UNFINISHED))
_ENDED = (TrialState.DONE, TrialState.FAILED, TrialState.CANCELLED)
_UNDER_WAY = (TrialState.PENDING, TrialState.RUNNING, TrialState.REQUEUED)
# Fates of work that survives, in a result or in a trial that goes on.
_KEPT = (RESULTS, UNFINISHED)


@dataclass(frozen=True)
class Part:
    """Where some of the allocated time went."""

    n_attempts: int = 0
    """Attempts with time in it; one may be in several parts, and each is in one at least."""
    device_ms: int = 0
    """Device-milliseconds."""
    money: Mapping[str, int] | None = None
    """Billionths of each currency; None is nothing."""
    n_open: int = 0
    """Of these attempts, those of which no end is known: the time is at least this."""


@dataclass(frozen=True)
class Way:
    """A way of running the sweep, measured or extrapolated."""

    wall_s: float | None
    """Seconds from its beginning to its end; None: not known."""
    device_h: float | None
    """Device-hours; see ``Goodput.unit``."""
    cost: Mapping[str, float]
    """Money by currency, which are never added."""
    unknown_cost: str = ""
    """Why ``cost`` is not all of it, or nothing; empty: it is all."""
    at_once: int | None = None
    """Most trials at a time; None: nothing ran."""
    is_at_least: bool = False
    """Whether device-hours and cost are lower bounds."""


@dataclass(frozen=True)
class Economics:
    """What a sweep took."""

    goodput: Goodput
    """Where the time went, and success rate."""
    parts: Mapping[str, Part]
    """By name of ``PARTS``; all are there."""
    n_attempts: int
    """All attempts."""
    money: Mapping[str, int]
    """What all of them cost, in billionths of each currency."""
    open_at_most_ms: int | None
    """Device-milliseconds that attempts without a known end can have taken beyond what is counted:
    until the next one's claim; None where nothing bounds it."""
    n_unpriced: int
    """Attempts whose profile stated no price: they are in no amount."""
    as_run: Way
    """Measured."""
    on_demand: Way
    """Extrapolated."""
    in_series: Way
    """Extrapolated."""
    began_s: float | None
    """Unix time of the first submission or start; None: nothing ran."""
    ended_s: float | None
    """Unix time of the last end, or of now while trials are under way."""
    is_since_submission: bool
    """Whether ``began_s`` is a submission, not a start."""
    is_under_way: bool
    """Whether trials run or wait in the queue, so that ``ended_s`` is now."""
    idle_s: float
    """Seconds in between at which no trial ran."""
    n_trials: int
    """All trials."""
    n_unfinished: int
    """Trials that have not ended."""
    n_gave_up: int
    """Trials that failed or were cancelled."""

    @property
    def is_so_far(self) -> bool:
        """Whether trials are still to come to an end."""
        return self.n_unfinished > 0


def measure_economics(
    trials: Iterable[tuple[TrialFiles, TrialState]], submitted_s: float | None, now_s: float
) -> Economics:
    """Account for time and money of a sweep.

    Args:
        trials: All trials with their states.
        submitted_s: Unix time of the first submission; None: not known.
        now_s: Unix time up to which running attempts count.
    """
    trials = sorted(trials, key=lambda pair: (pair[0].number, pair[0].name))
    accounts = [(account_trial(trial, state, now_s), state) for trial, state in trials]
    attempts = [attempt for account, _ in accounts for attempt in account.attempts]
    states = [state for _, state in accounts]
    parts, money, n_unpriced = _part(attempts)
    spans = [span for attempt in attempts if (span := _span(attempt)) is not None]
    began, ended = _begin_and_end(spans, submitted_s, states, now_s)
    at_once = _most_at_once(spans)
    wall_s = None if began is None or ended is None else ended - began
    missing = ""
    if n_unpriced:
        of = "all" if n_unpriced == len(attempts) else f"{n_unpriced} of {len(attempts)}"
        missing = f"the price of {of} attempts was not known at submit"
    as_run = Way(
        wall_s=wall_s,
        device_h=sum(part.device_ms for part in parts.values()) / HOUR_MS,
        cost={currency: amount / NANO for currency, amount in money.items()},
        unknown_cost=missing,
        at_once=at_once,
        is_at_least=any(attempt.is_open for attempt in attempts),
    )
    kept = [_kept_of(account, state) for account, state in accounts]
    on_demand, in_series = _extrapolate(kept, at_once)
    return Economics(
        goodput=measure_goodput(trials, now_s),
        parts=parts,
        n_attempts=len(attempts),
        money=money,
        open_at_most_ms=_open_at_most_ms(attempts),
        n_unpriced=n_unpriced,
        as_run=as_run,
        on_demand=on_demand,
        in_series=in_series,
        began_s=began,
        ended_s=ended,
        is_since_submission=began is not None and began == submitted_s,
        is_under_way=any(state in _UNDER_WAY for state in states),
        idle_s=0.0 if wall_s is None else max(0.0, wall_s - _busy_s(spans)),
        n_trials=len(accounts),
        n_unfinished=sum(state not in _ENDED for state in states),
        n_gave_up=sum(state in (TrialState.FAILED, TrialState.CANCELLED) for state in states),
    )


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Part a whole number in proportion to weights of at least 0, so that the parts add up to it.

    Without any weight the first part gets all.
    """
    weighed = sum(weights)
    if not weighed:
        return [total, *[0] * (len(weights) - 1)]
    edges, reached = [0], 0
    for weight in weights:
        reached += weight
        edges.append(total * reached // weighed)
    return [after - before for before, after in pairwise(edges)]


def _part(
    attempts: Sequence[AttemptAccount],
) -> tuple[dict[str, Part], dict[str, int], int]:
    """Add up time and money of attempts by what became of them."""
    n_attempts, device_ms, n_open = (dict.fromkeys(PARTS, 0) for _ in range(3))
    money: dict[str, dict[str, int]] = {name: {} for name in PARTS}
    total: dict[str, int] = {}
    n_unpriced = 0
    for account in attempts:
        price = attempt_price(account.attempt.resources)
        amount = 0
        if price is None:
            n_unpriced += 1
        else:
            amount = round(price[0] * account.wall_s / HOUR_S * NANO)
            total[price[1]] = total.get(price[1], 0) + amount
        amounts = share_out(amount, [ms for _, ms in account.parts_ms])
        for name in _parts_of(account):
            n_attempts[name] += 1
        if account.is_open:
            n_open[open_part(account.attempt, account.parts_ms)] += 1
        for (name, ms), part in zip(account.parts_ms, amounts, strict=True):
            device_ms[name] += ms
            if price is not None:
                money[name][price[1]] = money[name].get(price[1], 0) + part
    parts = {
        name: Part(n_attempts[name], device_ms[name], money[name], n_open[name]) for name in PARTS
    }
    return parts, dict(sorted(total.items())), n_unpriced


def _parts_of(account: AttemptAccount) -> set[str]:
    """Name the parts that an attempt has time in, or would have if it were known."""
    found = {name for name, ms in account.parts_ms if ms}
    if account.is_open or not found:
        found.add(open_part(account.attempt, account.parts_ms))
    return found


def _open_at_most_ms(attempts: Iterable[AttemptAccount]) -> int | None:
    """Add up what attempts without a known end can have taken beyond what counts."""
    total = 0
    for account in attempts:
        if account.is_open:
            if account.at_most_s is None:
                return None
            devices = device_count(account.attempt.resources) or 1
            total += round(max(0.0, account.at_most_s - account.wall_s) * devices * 1000)
    return total


def _span(account: AttemptAccount) -> tuple[float, float] | None:
    """Return Unix times at which an attempt held its allocation; None where no start is known."""
    attempt = account.attempt
    if attempt.claimed_at is not None:
        return attempt.claimed_at, attempt.claimed_at + account.wall_s
    if attempt.started_at is None:
        return None
    started = attempt.started_at.timestamp()
    return started, started + account.wall_s


def _begin_and_end(
    spans: Sequence[tuple[float, float]],
    submitted_s: float | None,
    states: Sequence[TrialState],
    now_s: float,
) -> tuple[float | None, float | None]:
    if not spans:
        return None, None
    first = min(start for start, _ in spans)
    # A clock that is behind, or a sweep that was taken up elsewhere: a start is no later.
    began = submitted_s if submitted_s is not None and submitted_s <= first else first
    ended = max(end for _, end in spans)
    if any(state in _UNDER_WAY for state in states):
        ended = max(ended, now_s)
    return began, ended


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int | None:
    """Count how many ran at once at most; one that ends as another starts is not with it."""
    if not spans:
        return None
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return max(most, 1)


def _busy_s(spans: Sequence[tuple[float, float]]) -> float:
    """Add up the time at which at least one ran."""
    busy, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy


@dataclass(frozen=True)
class _Kept:
    """What one trial would have taken without any interruption."""

    wall_s: float = 0.0
    device_s: float = 0.0
    cost: tuple[tuple[str, float], ...] = ()
    unpriced: str | None = None  # the partition of an attempt without a price on demand


def _kept_of(trial: TrialAccount, state: TrialState) -> _Kept:
    """Add up the work of a trial that survives, and one start-up."""
    if state in (TrialState.FAILED, TrialState.CANCELLED):
        return _Kept()
    last = trial.winner
    if last is None and trial.attempts:
        last = trial.attempts[-1].attempt.number
    wall_s = device_s = 0.0
    cost: list[tuple[str, float]] = []
    unpriced: str | None = None
    for attempt, _, parts, *_ in trial.attempts:
        ms = sum(part for name, part in parts if name in _KEPT)
        if attempt.number == last:
            ms += sum(part for name, part in parts if name == START_UP)
        if not ms:
            continue
        devices = device_count(attempt.resources) or 1
        wall_s += ms / devices / 1000
        device_s += ms / 1000
        price = on_demand_price(attempt.resources)
        if price is None:
            unpriced = str(attempt.resources.get("partition") or "")
        else:
            cost.append((price[1], price[0] * ms / devices / HOUR_MS))
    return _Kept(wall_s, device_s, tuple(cost), unpriced)


def _extrapolate(trials: Sequence[_Kept], at_once: int | None) -> tuple[Way, Way]:
    """Return what the same work would take on demand, and one trial after the other."""
    walls = [trial.wall_s for trial in trials if trial.wall_s]
    if at_once is None or not walls:
        nothing = Way(None, None, {}, "no work is left to compare with")
        return nothing, nothing
    places = [0.0] * min(at_once, len(walls))
    for wall_s in walls:
        heapq.heapreplace(places, places[0] + wall_s)
    device_h = math.fsum(trial.device_s for trial in trials) / HOUR_S
    amounts: dict[str, list[float]] = {}
    for currency, amount in (pair for trial in trials for pair in trial.cost):
        amounts.setdefault(currency, []).append(amount)
    cost = {currency: math.fsum(amounts[currency]) for currency in sorted(amounts)}
    unpriced = sorted({trial.unpriced for trial in trials if trial.unpriced is not None})
    unknown = ""
    if unpriced:
        where = ", ".join(one_line(name, 40) for name in unpriced if name)
        unknown = "no price on demand is known of what the trials ran on"
        if where:
            several = "s" if ", " in where else ""
            unknown = (
                f"no price on demand was known of partition{several} {where} at submit; on_demand: "
                "in templates/partitions.yaml states it for what is submitted next"
            )
        cost = {}
    return (
        Way(max(places), device_h, cost, unknown, at_once),
        Way(math.fsum(walls), device_h, cost, unknown, 1),
    )

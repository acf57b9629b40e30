"""GPU-hours and money of attempts, whatever became of their work; see ``domain.goodput`` for that.

Pure. Every attempt counts, whatever became of it: the cluster was busy all the same.

What an attempt cost is its wall time, times ``resources["gpus"]`` (GPUs of the whole attempt, over
all its nodes) for GPU-hours, times ``resources["price_per_hour"]`` (price of one hour of the whole
allocation) for money. Unknown is not nothing: without a price there is no cost.

An attempt that died without a word (its node failed, it was killed with all its kin) leaves no
end. What is known of it are signs of life, all on the file server's clock: its claim, its last
heartbeat, and, of what the claim after it found, the newest checkpoint and the newest report. It
lived at least until the last of them, and that is what counts; so a sum with such an attempt is a
lower bound, and says so. From above the next claim bounds it, if there is one: ``wall_at_most_s``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from orchestrator.contract.states import TrialState
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.trial_files import Attempt

HOUR_S = 3600.0
# Longer is no currency: it stands in titles, and comes from a file.
MAX_CURRENCY_CHARS = 16
_NO_MONEY: Mapping[str, float] = MappingProxyType({})


class Usage(NamedTuple):
    """What attempts used."""

    wall_h: float = 0.0
    """Hours of allocations, whatever their size."""
    gpu_hours: float = 0.0
    """GPU-hours; 0 for programs without GPUs."""
    cost: Mapping[str, float] = _NO_MONEY
    """Money by currency, which are never added up; a currency without a price is not there."""
    is_estimate: bool = False
    """Whether some attempt ended without a word, or is of unknown length: it is at least this."""


def attempt_wall_s(
    attempt: Attempt, now_s: float, is_running: bool, after: Attempt | None = None
) -> tuple[float | None, bool]:
    """Tell how long an attempt held its allocation.

    Args:
        attempt: The attempt.
        now_s: Unix time.
        is_running: Whether it runs now; else one without an end died after its last sign of life.
        after: The next attempt of the trial; None if it is the last one.

    Returns:
        Seconds, or None when nothing is known; and whether it was at least so long, no more being
        known.
    """
    wall_s, claimed = attempt.wall_s, attempt.claimed_at
    if wall_s is not None:
        if attempt.is_estimate and after is not None and claimed is not None:
            wall_s = max(wall_s, _found_alive(after, claimed) - claimed)
        return wall_s, attempt.is_estimate
    if attempt.started_at is None:
        return None, True
    started_s = attempt.started_at.timestamp()
    if attempt.ended_at is not None:
        return max(0.0, attempt.ended_at.timestamp() - started_s), False
    if is_running:
        return max(0.0, now_s - started_s), False
    if attempt.heartbeat_at is None:
        return None, True
    if claimed is None:  # a record of an older version: the node's clock must do
        return max(0.0, attempt.heartbeat_at - started_s), True
    found = claimed if after is None else _found_alive(after, claimed)
    return max(found, attempt.heartbeat_at) - claimed, True


def _found_alive(after: Attempt, claimed: float) -> float:
    """Return the last sign of life of an attempt that the claim after it found; else its claim."""
    signs = [
        sign
        for sign in (after.resumes_from, after.reported_at)
        # What was written later is not its.
        if sign is not None and after.claimed_at is not None and sign <= after.claimed_at
    ]
    return max([claimed, *signs])


def wall_at_most_s(attempt: Attempt, after: Attempt | None) -> float | None:
    """Tell how long an attempt without an end can have lived: until the next one's claim.

    Seconds, or None where nothing bounds it. An attempt that Slurm gave up may live on, until it
    sees the claim: then it writes its end, and if it cannot, a later heartbeat shows that this is
    no bound.
    """
    if after is None or after.claimed_at is None or attempt.claimed_at is None:
        return None
    at_most_s = max(0.0, after.claimed_at - attempt.claimed_at)
    # In the result of a later attempt stands its length, and no heartbeat.
    beat_s = attempt.wall_s or 0.0
    if attempt.heartbeat_at is not None:
        beat_s = attempt.heartbeat_at - attempt.claimed_at
    return at_most_s if beat_s <= at_most_s else None


def trial_usage(attempts: Iterable[Attempt], state: TrialState, now_s: float) -> Usage:
    """Add up the attempts of one trial.

    Args:
        attempts: All of them, by number.
        state: The trial's; while it runs its last attempt counts up to now.
        now_s: Unix time.
    """
    return Meter(now_s).read(tuple(attempts), state)


class Meter:
    """What trials used up to a moment; for many of them, most of which have like resources."""

    def __init__(self, now_s: float):
        """Start.

        Args:
            now_s: Unix time up to which running attempts count.
        """
        self._now_s = now_s

    def read(self, attempts: Sequence[Attempt], state: TrialState) -> Usage:
        """Add up the attempts of one trial; see ``trial_usage``."""
        last = len(attempts) - 1
        parts = []
        for index, attempt in enumerate(attempts):
            wall_s, is_estimate = attempt.wall_s, attempt.is_estimate
            if wall_s is None or is_estimate:
                is_running = (
                    index == last
                    and attempt.outcome is None
                    and state is TrialState.RUNNING
                    and attempt.ended_at is None
                )
                after = attempts[index + 1] if index < last else None
                wall_s, is_estimate = attempt_wall_s(attempt, self._now_s, is_running, after)
            wall_h = (wall_s or 0.0) / HOUR_S
            get = attempt.resources.get
            try:
                gpus, price = _rate(get("gpus"), get("price_per_hour"), get("currency"))
            except TypeError:  # a list, say, which has no hash
                gpus, price = device_count(attempt.resources), attempt_price(attempt.resources)
            cost = _NO_MONEY if price is None else {price[1]: price[0] * wall_h}
            parts.append(Usage(wall_h, wall_h * gpus, cost, is_estimate))
        return parts[0] if last == 0 else sum_usage(parts)


def attempt_price(resources: Mapping[str, object]) -> tuple[float, str] | None:
    """Return the price of an hour of an allocation and its currency; None if nobody stated one.

    A price of 0 counts if a currency was stated with it.
    """
    return _price(resources, "price_per_hour", "currency")


def on_demand_price(resources: Mapping[str, object]) -> tuple[float, str] | None:
    """Return likewise what an hour of it would cost on demand, as it was known at submit."""
    return _price(resources, "on_demand_price_per_hour", "on_demand_currency")


def _price(
    resources: Mapping[str, object], key: str, currency_key: str
) -> tuple[float, str] | None:
    return _name_price(resources.get(key), resources.get(currency_key))


def _name_price(amount: object, currency: object) -> tuple[float, str] | None:
    price = _amount(amount)
    if price is None or not (price or currency):
        return None
    return price, name_currency(currency)


# Typed: True is no count, though it equals 1.
@functools.lru_cache(maxsize=1024, typed=True)
def _rate(gpus: object, price: object, currency: object) -> tuple[float, tuple[float, str] | None]:
    return _amount(gpus) or 0.0, _name_price(price, currency)


def sum_usage(usages: Iterable[Usage]) -> Usage:
    """Add up usages, exactly rounded, so that their order does not matter."""
    usages = list(usages)
    if not usages:
        return Usage()
    wall_h, gpu_hours, costs, are_estimates = zip(*usages, strict=True)
    money: dict[str, list[float]] = {}
    for cost in costs:
        for currency, amount in cost.items():
            money.setdefault(currency, []).append(amount)
    return Usage(
        wall_h=math.fsum(wall_h),
        gpu_hours=math.fsum(gpu_hours),
        cost={currency: math.fsum(money[currency]) for currency in sorted(money)},
        is_estimate=any(are_estimates),
    )


@functools.lru_cache(maxsize=256)
def _shown(currency: str) -> str:
    return one_line(currency, MAX_CURRENCY_CHARS)


def name_currency(currency: object) -> str:
    """Return a currency's name as a claim has it, fit to be shown; empty without one."""
    return _shown(currency) if isinstance(currency, str) else ""


def device_count(resources: Mapping[str, object]) -> float:
    """GPUs of an allocation; 0 where there are none, or the claim does not say."""
    return _amount(resources.get("gpus")) or 0.0


def _amount(value: object) -> float | None:
    """Read a count or a price from a claim: a finite number of at least 0, else None."""
    if type(value) is not int and type(value) is not float:
        return None
    return value if 0 <= value < 1e12 else None

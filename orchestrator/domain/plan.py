"""What a sweep will take: hours, money and waves, each with the arithmetic that gives it. Pure.

A plan is of all trials that are left: those to submit, and those queued or running already, since
they share the same room. Every amount carries a line that a reader can check by hand, computed with
exactly the numbers that it shows: ``162 trials x 4 h x 1 instance = 648 instance-hours``.

Trials run in waves of as many as fit at once. With trials of several shapes the wall time is given
as two bounds: one shape after the other, which any order of Slurm's can only fill better (and
partitions side by side, unless the sweep's own ceilings are shared by them); and the best that any
packing could do (no shape can end before its own waves, nor all of them before their slot-hours and
GPU-hours divided by what there is).

Trials are counted in the partition that they are submitted to; a sweep that names several in order
may end in another, at another price (``plan_moves``).

Not in it: waiting for other people's jobs, preemptions and restarts (measured times include the
latter), and the second or so in which a trial starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.ceilings import Ceiling
from orchestrator.domain.partition import JobShape
from orchestrator.domain.placement import Place
from orchestrator.domain.plan_accounts import Bound
from orchestrator.domain.plan_sums import in_units, show_amount, show_priced, show_sum
from orchestrator.domain.plan_time import TrialTime, show_time

HOUR_S = 3600.0
# Above these a canary (one trial before all others) is suggested: a program that fails at its start
# wastes about a node's half day, or more than one trial in ten of a sweep that has so many.
COSTLY_GPU_HOURS = 50.0
COSTLY_CPU_HOURS = 500.0
COSTLY_TRIALS = 10


@dataclass(frozen=True)
class Width:
    """How many trials of one shape may run at once."""

    bounds: tuple[Bound, ...] = ()
    """What limits them, tightest first."""
    per_node: int | None = None
    """How many of them one node holds; None: not known."""

    @property
    def n(self) -> int | None:
        """So many; None: nothing that is known limits them."""
        return self.bounds[0].n if self.bounds else None


@dataclass(frozen=True)
class Group:
    """Trials of one partition and one shape that are left."""

    place: Place
    """Where they run, and what each asks for."""
    n_submit: int
    """Trials to submit."""
    n_queued: int = 0
    """Trials that are queued or run already."""
    time: TrialTime | None = None
    """How long one takes; None: not known."""
    width: Width = Width()
    """How many run at once."""

    @property
    def shape(self) -> JobShape:
        """What each asks for."""
        return self.place.shape

    @property
    def n(self) -> int:
        """Trials that are left."""
        return self.n_submit + self.n_queued

    @property
    def trial_hours(self) -> float:
        """Hours of all of them together, whatever their size; needs a time."""
        assert self.time is not None
        return self.n * self.time.seconds / HOUR_S

    @property
    def waves(self) -> int | None:
        """Waves of this shape alone; None: not known, or none fits."""
        return None if not self.width.n else math.ceil(self.n / self.width.n)


@dataclass(frozen=True)
class Amount:
    """A number and how it came about."""

    value: float
    """So much."""
    lines: tuple[str, ...]
    """The arithmetic, the sum of several shapes last."""


@dataclass(frozen=True)
class Wall:
    """How long it takes until the last trial has ended."""

    low_s: float
    """No packing is faster."""
    high_s: float
    """One shape after the other; with one shape the same as ``low_s``."""
    waves: int | None
    """Waves, with one shape."""
    lines: tuple[str, ...]
    """The arithmetic."""


@dataclass(frozen=True)
class Plan:
    """What is left of a sweep takes so much. None: not known, since a time or a width is not."""

    groups: tuple[Group, ...]
    """By shape, in order of first appearance."""
    node_hours: Amount | None
    """Instance-hours: hours of whole nodes, as far as trials fill them."""
    gpu_hours: Amount | None
    """GPU-hours."""
    cpu_hours: Amount | None
    """CPU-hours."""
    cost: Amount | None
    """Money at the profile's price; None also without a price."""
    currency: str
    """Of ``cost``."""
    wall: Wall | None
    """How long it takes."""

    @property
    def n(self) -> int:
        """Trials that are left."""
        return sum(group.n for group in self.groups)

    @property
    def is_bound(self) -> bool:
        """Whether some time is a limit, so that the amounts are at most so large."""
        return any(group.time is not None and group.time.is_bound for group in self.groups)

    @property
    def is_costly(self) -> bool:
        """Whether trying one trial first is worth its time."""
        gpu_hours = self.gpu_hours.value if self.gpu_hours else 0.0
        cpu_hours = self.cpu_hours.value if self.cpu_hours else 0.0
        large = gpu_hours >= COSTLY_GPU_HOURS or cpu_hours >= COSTLY_CPU_HOURS
        return self.n >= COSTLY_TRIALS and large


def make_plan(
    groups: Sequence[Group],
    ceiling: Ceiling | None = None,
    total_gpus: Mapping[str, int] | None = None,
) -> Plan:
    """Work out what is left.

    Args:
        groups: Trials by partition and shape; groups without trials are left out.
        ceiling: The sweep's own ceilings over all of them; None without any.
        total_gpus: GPUs of each partition, where known.
    """
    groups = [group for group in groups if group.n]
    gpu_hours = _sum(groups, _gpu_hours, "GPU-hour")
    currencies = {group.place.profile.currency for group in groups}
    return Plan(
        groups=tuple(groups),
        node_hours=_sum(groups, _node_hours, "instance-hour"),
        gpu_hours=gpu_hours if any(group.shape.gpus for group in groups) else None,
        cpu_hours=_sum(groups, _cpu_hours, "CPU-hour"),
        cost=price_groups(groups) if len(currencies) == 1 else None,
        currency=currencies.pop() if len(currencies) == 1 else "",
        wall=_wall(groups, ceiling or Ceiling(), total_gpus or {}),
    )


def price_groups(groups: Sequence[Group]) -> Amount | None:
    """Price the hours of each partition; they have one currency. None without a time or a price."""
    if any(group.time is None for group in groups):
        return None
    by_profile = _by_name(groups)
    parts = []
    for members in by_profile.values():
        profile = members[0].place.profile
        for of, price, word in (
            (_gpu_hours, profile.price_per_gpu_hour, "GPU-hour"),
            (_cpu_hours, profile.price_per_cpu_hour, "CPU-hour"),
        ):
            hours = math.fsum(of(group)[0] for group in members)
            if price and (hours or of is _cpu_hours or len(by_profile) == 1):
                parts.append((hours, price, word))
    if not parts:
        return None
    currency = groups[0].place.profile.currency
    unit = f" {currency}" if currency else ""
    total = math.fsum(hours * price for hours, price, _ in parts)
    shown = show_priced([(hours, price) for hours, price, _ in parts], show_money(total))
    terms = " + ".join(
        f"{in_units(hours, word)} x {price:g}"
        for hours, (_, price, word) in zip(shown, parts, strict=True)
    )
    return Amount(total, (f"{terms}{unit} = {show_money(total)}{unit}",))


def show_hours(hours: float) -> str:
    """Show hours, money or a count: two decimals where there are any, never none of it."""
    if 0 < abs(hours) < 0.1:
        return f"{hours:.2g}"
    return f"{hours:.2f}".rstrip("0").rstrip(".")


def show_money(amount: float) -> str:
    """Show an amount of money with two decimals, or what there is of less."""
    return f"{amount:.2g}" if 0 < amount < 0.01 else f"{amount:.2f}"


def count(n: int, word: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{n} {word}" + ("" if n == 1 else "s")


def _sum(
    groups: Sequence[Group], of: Callable[[Group], tuple[float, str]], unit: str
) -> Amount | None:
    if not groups or any(group.time is None for group in groups):
        return None
    parts = [of(group) for group in groups]
    shown, total = show_sum([value for value, _ in parts])
    lines = [
        f"{words} = {in_units(hours, unit)}" for hours, (_, words) in zip(shown, parts, strict=True)
    ]
    if len(parts) > 1:
        lines.append(f"{' + '.join(shown)} = {in_units(total, unit)}")
    return Amount(math.fsum(value for value, _ in parts), tuple(lines))


def _times(group: Group) -> str:
    assert group.time is not None
    return f"{count(group.n, 'trial')} x {show_time(group.time.seconds)}"


def _node_hours(group: Group) -> tuple[float, str]:
    nodes, per_node = group.shape.nodes, group.width.per_node or 1
    words = _times(group)
    if nodes > 1 or per_node == 1:
        words += f" x {count(nodes, 'instance')}"
    if per_node > 1:
        words += f" / {per_node} on an instance"
    return group.trial_hours * nodes / per_node, words


def _gpu_hours(group: Group) -> tuple[float, str]:
    gpus = group.shape.total_gpus
    return group.trial_hours * gpus, f"{_times(group)} x {count(gpus, 'GPU')}"


def _cpu_hours(group: Group) -> tuple[float, str]:
    cpus = group.shape.cpus * group.shape.nodes
    return group.trial_hours * cpus, f"{_times(group)} x {count(cpus, 'CPU')}"


def _wall(groups: Sequence[Group], ceiling: Ceiling, total_gpus: Mapping[str, int]) -> Wall | None:
    if not groups or any(group.time is None or not group.waves for group in groups):
        return None
    if len(groups) == 1:
        return _one_shape(groups[0])
    lasts = [_in_waves(group)[1] for group in groups]
    # The sweep's own ceilings are shared: one partition may have to wait for another.
    by_partition = {"": list(groups)} if ceiling.is_set else _by_name(groups)
    highs, lines = [], []
    for name, members in by_partition.items():
        highs.append(math.fsum(_in_waves(group)[1] for group in members))
        terms = " + ".join(_waves_words(group) for group in members)
        where = f"on {name}, " if len(by_partition) > 1 else ""
        lines.append(f"{where}one shape after the other: {terms} = {_in_hours(highs[-1])}")
    if len(by_partition) > 1:
        lines.append(f"the partitions side by side: {_in_hours(max(highs))}")
    lows = [
        (last, f"the {count(group.n, 'trial')} of one shape: {_waves_words(group)}")
        for group, last in zip(groups, lasts, strict=True)
    ]
    if ceiling.trials < math.inf:
        hours = " + ".join(_times(group) for group in groups)
        slots = math.fsum(group.trial_hours for group in groups) / ceiling.trials
        lows.append((slots * HOUR_S, f"({hours}) / {ceiling.trials:g} at a time"))
    of_all = {"": list(groups)} if ceiling.gpus < math.inf else {}
    for name, members in {**of_all, **_by_name(groups)}.items():
        n_gpus = total_gpus.get(name) if name else ceiling.gpus
        if n_gpus:
            gpu_hours = math.fsum(_gpu_hours(group)[0] for group in members)
            hours = in_units(show_amount(gpu_hours), "GPU-hour")
            words = f"{hours} / {count(int(n_gpus), 'GPU')}"
            lows.append((gpu_hours / n_gpus * HOUR_S, words))
    low, words = max(lows, key=lambda item: item[0])
    high = max(highs)
    lines.append(f"at least, however packed: {words} = {_in_hours(low)}")
    return Wall(min(low, high), high, None, (lines[-2], *lines[:-2], lines[-1]))


def _by_name(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.place.name, []).append(group)
    return found


def _in_hours(seconds: float) -> str:
    return f"{show_amount(seconds / HOUR_S)} h"


def _one_shape(group: Group) -> Wall:
    waves, wall_s = _in_waves(group)
    start = f"{count(group.n, 'trial')}, {group.width.n} at a time = "
    lines = [f"{start}{_waves_words(group)} = {_in_hours(wall_s)}"]
    time = group.time
    if time is not None and time.p90_s is not None and time.n_measured > 1:
        slow = f"{count(waves, 'wave')} x {show_time(time.p90_s)}"
        lines.append(
            f"if all were as slow as the slowest tenth: {slow} = {_in_hours(waves * time.p90_s)}"
        )
    return Wall(wall_s, wall_s, waves, tuple(lines))


def _in_waves(group: Group) -> tuple[int, float]:
    """Return the waves of a shape alone, and the seconds that they take; needs both."""
    assert group.time is not None
    assert group.waves is not None
    return group.waves, group.waves * group.time.seconds


def _waves_words(group: Group) -> str:
    waves, wall_s = _in_waves(group)
    return f"{count(waves, 'wave')} x {show_time(wall_s / waves)}"

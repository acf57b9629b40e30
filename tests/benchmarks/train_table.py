"""From measured trainings to the table of ``make bench-train``. Pure."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Measured:
    """One training of one lever with one seed."""

    tokens_per_second: float
    """Median over the later steps."""
    peak_memory_gb: float
    """GPU memory, or resident memory where there is no GPU; of the largest rank."""
    final_loss: float
    """On the held-out data, after the last step."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One change of speed, told both ways, since "47 % faster" can mean either."""

    time_percent: float
    """Of the time for the same work: -50 is half the time."""
    throughput_percent: float
    """Of the work in the same time: +100 is twice the work."""


def change_of_speed(before_s: float, after_s: float) -> Change:
    """Compare two times for the same work, in seconds and both above 0."""
    return Change(100 * (after_s / before_s - 1), 100 * (before_s / after_s - 1))


@dataclasses.dataclass(frozen=True)
class Row:
    """A lever against the plain training of the same seed and round."""

    name: str
    n_seeds: int
    speed: float
    """Throughput as a multiple of the plain one: the median over seeds."""
    slowest: float
    """The same, the seed where it was smallest."""
    fastest: float
    change: Change
    memory: float
    """Peak memory as a multiple of the plain one: the median over seeds."""
    loss_difference: float
    """Final loss less the plain one of the same seed: the mean over seeds."""
    loss_spread: float | None
    """Standard deviation of that difference over seeds; None with one seed."""


def compare(
    name: str, measured: Mapping[int, Measured], plain: Mapping[int, Measured]
) -> Row | None:
    """Compare by seed; None if no seed has both."""
    seeds = sorted(measured.keys() & plain.keys())
    if not seeds:
        return None
    speeds = [measured[s].tokens_per_second / plain[s].tokens_per_second for s in seeds]
    speed = statistics.median(speeds)
    differences = [measured[s].final_loss - plain[s].final_loss for s in seeds]
    return Row(
        name=name,
        n_seeds=len(seeds),
        speed=speed,
        slowest=min(speeds),
        fastest=max(speeds),
        change=change_of_speed(1.0, 1.0 / speed),
        memory=statistics.median(
            measured[s].peak_memory_gb / plain[s].peak_memory_gb for s in seeds
        ),
        loss_difference=statistics.mean(differences),
        loss_spread=statistics.stdev(differences) if len(seeds) > 1 else None,
    )


def render(rows: Sequence[Row], not_measured: Mapping[str, str]) -> list[str]:
    """Write the table as Markdown, and below it what is not in it, with the reason.

    Args:
        rows: In the table's order.
        not_measured: Name of a lever and why.
    """
    lines = [
        "| lever | throughput | (seeds) | time for the same work | peak memory "
        "| final loss, difference | seeds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        spread = "" if row.loss_spread is None else f" ± {row.loss_spread:.4f}"
        lines.append(
            f"| {row.name} | {row.speed:.2f} x ({row.change.throughput_percent:+.0f} %) "
            f"| {row.slowest:.2f} to {row.fastest:.2f} | {row.change.time_percent:+.0f} % "
            f"| {row.memory:.2f} x | {row.loss_difference:+.4f}{spread} | {row.n_seeds} |"
        )
    if not_measured:
        lines += ["", "Not measured:", ""]
        lines += [f"- {name}: {reason}" for name, reason in not_measured.items()]
    return lines

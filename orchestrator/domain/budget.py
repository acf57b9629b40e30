"""What a sweep may spend: the spec's ``budget:``, checked against its partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.cost import Usage
from orchestrator.domain.partition import JobShape, PartitionProfile, price_per_hour
from orchestrator.domain.placement import Place
from orchestrator.domain.spec_tree import (
    Node,
    fail,
    read_bool,
    read_mapping,
    read_number,
    read_text,
    show,
)
from orchestrator.runtime.spend import show_amount, show_pair

MINUTES = 60.0


@dataclass(frozen=True)
class Budget:
    """The spec's ``budget:``; one of ``cost`` and ``gpu_hours`` at least is set."""

    cost: float | None = None
    """Money, lost work included; None: no limit."""
    currency: str | None = None
    """Of ``cost``; None: the partition's."""
    gpu_hours: float | None = None
    """GPU-hours, lost work included; None: no limit."""
    kill: bool = False
    """Whether running trials are told to checkpoint and end once it is spent."""


@dataclass(frozen=True)
class BudgetProblem:
    """A budget that its partition cannot keep."""

    key: str
    """The key of the spec."""
    message: str
    """What was found, and what to do."""


def read_budget(node: Node, key: str) -> Budget:
    """Read ``budget:``.

    Raises:
        SpecError: An unknown key, a value that is not allowed, or no limit at all.
    """
    values: dict[str, Any] = {}
    if not isinstance(node.value, dict):
        use = "use {cost: 1500, currency: CNY} or {gpu_hours: 100}"
        raise fail(node, key, f"{show(node)} is not allowed; {use}")
    fields = read_mapping(node, key, ("cost", "currency", "gpu_hours", "kill"))
    for name, item in fields.items():
        full = f"{key}.{name}"
        if name == "currency":
            values[name] = read_text(item, full, "CNY")
        elif name == "kill":
            values[name] = read_bool(item, full)
        else:
            amount = float(read_number(item, full))
            if not 0 < amount < 1e12:
                raise fail(item, full, f"{amount:g} is not allowed; use an amount, such as 100")
            values[name] = amount
    if "cost" not in values and "gpu_hours" not in values:
        raise fail(node, key, "limits nothing; add cost: 1500 or gpu_hours: 100, or remove it")
    if "currency" in values and "cost" not in values:
        raise fail(fields["currency"], f"{key}.currency", "has no cost beside it; add cost: 1500")
    return Budget(**values)


def check_budget(budget: Budget, places: Iterable[Place]) -> BudgetProblem | None:
    """Tell why a budget could never be spent, or summed up, where trials go; None if it can."""
    places = list(places)
    profiles = {place.name: place.profile for place in places}
    currencies = dict.fromkeys(profile.currency for profile in profiles.values())
    if budget.cost is not None and len(currencies) > 1:
        found = ", ".join(f"{p.currency!r} of {name}" for name, p in profiles.items())
        return BudgetProblem(
            "budget.cost",
            f"the prices of the sweep's partitions are in several currencies ({found}), which "
            "cannot be summed up; use gpu_hours, or prices in one currency in "
            "templates/partitions.yaml",
        )
    for name, profile in profiles.items():
        if budget.currency is not None and budget.currency != profile.currency:
            return BudgetProblem(
                "budget.currency",
                f"{budget.currency!r}, and the prices of partition {name} are in "
                f"{profile.currency!r}; use that, or change currency in templates/partitions.yaml",
            )
    names = " and ".join(profiles)
    if budget.cost is not None and not any(price_per_hour(p.shape, p.profile) for p in places):
        return BudgetProblem(
            "budget.cost",
            f"partition {names} has no price for what the trials use, so they cost nothing; set "
            "price_per_gpu_hour or price_per_cpu_hour in templates/partitions.yaml, or use "
            "gpu_hours",
        )
    if budget.gpu_hours is not None and not any(place.shape.total_gpus for place in places):
        return BudgetProblem(
            "budget.gpu_hours", "no trial uses a GPU, so none is ever spent; use cost"
        )
    return None


def warn_of_free(budget: Budget, places: Iterable[Place]) -> list[str]:
    """Warn of partitions on which a budget in money counts nothing, as they have no price."""
    if budget.cost is None:
        return []
    free = [p.name for p in places if not price_per_hour(p.shape, p.profile)]
    return [
        f"budget: partition {name} has no price for what trials use, so what runs there costs "
        "nothing of it; set one in templates/partitions.yaml, or use gpu_hours"
        for name in dict.fromkeys(free)
    ]


def as_rule(budget: Budget, profile: PartitionProfile) -> dict[str, Any]:
    """Write a budget as compute nodes look at it; see ``runtime.spend.over_budget``."""
    rule: dict[str, Any] = {"currency": budget.currency or profile.currency}
    rule.update({k: v for k in ("cost", "gpu_hours") if (v := getattr(budget, k)) is not None})
    return {**rule, "kill": True} if budget.kill else rule


def read_rule(rule: object) -> tuple[Budget, str] | None:
    """Read what ``as_rule`` wrote: the budget and its currency; None for what is no rule."""
    if not isinstance(rule, dict):
        return None
    cost, gpu_hours = rule.get("cost"), rule.get("gpu_hours")
    if any(type(value) not in (int, float, type(None)) for value in (cost, gpu_hours)):
        return None
    return Budget(cost=cost, gpu_hours=gpu_hours), str(rule.get("currency", ""))


def tell_spent(budget: Budget, currency: str, used: Usage) -> str | None:
    """Say what was spent of a budget that is spent; None while some is left."""
    for limit, spent, unit in _sides(budget, currency, used):
        if spent >= limit * (1 - 1e-9):
            return f"budget: {show_pair(spent, limit)} {unit} are spent"
    return None


def tell_left(budget: Budget, currency: str, used: Usage) -> str:
    """Say what was spent of what, for people."""
    sides = _sides(budget, currency, used)
    words = (f"{show_pair(spent, limit)} {unit}" for limit, spent, unit in sides)
    return " and ".join(words) + " spent"


def warn_of_estimate(
    budget: Budget,
    currency: str,
    used: Usage,
    planned: Sequence[tuple[JobShape, PartitionProfile]],
) -> str | None:
    """Warn if trials that take all of their time limit go beyond the budget.

    Args:
        budget: The budget.
        currency: Its currency.
        used: What was spent.
        planned: Shape and partition of each trial that is to be submitted; those without a time
            limit are not estimated.
    """
    hours = [(s, p, s.time_min / MINUTES) for s, p in planned if s.time_min is not None]
    cost = sum(price_per_hour(shape, profile) * time_h for shape, profile, time_h in hours)
    gpu_hours = sum(shape.total_gpus * time_h for shape, _, time_h in hours)
    more = Usage(gpu_hours=gpu_hours, cost={currency: cost})
    for (limit, spent, unit), (_, extra, _) in zip(
        _sides(budget, currency, used), _sides(budget, currency, more), strict=True
    ):
        if spent + extra > limit:
            left = f"{show_amount(max(0.0, limit - spent))} of {show_amount(limit)}"
            return (
                f"budget: {len(hours)} trials may take {show_amount(extra)} {unit} if each uses "
                f"all of its time limit, and {left} are left; the sweep stops where it is spent"
            )
    return None


def _sides(budget: Budget, currency: str, used: Usage) -> list[tuple[float, float, str]]:
    """Limit, amount spent and unit of each limit."""
    sides = []
    if budget.cost is not None:
        sides.append((budget.cost, used.cost.get(currency, 0.0), currency))
    if budget.gpu_hours is not None:
        sides.append((budget.gpu_hours, used.gpu_hours, "GPU-hours"))
    return sides

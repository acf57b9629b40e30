"""What to consider before a sweep is submitted: its budget, a canary, its batches. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.cost import Usage
from orchestrator.domain.plan import Plan
from orchestrator.domain.plan_batch import BatchSize
from orchestrator.domain.plan_sums import in_units, show_money_sum, show_sum
from orchestrator.domain.spec import SweepSpec


def advise(
    spec: SweepSpec, plan: Plan, batches: Sequence[BatchSize | None], spent: Usage | None
) -> tuple[list[str], list[str]]:
    """Return warnings, and advice.

    Args:
        spec: The sweep.
        plan: What it takes.
        batches: Effective batches of the trials to submit.
        spent: What was used so far.
    """
    warnings = _over_budget(spec, plan, spent)
    advice = []
    if plan.is_costly and getattr(spec, "canary", None) is None and not (spent and spent.wall_h):
        advice.append(
            f"canary: 1 in the spec tries one trial before the other {plan.n - 1}; "
            "a mistake then costs one trial"
        )
    guesses = [batch for batch in batches if batch is not None and batch.is_guess]
    if guesses:
        name = guesses[0].parameter
        advice.append(
            f"{name} is taken to be per device; if it is the whole batch, as of train/main.py, "
            f"say so in the spec: batch: {{effective: {name}}}"
        )
    uneven = [
        batch
        for batch in batches
        if batch is not None and batch.per_device is None and batch.effective % batch.world
    ]
    if uneven:
        batch = uneven[0]
        warnings.append(
            f"{batch.parameter or 'batch'}: {batch.effective:g} is not divisible by "
            f"{batch.world} {batch.unit}s"
        )
    return warnings, advice


def _over_budget(spec: SweepSpec, plan: Plan, spent: Usage | None) -> list[str]:
    """Compare with the spec's ``budget:``, what was used so far included."""
    budget = getattr(spec, "budget", None)
    if budget is None:
        return []
    warnings = []
    used = spent or Usage()
    most = getattr(budget, "gpu_hours", None)
    if most is not None and plan.gpu_hours is not None:
        total = used.gpu_hours + plan.gpu_hours.value
        if total > most:
            (before_h, left_h), sum_h = show_sum([used.gpu_hours, plan.gpu_hours.value])
            hours = in_units(sum_h, "GPU-hour")
            warnings.append(f"budget: {before_h} used + {left_h} to do = {hours}, over {most:g}")
    most = getattr(budget, "cost", None)
    is_same_money = (getattr(budget, "currency", None) or plan.currency) == plan.currency
    if most is not None and plan.cost is not None and is_same_money:
        before = used.cost.get(plan.currency, 0.0)
        total = before + plan.cost.value
        if total > most:
            (paid, left), both = show_money_sum([before, plan.cost.value])
            unit = f" {plan.currency}" if plan.currency else ""
            sums = f"{paid} used + {left} to do = {both}{unit}"
            warnings.append(f"budget: {sums}, over {most:g}")
    return warnings

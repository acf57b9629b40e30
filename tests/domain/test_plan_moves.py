"""What a sweep costs whose trials move on to another partition."""

from __future__ import annotations

from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.placement import Place, Placement
from orchestrator.domain.plan import Group
from orchestrator.domain.plan_moves import price_moves
from orchestrator.domain.plan_time import MEASURED, STATED, TrialTime


def group(
    name: str,
    price: float,
    n: int = 6,
    hours: float | None = 0.5,
    currency: str = "CNY",
    source: str = STATED,
) -> Group:
    profile = PartitionProfile(
        name, name, "base.sbatch.j2", price_per_gpu_hour=price, currency=currency
    )
    time = None if hours is None else TrialTime(hours * 3600, source)
    return Group(Place(profile, JobShape(1, 8, None, 8, None, 30)), n, time=time)


def test_trials_are_priced_where_they_cost_most() -> None:
    spot, ondemand, cheap = group("spot", 0.9), group("ondemand", 6.0), group("cheap", 0.1)
    moved = price_moves([[spot, cheap, ondemand]])
    assert moved is not None
    assert moved.cost is not None
    assert moved.cost.lines == ("24 GPU-hours x 6 CNY = 144.00 CNY",)
    assert (moved.names, moved.currency, moved.is_bound) == (("ondemand",), "CNY", True)
    # Those that cannot move stay, and those that ask for more hours there take them.
    long = group("ondemand", 6.0, n=1, hours=1)
    moved = price_moves([[group("spot", 0.9, n=1), long], [group("spot", 0.9, n=2)]])
    assert moved is not None
    assert moved.cost is not None
    assert moved.cost.lines == ("8 GPU-hours x 6 + 8 GPU-hours x 0.9 CNY = 55.20 CNY",)
    measured = price_moves([[group("a", 1, source=MEASURED), group("b", 2, source=MEASURED)]])
    assert measured is not None
    assert not measured.is_bound


def test_moves_that_cost_no_more_are_not_named() -> None:
    assert price_moves([]) is None
    assert price_moves([[group("spot", 0.9)]]) is None
    assert price_moves([[group("ondemand", 6.0), group("spot", 0.9)]]) is None
    assert price_moves([[group("spot", 0.0), group("cpu", 0.0)]]) is None
    assert price_moves([[group("spot", 0.9), group("ondemand", 6.0, hours=None)]]) is None


def test_moves_to_a_partition_of_another_currency_have_no_sum() -> None:
    moved = price_moves([[group("spot", 0.9), group("cloud", 2.0, currency="USD")]])
    assert moved is not None
    assert (moved.names, moved.cost) == (("cloud",), None)
    # Two currencies from the start: the plan itself says that there is no sum.
    assert price_moves([[group("spot", 0.9)], [group("cloud", 2.0, currency="USD")]]) is None


def test_an_order_without_a_reason_to_move_is_only_of_where_trials_fit() -> None:
    assert Placement(("a", "b")).moves
    assert Placement(("a", "b"), after_preemptions=0, after_waiting_min=5).moves
    assert not Placement(("a", "b"), after_preemptions=0).moves

"""The spec's budget: what a partition can keep, what is spent, and the warning before."""

from __future__ import annotations

import dataclasses

from orchestrator.domain.budget import (
    Budget,
    as_rule,
    check_budget,
    tell_left,
    tell_spent,
    warn_of_estimate,
    warn_of_free,
)
from orchestrator.domain.cost import Usage
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.placement import Place

SPOT = PartitionProfile("spot", "spot", "base", price_per_gpu_hour=4.0, currency="CNY")
FREE = PartitionProfile("free", "free", "base", currency="CNY")
TWO_GPUS = JobShape(nodes=1, gpus=2, gpu_type=None, cpus=1, mem_mb=None, time_min=90)
NO_GPUS = JobShape(nodes=1, gpus=0, gpu_type=None, cpus=1, mem_mb=None, time_min=None)


def test_check_budget_in_the_partitions_currency_is_fine() -> None:
    assert (
        check_budget(Budget(cost=10, currency="CNY", gpu_hours=3), [Place(SPOT, TWO_GPUS)]) is None
    )


def test_check_budget_other_currency_names_both() -> None:
    found = check_budget(Budget(cost=10, currency="EUR"), [Place(SPOT, TWO_GPUS)])
    assert found is not None
    assert (found.key, "'EUR'" in found.message, "'CNY'" in found.message) == (
        "budget.currency",
        True,
        True,
    )


def test_check_budget_without_a_price_says_where_to_set_it() -> None:
    found = check_budget(Budget(cost=10), [Place(FREE, TWO_GPUS)])
    assert found is not None
    assert (found.key, "templates/partitions.yaml" in found.message) == ("budget.cost", True)


def test_partition_without_a_price_beside_one_with_it_is_warned_of() -> None:
    places = [Place(SPOT, TWO_GPUS), Place(FREE, TWO_GPUS), Place(FREE, NO_GPUS)]
    assert check_budget(Budget(cost=10), places) is None
    (words,) = warn_of_free(Budget(cost=10), places)
    assert words.startswith("budget: partition free has no price")
    assert warn_of_free(Budget(gpu_hours=10), places) == []


def test_check_budget_of_several_currencies_names_them() -> None:
    euros = dataclasses.replace(SPOT, name="far", currency="EUR")
    found = check_budget(Budget(cost=10), [Place(SPOT, TWO_GPUS), Place(euros, TWO_GPUS)])
    assert found is not None
    assert "('CNY' of spot, 'EUR' of far)" in found.message


def test_check_budget_gpu_hours_without_gpus_is_refused() -> None:
    found = check_budget(Budget(gpu_hours=10), [Place(SPOT, NO_GPUS)])
    assert found is not None
    assert found.key == "budget.gpu_hours"


def test_as_rule_holds_what_is_set_alone() -> None:
    assert as_rule(Budget(cost=10), SPOT) == {"currency": "CNY", "cost": 10}
    assert as_rule(Budget(gpu_hours=5, kill=True), SPOT) == {
        "currency": "CNY",
        "gpu_hours": 5,
        "kill": True,
    }


def test_tell_spent_is_silent_until_all_is_spent() -> None:
    budget = Budget(cost=10, gpu_hours=100)
    used = Usage(gpu_hours=99, cost={"CNY": 9.99, "EUR": 50})
    assert tell_spent(budget, "CNY", used) is None
    used = Usage(gpu_hours=99, cost={"CNY": 10.0})
    assert tell_spent(budget, "CNY", used) == "budget: 10.00 of 10.00 CNY are spent"
    used = Usage(gpu_hours=100.5, cost={"CNY": 1.0})
    assert tell_spent(budget, "CNY", used) == "budget: 100.50 of 100.00 GPU-hours are spent"


def test_tell_left_says_both_sides() -> None:
    words = tell_left(Budget(cost=10, gpu_hours=100), "CNY", Usage(gpu_hours=2, cost={"CNY": 1.0}))
    assert words == "1.00 of 10.00 CNY and 2.00 of 100.00 GPU-hours spent"


def test_warn_of_estimate_counts_what_is_spent_and_the_time_limits() -> None:
    # 3 trials of 1.5 h, 2 GPUs, 4 CNY: 36 CNY.
    planned = [(TWO_GPUS, SPOT)] * 3
    assert warn_of_estimate(Budget(cost=36), "CNY", Usage(), planned) is None
    found = warn_of_estimate(Budget(cost=36), "CNY", Usage(cost={"CNY": 6.0}), planned)
    assert found is not None
    assert "3 trials may take 36.00 CNY" in found
    assert "30.00 of 36.00 are left" in found
    assert warn_of_estimate(Budget(cost=1), "CNY", Usage(), [(NO_GPUS, SPOT)]) is None


def test_small_amounts_show_that_a_budget_is_passed() -> None:
    budget = Budget(gpu_hours=0.006)
    used = Usage(gpu_hours=0.0141)
    assert tell_spent(budget, "", used) == "budget: 0.014 of 0.006 GPU-hours are spent"
    assert tell_left(budget, "", used) == "0.014 of 0.006 GPU-hours spent"
    assert tell_left(Budget(cost=10), "CNY", Usage(cost={"CNY": 10.004})) == (
        "10.004 of 10.000 CNY spent"
    )
    found = warn_of_estimate(Budget(cost=0.006), "CNY", Usage(), [(TWO_GPUS, SPOT)])
    assert found is not None
    assert "0.006 of 0.006 are left" in found

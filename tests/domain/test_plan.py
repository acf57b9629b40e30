"""What a sweep takes, with the arithmetic that a reader can check."""

from __future__ import annotations

import dataclasses
import types

import pytest

from orchestrator.domain.ceilings import Ceiling
from orchestrator.domain.cost import Usage
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.placement import Place
from orchestrator.domain.plan import Group, Plan, Width, make_plan, show_hours, show_money
from orchestrator.domain.plan_accounts import Bound
from orchestrator.domain.plan_advice import advise
from orchestrator.domain.plan_batch import batch_of
from orchestrator.domain.plan_limits import (
    Room,
    describe_partition,
    find_problems,
    find_warnings,
    room_of_profile,
    width_of,
)
from orchestrator.domain.plan_nodes import NodeConfig
from orchestrator.domain.plan_time import MEASURED, STATED, TrialTime
from orchestrator.domain.site import PartitionConfig
from orchestrator.domain.spec import BatchNames
from orchestrator.domain.spec_loader import load_spec

# The founding cluster: ten instances of eight GPUs; 10,800 CNY for 648 instance-hours on demand.
FOUNDING = PartitionProfile(
    "ondemand",
    "ondemand",
    "base.sbatch.j2",
    nodes=10,
    gpus_per_node=8,
    cpus_per_node=16,
    mem_gb_per_node=64,
    price_per_gpu_hour=2.0833,
    currency="CNY",
)
WHOLE = JobShape(1, 8, None, 8, 32 * 1024, 240)
HALF = JobShape(1, 4, None, 4, None, 120)
FOUR_HOURS = TrialTime(4 * 3600, STATED)
TWO_HOURS = TrialTime(2 * 3600, STATED)
SPEC = load_spec(
    "program: t.py\nmetric: {name: loss, goal: minimize}\nparameters: {a: 1}", file="s.yaml"
)


def width(n: int, per_node: int | None = None) -> Width:
    return Width((Bound(n, "why"),), per_node)


def lines(plan: Plan) -> list[str]:
    amounts = (plan.node_hours, plan.gpu_hours, plan.cpu_hours, plan.cost, plan.wall)
    return [line for amount in amounts if amount is not None for line in amount.lines]


def test_founding_grid_takes_648_instance_hours_and_68_hours_not_8() -> None:
    room = room_of_profile(FOUNDING)
    group = Group(Place(FOUNDING, WHOLE), 162, time=FOUR_HOURS, width=width_of(WHOLE, room, None))
    plan = make_plan([group], total_gpus={"ondemand": room.total_gpus})
    assert lines(plan) == [
        "162 trials x 4 h x 1 instance = 648 instance-hours",
        "162 trials x 4 h x 8 GPUs = 5184 GPU-hours",
        "162 trials x 4 h x 8 CPUs = 5184 CPU-hours",
        "5184 GPU-hours x 2.0833 CNY = 10799.83 CNY",
        "162 trials, 10 at a time = 17 waves x 4 h = 68 h",
    ]
    assert plan.wall is not None
    assert (plan.wall.waves, plan.n, plan.is_bound, plan.is_costly) == (17, 162, True, True)
    assert group.width.bounds == (
        Bound(10, "partition ondemand has 10 nodes of 8 GPUs, 16 CPUs, 64 GB"),
    )


def test_trials_that_share_a_node_and_charge_cpus() -> None:
    profile = dataclasses.replace(FOUNDING, price_per_gpu_hour=0.5, price_per_cpu_hour=0.03)
    quarter = JobShape(1, 2, None, 4, None, 20)
    group = Group(Place(profile, quarter), 40, 2, TrialTime(1200, STATED), width(10, per_node=4))
    assert lines(make_plan([group])) == [
        "42 trials x 20 min / 4 on an instance = 3.5 instance-hours",
        "42 trials x 20 min x 2 GPUs = 28 GPU-hours",
        "42 trials x 20 min x 4 CPUs = 56 CPU-hours",
        "28 GPU-hours x 0.5 + 56 CPU-hours x 0.03 CNY = 15.68 CNY",
        "42 trials, 10 at a time = 5 waves x 20 min = 1.67 h",
    ]


def test_measured_trials_give_a_mean_and_a_slow_case() -> None:
    time = TrialTime(3 * 3600, MEASURED, 12, 4.5 * 3600)
    plan = make_plan([Group(Place(FOUNDING, WHOLE), 25, time=time, width=width(10, 1))])
    assert plan.wall is not None
    assert plan.wall.lines == (
        "25 trials, 10 at a time = 3 waves x 3 h = 9 h",
        "if all were as slow as the slowest tenth: 3 waves x 4.5 h = 13.5 h",
    )
    assert not plan.is_bound


def test_mixed_shapes_are_bounded_from_both_sides() -> None:
    groups = [
        Group(Place(FOUNDING, WHOLE), 20, time=FOUR_HOURS, width=width(10, 1)),
        Group(Place(FOUNDING, HALF), 30, time=TWO_HOURS, width=width(12, 2)),
    ]
    plan = make_plan(groups, Ceiling(trials=12), {"ondemand": 80})
    assert plan.node_hours is not None
    assert plan.node_hours.lines == (
        "20 trials x 4 h x 1 instance = 80 instance-hours",
        "30 trials x 2 h / 2 on an instance = 30 instance-hours",
        "80 + 30 = 110 instance-hours",
    )
    assert plan.gpu_hours is not None
    assert plan.gpu_hours.lines[-1] == "640 + 240 = 880 GPU-hours"
    assert plan.wall is not None
    assert plan.wall.lines == (
        "one shape after the other: 2 waves x 4 h + 3 waves x 2 h = 14 h",
        "at least, however packed: (20 trials x 4 h + 30 trials x 2 h) / 12 at a time = 11.67 h",
    )
    by_gpus = make_plan(groups, total_gpus={"ondemand": 80}).wall
    assert by_gpus is not None
    assert by_gpus.lines[1] == "at least, however packed: 880 GPU-hours / 80 GPUs = 11 h"


def test_partitions_run_side_by_side_unless_ceilings_are_shared() -> None:
    spot = dataclasses.replace(FOUNDING, name="spot", price_per_gpu_hour=1.0)
    groups = [
        Group(Place(spot, WHOLE), 20, time=FOUR_HOURS, width=width(10, 1)),
        Group(Place(FOUNDING, HALF), 30, time=TWO_HOURS, width=width(12, 2)),
    ]
    plan = make_plan(groups, total_gpus={"ondemand": 40})
    assert plan.cost is not None
    assert plan.cost.lines == ("640 GPU-hours x 1 + 240 GPU-hours x 2.0833 CNY = 1139.99 CNY",)
    assert plan.wall is not None
    assert plan.wall.lines == (
        "the partitions side by side: 8 h",
        "on spot, one shape after the other: 2 waves x 4 h = 8 h",
        "on ondemand, one shape after the other: 3 waves x 2 h = 6 h",
        "at least, however packed: the 20 trials of one shape: 2 waves x 4 h = 8 h",
    )
    shared = make_plan(groups, Ceiling(gpus=80)).wall
    assert shared is not None
    assert shared.lines == (
        "one shape after the other: 2 waves x 4 h + 3 waves x 2 h = 14 h",
        "at least, however packed: 880 GPU-hours / 80 GPUs = 11 h",
    )
    euros = dataclasses.replace(spot, currency="EUR")
    mixed = make_plan([Group(Place(euros, WHOLE), 20, time=FOUR_HOURS), groups[1]])
    assert (mixed.cost, mixed.currency) == (None, "")


def test_what_is_not_known_is_none() -> None:
    plan = make_plan([Group(Place(FOUNDING, WHOLE), 3, time=None, width=width(1))])
    assert (lines(plan), plan.is_costly) == ([], False)
    no_width = make_plan([Group(Place(FOUNDING, WHOLE), 3, time=FOUR_HOURS)])
    assert no_width.wall is None
    assert no_width.cost is not None
    free = dataclasses.replace(FOUNDING, price_per_gpu_hour=0.0)
    assert make_plan([Group(Place(free, WHOLE), 3, time=FOUR_HOURS)]).cost is None
    assert make_plan([Group(Place(FOUNDING, WHOLE), 0, time=FOUR_HOURS)]).groups == ()
    assert (
        make_plan([Group(Place(FOUNDING, WHOLE), 3, time=FOUR_HOURS, width=width(0))]).wall is None
    )


@pytest.mark.parametrize(
    ("value", "shown"), [(648.0, "648"), (1.6667, "1.67"), (0.0123, "0.012"), (0, "0")]
)
def test_show_hours(value: float, shown: str) -> None:
    assert show_hours(value) == shown


def test_show_money_never_shows_nothing_of_something() -> None:
    assert [show_money(x) for x in (4665.6, 0.5, 0.00123, 0)] == [
        "4665.60",
        "0.50",
        "0.0012",
        "0.00",
    ]


# --- the room ------------------------------------------------------------------------------------


def test_width_of_names_the_tightest_first() -> None:
    room = room_of_profile(FOUNDING)
    narrow = width_of(HALF, room, 15)
    assert [bound.n for bound in narrow.bounds] == [15, 20]
    assert narrow.per_node == 2
    assert width_of(HALF, Room("partition x"), None) == Width()


def test_room_of_a_profile_without_nodes_is_not_known() -> None:
    assert room_of_profile(dataclasses.replace(FOUNDING, nodes=None)).nodes == ()


def test_trials_share_a_node_of_a_profile_that_does_not_say_how_many_there_are() -> None:
    profile = dataclasses.replace(FOUNDING, nodes=None)
    quarter = JobShape(1, 2, None, 2, 8 * 1024, 60)

    def instance_hours(profile: PartitionProfile, shape: JobShape = quarter) -> str:
        width = width_of(shape, room_of_profile(profile), None)
        assert width.bounds == (), "how many run at once is not known"
        group = Group(Place(profile, shape), 4, time=TWO_HOURS, width=width)
        return lines(make_plan([group]))[0]

    four = "4 trials x 2 h / 4 on an instance = 2 instance-hours"
    assert instance_hours(profile) == four
    assert instance_hours(dataclasses.replace(profile, cpus_per_node=None)) == four
    assert instance_hours(dataclasses.replace(profile, nodes=10, cpus_per_node=None)) == four
    by_memory = dataclasses.replace(profile, mem_gb_per_node=16)
    assert "/ 2 on an instance" in instance_hours(by_memory)
    alone = "4 trials x 2 h x 1 instance = 8 instance-hours"
    assert instance_hours(dataclasses.replace(profile, gpus_per_node=None)) == alone
    whole = dataclasses.replace(quarter, sbatch=(("exclusive", ""),))
    assert instance_hours(profile, whole) == alone
    nothing = PartitionProfile("x", "x", "base.sbatch.j2")
    assert instance_hours(nothing) == alone


def test_find_problems_says_what_the_partition_allows() -> None:
    debug = PartitionConfig("debug", max_nodes=1, max_time_min=30)
    room = Room("partition debug", partition=debug)
    assert describe_partition(debug) == "partition debug allows 1 node, 0:30 h"
    long = dataclasses.replace(WHOLE, nodes=2)
    assert find_problems(long, room) == [
        "partition debug allows 1 node, 0:30 h; a trial asks for 2 nodes and 4:00 h"
    ]
    assert find_problems(dataclasses.replace(WHOLE, time_min=30), room) == []
    assert describe_partition(PartitionConfig("x")) == "partition x allows jobs of any length"


def test_find_problems_of_nodes_that_are_too_small() -> None:
    room = room_of_profile(FOUNDING)
    nine = dataclasses.replace(WHOLE, gpus=9)
    assert find_problems(nine, room) == [
        "partition ondemand has 10 nodes of 8 GPUs, 16 CPUs, 64 GB, none of them large enough; "
        "a trial asks for 9 GPUs, 8 CPUs, 32 GB on a node"
    ]
    wide = dataclasses.replace(WHOLE, nodes=11)
    assert "only 10 of them large enough" in find_problems(wide, room)[0]


def test_find_warnings_of_nodes_that_are_down() -> None:
    nodes = tuple(NodeConfig(f"n{i}", 16, 0, {"": 8}, is_up=False) for i in range(2))
    room = Room("partition x", nodes, partition=PartitionConfig("x", state="DRAIN"))
    assert find_warnings(room, [WHOLE], 1) == [
        "partition x is DRAIN: what is submitted waits until it is UP",
        "2 of 2 nodes of partition x are down or drained",
        "too few nodes of partition x are up for a trial to start now",
    ]


# --- advice --------------------------------------------------------------------------------------


def test_advice_of_a_canary_for_what_is_costly_and_new() -> None:
    plan = make_plan([Group(Place(FOUNDING, WHOLE), 162, time=FOUR_HOURS, width=width(10))])
    _, advice = advise(SPEC, plan, [], None)
    assert advice == [
        "canary: 1 in the spec tries one trial before the other 161; a mistake then costs one trial"
    ]
    assert advise(SPEC, plan, [], Usage(wall_h=1.0))[1] == [], "trials have run already"
    small = make_plan([Group(Place(FOUNDING, WHOLE), 2, time=FOUR_HOURS, width=width(10))])
    assert advise(SPEC, small, [], None)[1] == []


def test_advice_of_a_batch_that_was_guessed_and_a_warning_of_one_that_does_not_divide() -> None:
    plan = make_plan([])
    guess = batch_of({"batch_size": 16}, WHOLE, None)
    assert "batch: {effective: batch_size}" in advise(SPEC, plan, [guess], None)[1][0]
    uneven = batch_of({"batch_size": 12}, WHOLE, BatchNames(effective="batch_size"))
    warnings, advice = advise(SPEC, plan, [None, uneven], None)
    assert (warnings, advice) == (["batch_size: 12 is not divisible by 8 GPUs"], [])


def test_warning_of_a_budget_that_does_not_suffice() -> None:
    spec = types.SimpleNamespace(
        budget=types.SimpleNamespace(cost=10_800, currency="CNY", gpu_hours=5000), canary=1
    )
    plan = make_plan([Group(Place(FOUNDING, WHOLE), 162, time=FOUR_HOURS, width=width(10))])
    used = Usage(1.0, 8.0, {"CNY": 16.0})
    warnings, _ = advise(spec, plan, [], used)  # type: ignore[arg-type]
    assert warnings == [
        "budget: 8 used + 5184 to do = 5192 GPU-hours, over 5000",
        "budget: 16.00 used + 10799.83 to do = 10815.83 CNY, over 10800",
    ]

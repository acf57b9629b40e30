"""Which partition a trial goes to and when it moves on, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract import records
from orchestrator.contract.errors import SpecError
from orchestrator.domain.cause import Cause
from orchestrator.domain.partition import PartitionProfile, ShapeError
from orchestrator.domain.placement import (
    Place,
    Placement,
    Stay,
    count_preemptions,
    describe_skipped,
    find_places,
    next_place,
    place_of,
    warn_of_short_times,
)
from orchestrator.domain.resources import TrialResources
from orchestrator.domain.retry_policy import Ended
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trial_files import Attempt
from orchestrator.domain.trials import expand_trials


def profile(name: str, **keys: Any) -> PartitionProfile:
    return PartitionProfile(name, name, "base.sbatch.j2", **keys)


CPU = profile("cpu", gpus_per_node=0, max_time_min=60, defaults={"mem_gb": 1})
SPOT = profile("spot", gpus_per_node=4, preemptible=True, defaults={"mem_gb": 2})
ONDEMAND = profile("ondemand", gpus_per_node=8)
PROFILES = {p.name: p for p in (CPU, SPOT, ONDEMAND)}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (TrialResources(), ["cpu", "spot", "ondemand"]),
        (TrialResources(time_min=61), ["spot", "ondemand"]),
        (TrialResources(gpus=4), ["spot", "ondemand"]),
        (TrialResources(gpus=8), ["ondemand"]),
        (TrialResources(gpus=8, partition="ondemand"), ["ondemand"]),
        (TrialResources(partition="spot"), ["spot"]),
    ],
)
def test_trial_fits_where_its_shape_does_in_order(wanted: TrialResources, names: list[str]) -> None:
    assert [place.name for place in find_places(wanted, PROFILES)] == names


def test_trials_that_skip_a_preferred_partition_are_counted_by_what_does_not_fit() -> None:
    small, long = TrialResources(), TrialResources(time_min=90)
    large, chosen = TrialResources(gpus=8), TrialResources(gpus=8, partition="ondemand")
    assert describe_skipped([small, chosen], PROFILES) == []
    assert describe_skipped([small, long, long, large], PROFILES) == [
        "2 of 4 trials skip cpu: resources.time: 1:30 h is too much for partition cpu: "
        "the longest is 1:00 h",
        "1 of 4 trials skips cpu: resources.gpus: 8 is too much for partition cpu: a node has 0",
        "1 of 4 trials skips spot: resources.gpus: 8 is too much for partition spot: a node has 4",
    ]
    assert describe_skipped([large], {"spot": SPOT, "ondemand": ONDEMAND})[0].startswith("1 of 1 ")
    # What does not fit a partition after its own is not skipping: it just cannot move there.
    assert describe_skipped([large], {"ondemand": ONDEMAND, "spot": SPOT}) == []


@pytest.mark.parametrize(
    ("minutes", "before_s", "least"),
    [(1, 60, "3 min"), (2, 60, "3 min"), (3, 60, None), (None, 60, None), (5, 300, "7 min")],
)
def test_time_limit_that_leaves_no_time_to_work_is_warned_of(
    minutes: int | None, before_s: int, least: str | None
) -> None:
    there = profile("short", signal_before_end_s=before_s)
    places = find_places(TrialResources(time_min=minutes), {"short": there})
    found = warn_of_short_times([*places, *places])
    assert [words.rpartition("at least ")[2] for words in found] == ([least] if least else [])


def test_shape_is_filled_from_its_own_partition() -> None:
    shapes = [place.shape.mem_mb for place in find_places(TrialResources(), PROFILES)]
    assert shapes == [1024, 2048, None]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            TrialResources(gpus=9),
            "resources.gpus: 9 is too much for partition ondemand: a node has 8; ask for less, or "
            "name another partition",
        ),
        (
            TrialResources(gpus=1, partition="cpu"),
            "resources.gpus: 1 is too much for partition cpu: a node has 0; ask for less, or name "
            "another partition",
        ),
        (
            TrialResources(partition="spto"),
            "partition: the expression gives 'spto', which is no profile; did you mean spot? there "
            "are: cpu, spot, ondemand",
        ),
    ],
)
def test_trial_that_fits_nowhere_is_refused(wanted: TrialResources, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        find_places(wanted, PROFILES)
    assert str(caught.value) == message


PLACES = find_places(TrialResources(time_min=30), PROFILES)
THREE = Placement(("cpu", "spot", "ondemand"), after_preemptions=3)
WAITS = Placement(("cpu", "spot", "ondemand"), after_waiting_min=120)
NEVER = Placement(("cpu", "spot", "ondemand"), after_preemptions=0)


@pytest.mark.parametrize(
    ("stay", "placement", "to", "reason"),
    [
        (Stay("spot", 2), THREE, None, ""),
        (Stay("spot", 3), THREE, "ondemand", "preempted 3 times on spot: goes on on ondemand"),
        (Stay("cpu", 4), THREE, "spot", "preempted 4 times on cpu: goes on on spot"),
        (Stay("ondemand", 9), THREE, None, ""),
        (Stay("gone", 9), THREE, None, ""),
        (Stay("spot", 99), NEVER, None, ""),
        (Stay("spot", 0, 1e6), THREE, None, ""),
        (Stay("spot", 0, 7199), WAITS, None, ""),
        (Stay("spot", 0, 7200), WAITS, "ondemand", "waited 120 min on spot: goes on on ondemand"),
        (Stay("spot", 0, None), WAITS, None, ""),
        (Stay("ondemand", 0, 1e6), WAITS, None, ""),
    ],
)
def test_next_place(stay: Stay, placement: Placement, to: str | None, reason: str) -> None:
    move = next_place(PLACES, stay, placement)
    assert (move and move.place.name, move.reason if move else "") == (to, reason)


def test_place_of_a_partition_that_was_removed_is_the_first() -> None:
    assert place_of(PLACES, "spot").name == "spot"
    assert place_of(PLACES, "gone").name == "cpu"
    assert place_of(PLACES, None).name == "cpu"


def attempt(number: int = 1, partition: str = "spot", **keys: Any) -> Attempt:
    values = {"outcome": records.PREEMPTED, "signal": "SIGTERM", "job_id": "7", "wall_s": 60.0}
    return Attempt(number, resources={"partition": partition}, **{**values, **keys})


@pytest.mark.parametrize(
    ("found", "cause", "n_times"),
    [
        (attempt(), Cause.PREEMPTED, 1),
        (attempt(partition="ondemand"), Cause.PREEMPTED, 0),
        (attempt(signal=None), Cause.PREEMPTED, 0),  # its program asked to be run again
        (attempt(cause=records.STOPPED_BY_CANARY), Cause.PREEMPTED, 0),
        (attempt(signal=records.STOPPED_BY_BUDGET), Cause.PREEMPTED, 0),
        (attempt(job_id=None), Cause.PREEMPTED, 0),  # on this machine, stopped by a person
        (attempt(wall_s=3500.0), Cause.PREEMPTED, 0),  # it reached its time limit
        (attempt(wall_s=None), Cause.PREEMPTED, 1),
        (attempt(), Cause.TIMEOUT, 0),
        (attempt(outcome=None, signal=None), Cause.PREEMPTED, 1),  # Slurm says so
        (attempt(outcome=None, signal=None), Cause.SILENT, 1),
        (attempt(outcome=records.FAILED), Cause.ERROR, 0),
    ],
)
def test_what_counts_as_a_preemption(found: Attempt, cause: Cause, n_times: int) -> None:
    place = find_places(TrialResources(time_min=60), {"spot": SPOT})[0]
    assert count_preemptions([found], [Ended(1, cause)], place) == n_times


def test_silent_end_counts_only_where_jobs_are_preempted() -> None:
    place = Place(ONDEMAND, PLACES[2].shape)
    lost = attempt(partition="ondemand", outcome=None)
    assert count_preemptions([lost], [Ended(1, Cause.SILENT)], place) == 0
    assert count_preemptions([attempt()], [], Place(SPOT, PLACES[1].shape)) == 0, "it ended well"


HEAD = "program: t.sh\nmetric: {name: loss, goal: minimize}\nparameters: {a: [1, 4]}\n"


def load(text: str, *overrides: str) -> SweepSpec:
    return load_spec(HEAD + text, file="s.yaml", overrides=overrides)


@pytest.mark.parametrize(
    ("text", "first", "placement"),
    [
        ("", None, None),
        ("partition: spot", "spot", None),
        ("partition: [spot, ondemand]", "spot", Placement(("spot", "ondemand"), 3, None)),
        (
            "partition: {order: [spot, cpu], after_preemptions: 0, after_waiting_min: 120}",
            "spot",
            Placement(("spot", "cpu"), 0, 120.0),
        ),
    ],
)
def test_partition_is_a_name_or_several(
    text: str, first: str | None, placement: Placement | None
) -> None:
    spec = load(text)
    assert (spec.partition, spec.placement) == (first, placement)
    assert spec.resources.partition is None


def test_partition_as_a_list_on_the_command_line() -> None:
    assert load("", "partition=spot,ondemand").placement == Placement(("spot", "ondemand"))
    assert load("partition: [a, b]", "partition=spot").placement is None


@pytest.mark.parametrize(
    "text",
    [
        "partition: \"'spot' if a <= 2 else 'ondemand'\"",
        "partition: {expression: \"'spot' if a <= 2 else 'ondemand'\"}",
        "resources: {gpus: a}\npartition: \"'spot' if gpus <= 2 else 'ondemand'\"",
    ],
)
def test_partition_as_an_expression_of_parameters_and_resources(text: str) -> None:
    spec = load(text)
    assert [trial.resources.partition for trial in expand_trials(spec)] == ["spot", "ondemand"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partition: []", "partition: is empty; name at least one partition, such as [spot, ond"),
        ("partition: [a, a]", "partition: 'a' stands there twice; name each partition once"),
        ("partition: [a b]", "partition: 'a b' is no partition; use letters, digits, '.', '_' a"),
        ("partition: 5", "partition: 5 is not allowed; use text, such as gpu"),
        ("partition: {after_preemptions: 1}", "partition: has no order; write partition: {order"),
        ("partition: {ordr: [a]}", "partition.ordr: unknown key; did you mean order? use order,"),
        (
            "partition: {order: [a], after_preemptions: -1}",
            "partition.after_preemptions: -1 is not allowed; use a whole number of at least 0",
        ),
        (
            "partition: {order: [a], after_waiting_min: 0}",
            "partition.after_waiting_min: 0 is not allowed; use minutes, such as 120",
        ),
        ("partition: {expression: a, order: [b]}", "partition: has an expression and more; an"),
        ("partition: \"'x' if b else 'y'\"", "partition: `'x' if b else 'y'` has the unknown name"),
        ("max_gpus: 0", "max_gpus: 0 is not allowed; use a whole number of at least 1"),
    ],
)
def test_partition_mistake_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(text)
    assert str(caught.value).startswith(f"s.yaml:4: {message}")


def test_partition_expression_has_to_give_a_name() -> None:
    with pytest.raises(SpecError, match=r"partition\.expression: `a`: 1 is no partition; give a"):
        expand_trials(load("partition: {expression: a}"))

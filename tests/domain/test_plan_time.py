"""How long a trial takes: measured, stated, or by the partition."""

from __future__ import annotations

import pytest

from orchestrator.contract.states import TrialState
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.plan_time import (
    MEASURED,
    PARTITION,
    STATED,
    TrialTime,
    measure_trials,
    percentile_90,
    round_time,
    show_time,
    time_of,
)
from orchestrator.domain.trial_files import Attempt, TrialFiles

SPOT = PartitionProfile("spot", "spot", "base.sbatch.j2")
SHAPE = JobShape(2, 4, None, 8, None, 240)
RESOURCES = {"partition": "spot", "gpus": 8, "cpus": 16, "nodes": 2}


def trial(number: int, *walls_s: float, gpus: int = 8) -> TrialFiles:
    attempts = tuple(
        Attempt(i, wall_s=wall_s, resources={**RESOURCES, "gpus": gpus})
        for i, wall_s in enumerate(walls_s, start=1)
    )
    name = f"{number:05d}-0123456789"
    return TrialFiles(name, number, "0123456789", attempts=attempts)


def test_measure_trials_takes_committed_ones_with_their_restarts() -> None:
    trials = [trial(0, 3600), trial(1, 1800, 5400), trial(2, 60), trial(3, 7200, gpus=1)]
    states = dict.fromkeys((t.name for t in trials), TrialState.DONE)
    states[trials[2].name] = TrialState.FAILED
    measured = measure_trials(trials, states, 0.0)
    assert measured == {
        ("spot", 8, 16, 2): TrialTime(5400, MEASURED, 2, 7200),
        ("spot", 1, 16, 2): TrialTime(7200, MEASURED, 1, 7200),
    }
    assert time_of(SHAPE, SPOT, measured) == TrialTime(5400, MEASURED, 2, 7200)


def test_time_of_without_measured_trials() -> None:
    other = {("ondemand", 8, 16, 2): TrialTime(60, MEASURED, 1, 60)}
    stated = time_of(SHAPE, SPOT, other, 30)
    assert stated == TrialTime(240 * 60, STATED)
    assert stated is not None
    assert stated.is_bound
    open_ = JobShape(2, 4, None, 8, None, None)
    assert time_of(open_, SPOT, {}, 30) == TrialTime(1800, PARTITION)
    assert time_of(open_, SPOT, {}) is None


@pytest.mark.parametrize(
    ("values", "p90"),
    [([5], 5), ([1, 2], 2), (range(1, 11), 9), (range(1, 21), 18), ([9, 1, 5], 9)],
)
def test_percentile_90_is_the_nearest_rank(values: list[float], p90: float) -> None:
    assert percentile_90(values) == p90


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (14_400, "4 h"),
        (5400, "1.5 h"),
        (13_620, "3:47 h"),
        (3600, "1 h"),
        (1200, "20 min"),
        (60, "1 min"),
        (599, "599 s"),
        (35, "35 s"),
        (0.3, "0.3 s"),
    ],
)
def test_show_time(seconds: float, shown: str) -> None:
    assert show_time(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "rounded"),
    [(13_637.4, 13_620), (612.2, 600), (35.4, 35), (0.31, 0.3), (0.001, 0.1), (600, 600)],
)
def test_round_time_to_what_is_shown(seconds: float, rounded: float) -> None:
    assert round_time(seconds) == pytest.approx(rounded)

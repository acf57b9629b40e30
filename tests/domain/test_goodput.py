"""Where the time of a sweep went: every case by hand, and that the parts always add up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.records import COMMITTED, FAILED, PREEMPTED, REFUSED, SUPERSEDED
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import attempt_wall_s
from orchestrator.domain.goodput import (
    PARTS,
    Goodput,
    goodput_record,
    measure_goodput,
)
from orchestrator.domain.goodput_words import describe_goodput
from orchestrator.domain.trial_files import Attempt, TrialFiles

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
START_S = START.timestamp()
NOW_S = START_S + 10_000


def attempt(number, at_s, wall_s, outcome, code=0, found_s=None, **fields):
    """Return an attempt: seconds after START on the file server's clock, GPUs 1."""
    return Attempt(
        number,
        started_at=START + timedelta(seconds=at_s, hours=5),  # a node's clock that is wrong
        wall_s=wall_s,
        outcome=outcome,
        exit_code=code,
        claimed_at=START_S + at_s,
        resumes_from=None if found_s is None else START_S + found_s,
        **{"resources": {"gpus": 1}, **fields},
    )


def trial(*attempts, winner=None):
    result = None if winner is None else {"attempt": winner, "metrics": {}}
    return TrialFiles("00001-aaaa", 1, "aaaa", {}, result, result is not None, attempts)


def seconds(goodput):
    return {name: ms / 1000 for name, ms in goodput.parts_ms.items() if ms}


def measure(state, *attempts, winner=None):
    return measure_goodput([(trial(*attempts, winner=winner), state)], NOW_S)


DONE, RUNNING, LOST = TrialState.DONE, TrialState.RUNNING, TrialState.LOST


@pytest.mark.parametrize(
    ("state", "attempts", "winner", "expected"),
    [
        pytest.param(DONE, [attempt(1, 0, 100, COMMITTED)], 1, {"results": 100}, id="one"),
        pytest.param(
            DONE,
            [attempt(1, 0, 100, COMMITTED, start_up_s=7.5)],
            1,
            {"results": 92.5, "start_up": 7.5},
            id="start-up",
        ),
        pytest.param(
            DONE,
            [attempt(1, 0, 100, PREEMPTED, 75), attempt(2, 300, 50, COMMITTED, 0, found_s=98)],
            1 + 1,
            {"results": 148, "preempted": 2},
            id="preempted up to its checkpoint",
        ),
        pytest.param(
            DONE,
            [
                attempt(1, 0, 100, None, None, is_estimate=True, start_up_s=5),
                attempt(2, 300, 50, COMMITTED, 0, found_s=60, start_up_s=5),
            ],
            2,
            {"results": 100, "killed": 40, "start_up": 10},
            id="killed up to its newest checkpoint",
        ),
        pytest.param(
            DONE,
            [attempt(1, 0, 100, PREEMPTED, 75), attempt(2, 300, 50, COMMITTED)],
            2,
            {"results": 50, "preempted": 100},
            id="nothing saved",
        ),
        pytest.param(
            DONE,
            [
                attempt(1, 0, 100, PREEMPTED, 75),
                attempt(2, 300, 80, None, None, found_s=99),
                attempt(3, 900, 50, COMMITTED, 0, found_s=99),
            ],
            3,
            {"results": 149, "preempted": 1, "killed": 80},
            id="killed before its first checkpoint",
        ),
        pytest.param(
            DONE,
            [
                attempt(1, 0, 100, PREEMPTED, 75),
                attempt(2, 300, 80, PREEMPTED, 75, found_s=100),
                attempt(3, 900, 50, COMMITTED, 0, found_s=None),
            ],
            3,
            {"results": 50, "preempted": 180},
            id="checkpoints were removed: all is done again",
        ),
        pytest.param(
            DONE,
            [
                attempt(1, 0, 100, FAILED, 1),
                attempt(2, 300, 80, FAILED, -9, found_s=40),
                attempt(3, 900, 50, COMMITTED, 0, found_s=330),
            ],
            3,
            {"results": 50 + 40 + 30, "program_failed": 60, "killed": 50},
            id="failures that were retried",
        ),
        pytest.param(
            DONE,
            [
                attempt(1, 0, 100, SUPERSEDED, -15),
                attempt(2, 60, 50, COMMITTED, 0, found_s=30),
                attempt(3, 70, 20, REFUSED, 0, found_s=30),
            ],
            2,
            {"results": 80, "duplicate": 90},
            id="duplicates",
        ),
        pytest.param(
            TrialState.FAILED,
            [attempt(1, 0, 100, PREEMPTED, 75), attempt(2, 300, 40, FAILED, 1, found_s=90)],
            None,
            {"abandoned": 90, "preempted": 10, "program_failed": 40},
            id="failed for good",
        ),
        pytest.param(
            TrialState.CANCELLED,
            [attempt(1, 0, 100, PREEMPTED, -15)],
            None,
            {"abandoned": 100},
            id="cancelled",
        ),
        pytest.param(
            RUNNING,
            [
                attempt(1, 0, 100, PREEMPTED, 75),
                attempt(2, 9_000, None, None, None, found_s=90, heartbeat_at=NOW_S),
            ],
            None,
            {"unfinished": 90, "preempted": 10},
            id="running, its node five hours ahead",
        ),
        pytest.param(LOST, [attempt(1, 0, 100, None, None)], None, {"unfinished": 100}, id="lost"),
        pytest.param(TrialState.NEW, [], None, {}, id="new"),
    ],
)
def test_measure_goodput_one_trial_gives_every_second_to_its_part(
    state, attempts, winner, expected
):
    assert seconds(measure(state, *attempts, winner=winner)) == expected


def test_measure_goodput_running_attempt_counts_up_to_now():
    started = attempt(1, 0, None, None, None)._replace(started_at=START)
    assert seconds(measure(RUNNING, started)) == {"unfinished": 10_000}


def test_measure_goodput_older_records_are_guessed_and_say_so():
    old = {"claimed_at": None, "resumes_from": None}
    attempts = [
        attempt(1, 0, 100, PREEMPTED, 75)._replace(**old),
        attempt(2, 300, 40, None, None)._replace(**old),
        attempt(3, 900, 50, COMMITTED)._replace(**old),
    ]
    goodput = measure(DONE, *attempts, winner=3)
    assert seconds(goodput) == {"results": 150, "killed": 40}
    assert goodput.is_estimate
    assert goodput.resume_s == (200, 560)


def test_measure_goodput_attempts_weigh_by_their_gpus():
    big = [
        attempt(1, 0, 100, PREEMPTED, 75, resources={"gpus": 8}),
        attempt(2, 300, 50, COMMITTED, 0, found_s=90, resources={"gpus": 2}),
    ]
    cpu = trial(attempt(1, 0, 1000, COMMITTED, resources={}), winner=1)
    mixed = measure_goodput([(trial(*big, winner=2), DONE), (cpu, DONE)], NOW_S)
    assert seconds(mixed) == {"results": 720 + 100 + 1000, "preempted": 80}
    assert mixed.unit == "device-hours"
    assert measure(DONE, *big, winner=2).unit == "GPU-hours"
    assert measure_goodput([(cpu, DONE)], NOW_S).unit == "hours"


def test_measure_goodput_secondary_numbers():
    done = [
        trial(
            attempt(1, 0, 100, PREEMPTED, 75),
            attempt(2, 100 + gap, 3500, COMMITTED, 0, found_s=100),
            winner=2,
        )
        for gap in (5, 130, 125)
    ]
    failed = trial(attempt(1, 0, 3600, FAILED, 1), attempt(2, 9000, 3600, FAILED, 1))
    goodput = measure_goodput([*((one, DONE) for one in done), (failed, TrialState.FAILED)], NOW_S)
    assert goodput.resume_s == (5, 125, 130)
    assert (goodput.resume_percentile_s(50), goodput.resume_percentile_s(99)) == (125, 130)
    assert goodput.success_rate == 0.75
    assert goodput.done_per_hour == pytest.approx(3 / 5)
    assert goodput.goodput == pytest.approx(3 / 5)
    assert goodput.lost_share == pytest.approx(2 / 5)


def test_measure_goodput_nothing_is_no_division_by_zero():
    goodput = measure_goodput([], NOW_S)
    assert goodput == Goodput()
    found = (goodput.goodput, goodput.lost_share, goodput.success_rate, goodput.done_per_hour)
    assert found == (0.0, 0.0, None, None)
    assert goodput.resume_percentile_s(50) is None
    assert describe_goodput(goodput) == []
    assert goodput_record(goodput)["allocated_h"] == 0


def test_describe_goodput_is_a_short_block():
    goodput = measure_goodput(
        [
            (
                trial(
                    attempt(1, 0, 3600, PREEMPTED, 75),
                    attempt(2, 3725, 3600, COMMITTED, 0, found_s=3400),
                    winner=2,
                ),
                DONE,
            ),
            (trial(attempt(1, 0, 1800, FAILED, 1)), TrialState.FAILED),
        ],
        NOW_S,
    )
    assert describe_goodput(goodput) == [
        "Goodput: 77.8% of 2.500 GPU-hours is in results.",
        "    2.2%  preempted, not saved",
        "   20.0%  programs that failed",
        "From an interruption to the next attempt: p50 125 s, p99 125 s.",
        "50.0% of the trials that ended have a result; 0.4 results per GPU-hour.",
    ]


moments = st.none() | st.floats(START_S - 1e5, START_S + 1e6)
outcomes = st.sampled_from([None, COMMITTED, PREEMPTED, FAILED, SUPERSEDED, REFUSED, "odd"])
attempts = st.builds(
    Attempt,
    number=st.just(0),
    started_at=st.none() | st.just(START),
    ended_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    wall_s=st.none() | st.floats(0, 1e7),
    outcome=outcomes,
    exit_code=st.sampled_from([None, 0, 1, 75, -9, -15]),
    resources=st.sampled_from([{}, {"gpus": 1}, {"gpus": 8}, {"gpus": 0.3}, {"gpus": "x"}]),
    heartbeat_at=moments,
    is_estimate=st.booleans(),
    claimed_at=moments,
    resumes_from=moments,
    start_up_s=st.none() | st.floats(0, 1e7),
    reported_at=moments,
)
sweeps = st.lists(
    st.tuples(
        st.lists(attempts, max_size=5), st.none() | st.integers(1, 6), st.sampled_from(TrialState)
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(sweeps)
def test_measure_goodput_parts_add_up_to_all_allocated_time_exactly(sweep):
    trials, allocated = [], 0
    for found, winner, state in sweep:
        numbered = [one._replace(number=n) for n, one in enumerate(found, start=1)]
        trials.append((trial(*numbered, winner=winner), state))
        for one, after in zip(numbered, [*numbered[1:], None], strict=False):
            is_running = one is numbered[-1] and state is TrialState.RUNNING and one.outcome is None
            wall_s, _ = attempt_wall_s(one, NOW_S, is_running, after)
            gpus = one.resources.get("gpus", 1)
            weight = gpus if isinstance(gpus, (int, float)) else 1
            allocated += round((wall_s or 0) * (1000 * weight))
    goodput = measure_goodput(trials, NOW_S)
    assert set(goodput.parts_ms) == set(PARTS)
    assert all(type(ms) is int and ms >= 0 for ms in goodput.parts_ms.values())
    assert sum(goodput.parts_ms.values()) == allocated == goodput.allocated_ms
    lost = sum(ms for name, ms in goodput.parts_ms.items() if name not in ("results", "unfinished"))
    assert goodput.lost_share == (lost / allocated if allocated else 0)

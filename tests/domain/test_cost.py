from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.contract import records
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import (
    Usage,
    attempt_wall_s,
    on_demand_price,
    sum_usage,
    trial_usage,
    wall_at_most_s,
)
from orchestrator.domain.trial_files import Attempt

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
START_S = START.timestamp()
EUR = {"gpus": 4, "nodes": 2, "price_per_hour": 10.0, "currency": "EUR"}
USD = {"gpus": 1, "price_per_hour": 3, "currency": "USD"}


def attempt(number=1, hours=1.0, outcome=records.COMMITTED, resources=EUR, **fields):
    wall_s = None if hours is None else hours * 3600
    return Attempt(number, started_at=START, wall_s=wall_s, outcome=outcome, resources=resources,
                   **fields)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "is_running", "expected"),
    [
        (attempt(hours=0.5), False, (1800.0, False)),
        (attempt(hours=0.5, is_estimate=True), False, (1800.0, True)),
        (attempt(hours=None, ended_at=START + timedelta(days=2)), False, (172_800.0, False)),
        (attempt(hours=None, ended_at=START - timedelta(hours=1)), False, (0.0, False)),
        (attempt(hours=None), True, (7200.0, False)),
        (attempt(hours=None, heartbeat_at=START_S + 60), True, (7200.0, False)),
        (attempt(hours=None, heartbeat_at=START_S + 60), False, (60.0, True)),
        (attempt(hours=None, heartbeat_at=START_S - 60), False, (0.0, True)),
        (
            attempt(hours=None, heartbeat_at=START_S + 60, claimed_at=START_S + 20),
            False,
            (40, True),
        ),
        (attempt(hours=None), False, (None, True)),
        (Attempt(1), True, (None, True)),
    ],
)
def test_attempt_wall_s_attempt_returns_seconds_and_whether_it_is_a_guess(
    one, is_running, expected
):
    assert attempt_wall_s(one, START_S + 7200, is_running) == expected


def test_trial_usage_without_attempts_is_nothing():
    assert trial_usage([], TrialState.PENDING, START_S) == Usage(0.0, 0.0, {}, False)


def test_trial_usage_one_attempt_counts_all_its_gpus_and_its_whole_price():
    assert trial_usage([attempt(hours=2)], TrialState.DONE, START_S) == Usage(
        wall_h=2.0, gpu_hours=8.0, cost={"EUR": 20.0}
    )


def test_trial_usage_every_attempt_counts_whatever_became_of_it():
    attempts = [
        attempt(1, 1, records.PREEMPTED),
        attempt(2, 1, records.FAILED),
        attempt(3, None, None, heartbeat_at=START_S + 3600),
        attempt(4, 1, records.SUPERSEDED),
        attempt(5, 1, records.REFUSED),
        attempt(6, 1, records.COMMITTED),
    ]
    usage = trial_usage(attempts, TrialState.DONE, START_S)
    assert usage == Usage(6.0, 24.0, {"EUR": 60.0}, True)


def test_trial_usage_running_counts_the_last_attempt_up_to_now():
    attempts = [attempt(1, 1, records.PREEMPTED), attempt(2, None, None, heartbeat_at=START_S)]
    usage = trial_usage(attempts, TrialState.RUNNING, START_S + 1800)
    assert usage == Usage(1.5, 6.0, {"EUR": 15.0}, False)


def test_trial_usage_several_currencies_are_kept_apart():
    attempts = [attempt(1, 1, records.PREEMPTED, EUR), attempt(2, 2, resources=USD)]
    usage = trial_usage(attempts, TrialState.DONE, START_S)
    assert usage.cost == {"EUR": 10.0, "USD": 6.0}


def test_trial_usage_without_gpus_has_no_gpu_hours():
    attempts = [attempt(1, 1, records.FAILED, {"gpus": 0}), attempt(2, 3, resources={})]
    assert trial_usage(attempts, TrialState.DONE, START_S) == Usage(4.0, 0.0, {}, False)


@pytest.mark.parametrize("value", [True, "8", -1, float("nan"), float("inf"), 10**400, [1], None])
def test_trial_usage_impossible_count_or_price_is_unknown(value):
    resources = {"gpus": value, "price_per_hour": value, "currency": 3}
    usage = trial_usage([attempt(resources=resources)], TrialState.DONE, START_S)
    assert usage == Usage(1.0, 0.0, {}, False)


def test_trial_usage_true_is_no_count_though_it_equals_one():
    counts = [
        trial_usage([attempt(resources={"gpus": gpus})], TrialState.DONE, 0.0).gpu_hours
        for gpus in (1, True, 1.0, 0, False)
    ]
    assert counts == [1.0, 0.0, 1.0, 0.0, 0.0]


def test_trial_usage_free_is_not_unknown():
    resources = {"price_per_hour": 0, "currency": "EUR"}
    assert trial_usage([attempt(resources=resources)], TrialState.DONE, START_S).cost == {"EUR": 0}


def test_trial_usage_of_a_profile_that_states_no_price_is_unknown():
    resources = {"price_per_hour": 0.0, "currency": ""}
    assert trial_usage([attempt(resources=resources)], TrialState.DONE, START_S).cost == {}


def test_on_demand_price_of_an_old_claim_is_unknown():
    assert on_demand_price(EUR) is None
    known = {"on_demand_price_per_hour": 48.0, "on_demand_currency": "CNY"}
    assert on_demand_price(known) == (48.0, "CNY")


def test_sum_usage_any_order_gives_the_same_bits():
    parts = [
        Usage(wall_h=h, gpu_hours=h / 3, cost={"EUR": h / 7}) for h in (1e9, 0.1, 0.2, 0.3, 1e-9)
    ]
    assert sum_usage(parts) == sum_usage(parts[::-1])


def test_sum_usage_nothing_is_nothing():
    assert sum_usage([]) == Usage()


# --- attempts that died without a word -----------------------------------------------------------


def killed(beat_s=0.0, **fields):
    """One that claimed at START and was seen alive ``beat_s`` later."""
    return attempt(hours=None, outcome=None, claimed_at=START_S, heartbeat_at=START_S + beat_s,
                   **fields)  # fmt: skip


def follower(at_s, **fields):
    return attempt(2, claimed_at=START_S + at_s, **fields)


@pytest.mark.parametrize(
    ("one", "after", "expected_s"),
    [
        (killed(), None, 0.0),
        (killed(15), follower(60), 15.0),
        (killed(15), follower(60, resumes_from=START_S + 20), 20.0),
        (killed(15), follower(60, resumes_from=START_S + 20, reported_at=START_S + 25.5), 25.5),
        (killed(15), follower(60, reported_at=START_S - 5), 15.0),  # an earlier one's
        (killed(15), follower(60, reported_at=START_S + 61), 15.0),  # written after it
        (killed(15), attempt(2, reported_at=START_S + 20), 15.0),  # of an older version
        # As its result has it, where a later attempt committed one.
        (
            attempt(hours=15 / 3600, outcome=None, is_estimate=True, claimed_at=START_S),
            follower(60, resumes_from=START_S + 20),
            20.0,
        ),
        (
            attempt(hours=15 / 3600, outcome=None, is_estimate=True),
            follower(60, resumes_from=START_S + 20),
            15.0,
        ),
    ],
)
def test_attempt_wall_s_killed_attempt_counts_to_its_last_sign_of_life(one, after, expected_s):
    assert attempt_wall_s(one, START_S + 7200, False, after) == (pytest.approx(expected_s), True)


def test_wall_at_most_s_is_until_the_next_claim():
    assert wall_at_most_s(killed(15), follower(60)) == 60
    assert wall_at_most_s(killed(15), None) is None
    assert wall_at_most_s(killed(15), attempt(2)) is None


def test_wall_at_most_s_of_one_that_lived_on_is_unknown():
    assert wall_at_most_s(killed(61), follower(60)) is None
    told = attempt(hours=61 / 3600, outcome=None, is_estimate=True, claimed_at=START_S)
    assert wall_at_most_s(told, follower(60)) is None
    assert wall_at_most_s(told, follower(70)) == 70


def test_trial_usage_counts_what_the_next_attempt_found():
    attempts = [killed(15), follower(60, reported_at=START_S + 36)]
    usage = trial_usage(attempts, TrialState.DONE, START_S)
    assert usage.wall_h == pytest.approx(1.01)
    assert usage.is_estimate

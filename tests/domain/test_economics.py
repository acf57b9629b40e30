"""What a sweep took: a small one by hand, and that the parts add up over random histories."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.contract.records import COMMITTED, FAILED, PREEMPTED, REFUSED, SUPERSEDED
from orchestrator.contract.states import TrialState
from orchestrator.domain.amounts import HOUR_MS, show_money, show_parts
from orchestrator.domain.cost import sum_usage, trial_usage
from orchestrator.domain.cost_tables import (
    economics_record,
    part_table,
    saved_money,
    saved_time,
    show_duration,
    way_table,
)
from orchestrator.domain.economics import NANO, measure_economics, share_out
from orchestrator.domain.goodput import PARTS, measure_goodput
from orchestrator.domain.goodput_words import describe_goodput
from orchestrator.domain.trial_files import Attempt, TrialFiles

START = datetime(2026, 1, 1, 10, tzinfo=UTC)
START_S = START.timestamp()
HOUR = 3600
NOW_S = START_S + 20 * HOUR
# Two GPUs at 1 CNY each an hour, and 10 on demand.
SPOT = {
    "partition": "spot",
    "gpus": 2,
    "price_per_hour": 2.0,
    "currency": "CNY",
    "on_demand_price_per_hour": 20.0,
    "on_demand_currency": "CNY",
}
DONE, RUNNING, ABANDONED = TrialState.DONE, TrialState.RUNNING, TrialState.FAILED


def attempt(number, at_h, hours, outcome, code=0, found_h=None, resources=SPOT, **fields):
    return Attempt(
        number,
        started_at=START + timedelta(hours=at_h),
        wall_s=hours * HOUR,
        outcome=outcome,
        exit_code=code,
        claimed_at=START_S + at_h * HOUR,
        resumes_from=None if found_h is None else START_S + found_h * HOUR,
        resources=resources,
        **fields,
    )


def trial(number, *attempts, winner=None):
    result = None if winner is None else {"attempt": winner, "metrics": {}}
    name = f"{number:05d}-aaaa"
    return TrialFiles(name, number, "aaaa", {}, result, result is not None, attempts)


# Trial 1 takes 4 h. Trial 2 is preempted after 3 h, of which 2.5 h are saved, goes on three hours
# later and starts up for 6 minutes each time. Trial 3 fails after an hour.
SWEEP = [
    (trial(1, attempt(1, 0, 4, COMMITTED), winner=1), DONE),
    (
        trial(
            2,
            attempt(1, 0, 3, PREEMPTED, 75, start_up_s=360),
            attempt(2, 6, 2, COMMITTED, 0, found_h=2.5, start_up_s=360),
            winner=2,
        ),
        DONE,
    ),
    (trial(3, attempt(1, 1, 1, FAILED, 1)), ABANDONED),
]


def test_measure_economics_small_sweep_is_what_a_person_computes():
    found = measure_economics(SWEEP, START_S - HOUR, NOW_S)
    ms = {name: part.device_ms / HOUR_MS for name, part in found.parts.items() if part.device_ms}
    # Two GPUs: 4 h + 2.4 h + 1.9 h of work, 12 min of start-up, half an hour lost, one failed.
    assert ms == {"results": 16.6, "start_up": 0.4, "preempted": 1.0, "program_failed": 2.0}
    money = {name: part.money for name, part in found.parts.items() if part.device_ms}
    assert money == {
        "results": {"CNY": 16_600_000_000},
        "start_up": {"CNY": 400_000_000},
        "preempted": {"CNY": NANO},
        "program_failed": {"CNY": 2 * NANO},
    }
    assert {name: part.n_attempts for name, part in found.parts.items() if part.n_attempts} == {
        "results": 3,
        "start_up": 2,
        "preempted": 1,
        "program_failed": 1,
    }
    assert found.money == {"CNY": 20 * NANO}
    assert (found.n_attempts, found.n_unpriced, found.n_gave_up) == (4, 0, 1)
    run, on_demand, in_series = found.as_run, found.on_demand, found.in_series
    assert (run.wall_s, run.device_h, run.cost, run.at_once) == (9 * HOUR, 20, {"CNY": 20}, 3)
    # From 10 to 14 h, and from 16 to 18 h: an hour in the queue, and two until it was requeued.
    assert found.idle_s == pytest.approx(3 * HOUR)
    assert found.is_since_submission
    # One start-up of trial 2: 4 h beside 2.4 + 1.9 + 0.1 h.
    assert on_demand.wall_s == pytest.approx(4.4 * HOUR)
    assert in_series.wall_s == pytest.approx(8.4 * HOUR)
    assert on_demand.device_h == in_series.device_h == pytest.approx(16.8)
    assert on_demand.cost["CNY"] == in_series.cost["CNY"] == pytest.approx(168)
    assert saved_money(run, on_demand) == pytest.approx(1 - 20 / 168)
    assert saved_time(run, on_demand) == pytest.approx(1 - 9 / 4.4)
    assert saved_time(run, in_series) == pytest.approx(1 - 9 / 8.4)


def test_way_table_small_sweep_says_what_is_measured_and_how():
    table = way_table(measure_economics(SWEEP, START_S - HOUR, NOW_S))
    assert table.title == "What it took, and what it would have taken"
    assert [list(row) for row in table.rows] == [
        ["how it is known", "measured", "extrapolated", "extrapolated"],
        ["wall time", "9.0 h", "4.4 h", "8.4 h"],
        ["GPU-hours", "20.00", "16.80", "16.80"],
        ["cost", "20.00 CNY", "168.00 CNY", "168.00 CNY"],
        ["cost saved as run", "", "88.1%", "88.1%"],
        ["time saved as run", "", "-104.5%", "-7.1%"],
        ["trials at once", "3", "3", "1"],
        ["trials with a result", "2 of 3", "", ""],
        ["success rate", "66.7%", "", ""],
    ]
    assert table.notes[0] == (
        "as run: measured, from the first submission (2026-01-01 09:00 UTC) to the last end "
        "(2026-01-01 18:00 UTC), 3.0 h of it with no trial running; all attempts count, lost work "
        "included."
    )


def test_part_table_small_sweep_adds_up():
    table = part_table(measure_economics(SWEEP, START_S, NOW_S))
    assert [list(row) for row in table.rows] == [
        ["in results", "3", "16.60", "83.0%", "16.60"],
        ["start-up, before the work", "2", "0.40", "2.0%", "0.40"],
        ["preempted, not saved", "1", "1.00", "5.0%", "1.00"],
        ["programs that failed", "1", "2.00", "10.0%", "2.00"],
        ["allocated in all", "4", "20.00", "100.0%", "20.00"],
    ]
    assert table.notes[0] == (
        "Goodput 83.0%; lost 17.0%; success rate 66.7%; 0.1 results per GPU-hour."
    )


def test_measure_economics_without_prices_is_unknown_and_never_nothing():
    bare = {"gpus": 1, "price_per_hour": 0.0, "currency": "", "partition": "a100"}
    found = measure_economics(
        [(trial(1, attempt(1, 0, 1, COMMITTED, resources=bare), winner=1), DONE)], None, NOW_S
    )
    assert (found.money, found.n_unpriced) == ({}, 1)
    assert found.on_demand.unknown_cost == (
        "no price on demand was known of partition a100 at submit; on_demand: in "
        "templates/partitions.yaml states it for what is submitted next"
    )
    cells = {row[0]: row[1:] for row in way_table(found).rows}
    assert cells["cost"] == ["unknown"] * 3
    assert cells["cost saved as run"] == ["", "unknown", "unknown"]
    assert [row[-1] for row in part_table(found).rows] == ["unknown", "unknown"]
    record = economics_record(found)
    assert record["ways"]["as_run"]["cost"] is None
    assert record["ways"]["on_demand"]["cost"] is None
    assert not found.is_since_submission


def test_measure_economics_of_some_attempts_without_a_price_says_how_many():
    bare = {"gpus": 2}
    pair = [
        (trial(1, attempt(1, 0, 1, COMMITTED), winner=1), DONE),
        (trial(2, attempt(1, 0, 1, COMMITTED, resources=bare), winner=1), DONE),
    ]
    found = measure_economics(pair, None, NOW_S)
    cells = {row[0]: row[1:] for row in way_table(found).rows}
    assert cells["cost"] == ["2.00 CNY + unknown", "unknown", "unknown"]
    assert "the price of 1 of 2 attempts was not known at submit." in part_table(found).notes


def test_measure_economics_several_currencies_are_never_added():
    euro = {**SPOT, "currency": "EUR", "price_per_hour": 3.0}
    pair = [
        (trial(1, attempt(1, 0, 1, COMMITTED), winner=1), DONE),
        (trial(2, attempt(1, 0, 1, COMMITTED, resources=euro), winner=1), DONE),
    ]
    found = measure_economics(pair, None, NOW_S)
    assert found.as_run.cost == {"CNY": 2, "EUR": 3}
    assert saved_money(found.as_run, found.on_demand) is None
    table = part_table(found)
    assert list(table.headers)[-2:] == ["CNY", "EUR"]
    assert list(table.rows[-1])[-2:] == ["2.00", "3.00"]
    assert {row[0]: row[1] for row in way_table(found).rows}["cost"] == "2.00 CNY + 3.00 EUR"


def test_measure_economics_running_sweep_says_so_far():
    started = attempt(1, 15, 0, None, None)._replace(wall_s=None)
    trials = [*SWEEP, (trial(4, started), RUNNING), (trial(5), TrialState.PENDING)]
    found = measure_economics(trials, START_S, NOW_S)
    assert found.is_so_far
    assert found.is_under_way
    assert found.as_run.wall_s == 20 * HOUR
    assert found.parts["unfinished"].device_ms == 10 * HOUR_MS
    table = way_table(found)
    assert table.title.endswith(", so far")
    assert "2 of 5 trials have not ended." in table.notes
    assert "to the present (2026-01-02 06:00 UTC)" in table.notes[0]


def test_measure_economics_before_anything_ran_knows_nothing():
    found = measure_economics([(trial(1), TrialState.PENDING)], START_S, NOW_S)
    assert found.as_run.wall_s is None
    assert found.on_demand.wall_s is None
    assert {row[0]: row[1:] for row in way_table(found).rows}["wall time"] == ["unknown"] * 3
    assert part_table(found).rows[-1][:4] == ("allocated in all", "0", "0.000", "-")


def test_measure_economics_trials_one_after_the_other_are_one_at_once():
    trials = [(trial(n, attempt(1, n, 1, COMMITTED), winner=1), DONE) for n in range(5)]
    found = measure_economics(trials, START_S, NOW_S)
    assert found.as_run.at_once == 1
    assert found.on_demand.wall_s == found.in_series.wall_s == 5 * HOUR


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "unknown"),
        (0.0, "0.0 s"),
        (59.9, "59.9 s"),
        (744, "12.4 min"),
        (2**30, "298,261.6 h"),
    ],
)
def test_show_duration(seconds, shown):
    assert show_duration(seconds) == shown


def test_show_money_of_small_change_keeps_digits():
    assert show_money({"CNY": 1234.5}) == "1,234.50 CNY"
    assert show_money({"CNY": 0.00129}) == "0.00129 CNY"
    assert show_money({"": 3}) == "3.00"
    assert show_money({}) == ""


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=8))
def test_show_parts_shown_numbers_add_up_to_the_shown_sum(parts):
    *shown, total = show_parts(parts, HOUR_MS, 1)
    scale = 10 ** len(total.partition(".")[2])
    whole = [round(float(text.replace(",", "")) * scale) for text in shown]
    assert sum(whole) == round(float(total.replace(",", "")) * scale)
    assert all(abs(w - part * scale / HOUR_MS) < 1 for w, part in zip(whole, parts, strict=True))


@given(st.integers(0, 10**18), st.lists(st.integers(0, 10**15), min_size=1, max_size=6))
def test_share_out_parts_add_up_and_are_in_proportion(total, weights):
    parts = share_out(total, weights)
    assert sum(parts) == total
    assert all(part >= 0 for part in parts)
    if sum(weights):
        wanted = [total * weight // sum(weights) for weight in weights]
        assert all(abs(part - want) <= 1 for part, want in zip(parts, wanted, strict=True))


moments = st.none() | st.floats(START_S - 1e5, START_S + 1e6)
prices = st.sampled_from([None, 0, 0.9, 7.2, 1e4, "x"])
resources = st.fixed_dictionaries(
    {"gpus": st.sampled_from([0, 1, 8, 0.3, "x"])},
    optional={
        "price_per_hour": prices,
        "currency": st.sampled_from(["CNY", "EUR", "", 3]),
        "on_demand_price_per_hour": prices,
        "on_demand_currency": st.sampled_from(["CNY", ""]),
    },
)
attempts = st.builds(
    Attempt,
    number=st.just(0),
    started_at=st.none() | st.just(START),
    # Records give times with their zone.
    ended_at=st.none()
    | st.timedeltas(timedelta(days=-1), timedelta(days=400)).map(lambda after: START + after),
    wall_s=st.none() | st.floats(0, 1e7),
    outcome=st.sampled_from([None, COMMITTED, PREEMPTED, FAILED, SUPERSEDED, REFUSED, "odd"]),
    exit_code=st.sampled_from([None, 0, 1, 75, -9, -15]),
    resources=resources,
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
    max_size=5,
)


@example([([Attempt(1, wall_s=0.0, is_estimate=True)], 1, TrialState.DONE)], None)
@settings(max_examples=200, deadline=None)
@given(sweeps, st.none() | st.floats(START_S - 1e6, START_S + 1e6))
def test_measure_economics_parts_add_up_to_what_collect_says(sweep, submitted_s):
    trials = []
    for number, (found, winner, state) in enumerate(sweep):
        numbered = [one._replace(number=n) for n, one in enumerate(found, start=1)]
        trials.append((trial(number, *numbered, winner=winner), state))
    economics = measure_economics(trials, submitted_s, NOW_S)
    assert list(economics.parts) == list(PARTS)
    goodput = measure_goodput(trials, NOW_S)
    assert {name: part.device_ms for name, part in economics.parts.items()} == goodput.parts_ms
    money: dict[str, int] = {}
    for part in economics.parts.values():
        for currency, amount in (part.money or {}).items():
            assert amount >= 0
            money[currency] = money.get(currency, 0) + amount
    assert money == economics.money
    usage = sum_usage(trial_usage(one.attempts, state, NOW_S) for one, state in trials)
    assert usage.cost.keys() == money.keys()
    for currency, amount in usage.cost.items():
        assert math.isclose(amount, money[currency] / NANO, rel_tol=1e-12, abs_tol=1e-6)
    assert sum(part.n_attempts for part in economics.parts.values()) >= economics.n_attempts
    assert sum(part.n_open for part in economics.parts.values()) == goodput.n_open
    assert economics.as_run.is_at_least == (goodput.n_open > 0) == usage.is_estimate
    for way in (economics.as_run, economics.on_demand, economics.in_series):
        assert way.wall_s is None or way.wall_s >= 0
    kept = economics.parts["results"].device_ms + economics.parts["unfinished"].device_ms
    most = kept + economics.parts["start_up"].device_ms
    assert (economics.on_demand.device_h or 0) <= most / HOUR_MS + 1e-6
    way_table(economics), part_table(economics), economics_record(economics)


# --- attempts that died without a word -----------------------------------------------------------


def killed(number, at_h, beat_s, **fields):
    """One that claimed at ``at_h`` and was seen alive ``beat_s`` later; its node died."""
    claimed = START_S + at_h * HOUR
    return Attempt(
        number,
        started_at=START + timedelta(hours=at_h),
        claimed_at=claimed,
        heartbeat_at=claimed + beat_s,
        resources=SPOT,
        **fields,
    )


# Killed twice: before any sign of life, and 36 s after it began; then it takes two hours.
KILLED = [
    (trial(1, killed(1, 0, 0.0), killed(2, 1, 36.0), attempt(3, 2, 2, COMMITTED), winner=3), DONE)
]


def test_measure_economics_attempt_killed_at_once_is_counted_and_not_nothing():
    found = measure_economics(KILLED, START_S, NOW_S)
    part = found.parts["killed"]
    assert (part.n_attempts, part.n_open, part.device_ms) == (2, 2, 2 * 36_000)
    assert found.as_run.is_at_least
    assert not found.on_demand.is_at_least
    assert not found.in_series.is_at_least
    # Each may have lived until the next one claimed the trial, an hour later; on two GPUs.
    assert found.open_at_most_ms == 2 * (3600 + 3564) * 1000
    assert sum(part.n_attempts for part in found.parts.values()) == found.n_attempts == 3
    record = economics_record(found)
    assert record["attempts_without_end"] == record["parts"]["killed"]["attempts_without_end"] == 2
    assert record["ways"]["as_run"]["is_at_least"] is True
    assert record["beyond_at_most_device_ms"] == found.open_at_most_ms


def test_cost_tables_of_killed_attempts_say_at_least():
    found = measure_economics(KILLED, START_S, NOW_S)
    rows = {row[0]: list(row[1:]) for row in part_table(found).rows}
    assert rows["killed or node failed, not saved"] == ["2", "≥ 0.020", "0.5%", "≥ 0.02"]
    assert rows["allocated in all"] == ["3", "≥ 4.020", "100.0%", "≥ 4.02"]
    assert rows["in results"] == ["1", "4.000", "99.5%", "4.00"]
    (note,) = [note for note in part_table(found).notes if note.startswith("≥")]
    assert note == (
        "≥: 2 attempts ended without a word and count up to their last sign of life: it was at "
        "least that, and at most 3.980 GPU-hours more, until the next began."
    )
    ways = {row[0]: list(row[1:]) for row in way_table(found).rows}
    assert ways["GPU-hours"] == ["≥ 4.020", "4.000", "4.000"]
    assert ways["cost"] == ["≥ 4.02 CNY", "40.00 CNY", "40.00 CNY"]
    assert ways["cost saved as run"] == ["", "≤ 90.0%", "≤ 90.0%"]
    assert any(note.startswith("≥, ≤: 2 attempts ended") for note in way_table(found).notes)


def test_cost_tables_of_a_trial_that_only_died_at_once_are_not_empty():
    """Nothing is known of it but that it began: a row with an attempt, not a sweep for nothing."""
    lost = [(trial(1, killed(1, 0, 0.0)), TrialState.LOST)]
    found = measure_economics(lost, START_S, NOW_S)
    assert found.open_at_most_ms is None, "nothing bounds it"
    rows = {row[0]: list(row[1:]) for row in part_table(found).rows}
    assert rows["killed or node failed, not saved"] == ["1", "unknown", "-", "unknown"]
    assert rows["allocated in all"][:2] == ["1", "unknown"]
    (note,) = [note for note in part_table(found).notes if note.startswith("≥")]
    assert note == (
        "≥: 1 attempt ended without a word and counts up to its last sign of life: it was at least "
        "that."
    )
    assert describe_goodput(found.goodput) == [note.removeprefix("≥: ")]


def test_goodput_of_killed_attempts_is_of_at_least_so_much():
    found = measure_goodput(KILLED, NOW_S)
    assert (found.n_open, found.is_estimate) == (2, True)
    lines = describe_goodput(found)
    assert lines[0].endswith("at most 99.5% of at least 4.020 GPU-hours is in results.")
    words = "2 attempts ended without a word and count up to their last sign of life: it was at "
    assert f"{words}least that." in lines

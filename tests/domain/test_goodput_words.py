"""The same figure has the same words and digits wherever it is shown."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.records import COMMITTED, FAILED
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost_tables import part_table
from orchestrator.domain.economics import LOST, measure_economics
from orchestrator.domain.goodput import KILLED, PARTS, RESULTS, Goodput
from orchestrator.domain.goodput_words import (
    describe_goodput,
    has_lost,
    lost_share,
    result_share,
    results_per_hour,
    show_shares,
)
from tests.domain.test_economics import NOW_S, START_S, attempt, killed, trial

DONE = TrialState.DONE


def _shares(table, lines):
    """Return the shares of the parts, as costs and as collect show them."""
    rows = {row[0]: row[3] for row in table.rows[:-1]}
    (first, *below) = [line for line in lines if "%" in line and "trials that ended" not in line]
    shown = {line.split(maxsplit=1)[1].strip(): line.split()[0] for line in below}
    shown["in results"] = next(word for word in first.split() if word.endswith("%"))
    return rows, shown


def test_collect_and_costs_show_the_same_share_of_each_part():
    """Rounded one by one they were 95.9, 4.0 and 0.0: together not 100, and in costs 4.1."""
    trials = [(trial(1, attempt(1, 0, 0.9597, COMMITTED), winner=1), DONE)]
    trials.append((trial(2, attempt(1, 0, 0.0403, FAILED, 1)), TrialState.FAILED))
    found = measure_economics(trials, START_S, NOW_S)
    rows, shown = _shares(part_table(found), describe_goodput(found.goodput))
    assert rows == shown
    (note,) = [note for note in part_table(found).notes if note.startswith("Goodput")]
    assert note.startswith(f"Goodput {rows['in results']}; lost {rows['programs that failed']}; ")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**7), min_size=8, max_size=8), st.integers(0, 3))
def test_shares_are_the_same_wherever_they_are_shown(parts, n_open):
    goodput = Goodput(
        dict(zip(PARTS, parts, strict=True)), 1, 0, n_open=n_open, is_estimate=n_open > 0
    )
    shares = show_shares(goodput)
    assert not shares or sum(Decimal(share[:-1]) for share in shares.values()) == 100
    if shares:
        lost = sum(Decimal(shares[name][:-1]) for name in LOST)
        assert lost_share(goodput).removeprefix("at least ") == f"{lost}%"
        assert has_lost(goodput) == (lost > 0)
        assert result_share(goodput).removeprefix("at most ") == shares["results"]


def test_trials_whose_node_just_died_show_the_same_in_collect_and_costs():
    """Until the next attempt begins nobody knows what was saved, nor what came after the beat."""
    waits = [(trial(1, killed(1, 0, 8.0)), TrialState.REQUEUED)]
    waits.append((trial(2, attempt(1, 0, 2, COMMITTED), winner=1), DONE))
    found = measure_economics(waits, START_S, NOW_S)
    rows, shown = _shares(part_table(found), describe_goodput(found.goodput))
    unknown = "killed or node failed, not saved"
    assert rows.pop(unknown) == "unknown"
    assert f"  unknown  {unknown}" in describe_goodput(found.goodput)
    assert rows == shown == {"in results": "99.9%", "in trials that are not finished": "0.1%"}


@pytest.mark.parametrize(
    ("open_in", "words"),
    [
        ({KILLED: 1}, ("at most 75.0%", "at least 25.0%")),
        ({RESULTS: 1}, ("about 75.0%", "about 25.0%")),
        ({RESULTS: 1, KILLED: 1}, ("about 75.0%", "about 25.0%")),
        ({}, ("75.0%", "25.0%")),
    ],
)
def test_time_that_nobody_knows_bounds_only_what_it_cannot_be_in(open_in, words):
    parts = dict.fromkeys(PARTS, 0) | {RESULTS: 75, KILLED: 25}
    n_open = sum(open_in.values())
    goodput = Goodput(parts, 1, 0, is_estimate=n_open > 0, n_open=n_open, open_in=open_in)
    assert (result_share(goodput), lost_share(goodput)) == words


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0.3797, "2.63"), (1 / 2632, "2,632"), (1 / 999.75, "1,000"), (20_000, "0.0000500")],
)
def test_results_per_hour_has_the_same_digits_everywhere(hours, words):
    trials = [(trial(1, attempt(1, 0, hours, COMMITTED, resources={"gpus": 1}), winner=1), DONE)]
    found = measure_economics(trials, START_S, NOW_S)
    said = results_per_hour(found.goodput)
    assert said == f"{words} results per GPU-hour"
    (note,) = [note for note in part_table(found).notes if note.startswith("Goodput")]
    assert said in note
    assert any(line.endswith(f"; {said}.") for line in describe_goodput(found.goodput))

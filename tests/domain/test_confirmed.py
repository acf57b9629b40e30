"""What runs on fresh seeds say of the first place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy import stats

from orchestrator.domain.confirmed import Confirmed, FreshRuns, Outcome, are_apart, compare
from orchestrator.domain.standing import Certainty

SEEDS = range(10000, 10005)


def runs(
    name: str, *values: float, n_open: int = 0, n_asked: int = 5, problem: str = ""
) -> FreshRuns:
    named = dict(zip(SEEDS, values, strict=False))
    return FreshRuns(name, f"{name}-aaaa", n_asked, n_open, named, problem)


def ranks(outcome: Outcome) -> list[tuple[str, int | None, int | None]]:
    return [(own.runs.key, own.rank, own.tie) for own in outcome.configurations]


A = runs("00001", 1.0, 1.1, 0.9, 1.0, 1.05)
NEAR_A = runs("00002", 1.1, 1.0, 1.0, 0.9, 1.1)
FAR = runs("00003", 3.0, 3.1, 2.9, 3.2, 3.0)


def judged(outcome: Outcome) -> tuple[Certainty, str]:
    assert outcome.standing is not None
    return outcome.standing.certainty, outcome.standing.words


def test_first_that_is_best_again_is_confirmed() -> None:
    outcome = compare([FAR, A], "maximize", ["00003"])
    assert ranks(outcome) == [("00003", 1, 1), ("00001", 2, 2)]
    certainty, words = judged(outcome)
    assert certainty is Certainty.CONFIRMED
    assert words == (
        "The first place is confirmed: on 5 fresh seeds, too, 00003 is best with 3.04 ± 0.14, and "
        "told apart from the others."
    )


def test_first_that_is_tied_for_the_best_is_confirmed_and_says_so() -> None:
    outcome = compare([NEAR_A, A, FAR], "minimize", ["00002"])
    assert ranks(outcome) == [("00001", 1, 1), ("00002", 2, 1), ("00003", 3, 3)]
    certainty, words = judged(outcome)
    assert certainty is Certainty.CONFIRMED
    assert "00002 is tied for the best, with 1.02 ± 0.1 against 1.01 ± 0.092 of 00001." in words
    assert "tied with 00002." in judged(compare([NEAR_A, A, FAR], "minimize", ["00001"]))[1]


def test_first_that_loses_is_overturned_and_the_new_winner_is_named() -> None:
    certainty, words = judged(compare([FAR, A, NEAR_A], "minimize", ["00003"]))
    assert certainty is Certainty.OVERTURNED
    assert words == (
        "The first place is overturned: on 5 fresh seeds 00001 is best with 1.01 ± 0.092, tied "
        "with 00002, and 00003, which came first, has 3.04 ± 0.14."
    )


def test_runs_that_have_not_ended_leave_it_provisional() -> None:
    outcome = compare([A, runs("00002", 1.0, n_open=4)], "minimize", ["00001"])
    words = "The first place is provisional: 6 of 10 runs on fresh seeds have ended."
    assert judged(outcome) == (Certainty.PROVISIONAL, words)
    assert ranks(outcome) == [("00001", 1, 1), ("00002", None, None)]


def test_configuration_that_lacks_a_value_is_never_above_complete_ones() -> None:
    partial = runs("00009", 0.1, 0.1, 0.1, 0.1, problem="failed")
    outcome = compare([partial, A], "minimize", ["00001"])
    assert ranks(outcome) == [("00001", 1, 1), ("00009", None, None)]
    assert judged(outcome)[1].endswith("; 00009 not compared, for want of runs.")
    certainty, words = judged(compare([partial, A], "minimize", ["00009"]))
    assert certainty is Certainty.PROVISIONAL
    assert words.endswith("only 4 of 5 runs of 00009 on fresh seeds have a value (failed).")


def test_configuration_that_diverged_has_no_mean_and_lacks_no_runs() -> None:
    diverged = replace(runs("00009", 0.1, 0.1, 0.1, 0.1, problem="it is nan"), has_diverged=True)
    outcome = compare([diverged, A], "minimize", ["00001"])
    assert ranks(outcome) == [("00001", 1, 1), ("00009", None, None)]
    assert judged(outcome)[1].endswith("; 00009 not compared, since a run diverged.")
    assert math.isnan(outcome.configurations[1].mean)


def test_first_that_is_not_among_them_is_not_judged() -> None:
    assert compare([A, FAR], "minimize", ["00042"]).standing is None
    assert compare([], "minimize", ["00042"]) == Outcome()


def test_first_places_that_are_exactly_equal_are_judged_by_the_best_of_them() -> None:
    assert judged(compare([FAR, A], "minimize", ["00003", "00001"]))[0] is Certainty.CONFIRMED


def test_equal_means_share_a_rank() -> None:
    outcome = compare([A, runs("00008", *A.values.values()), FAR], "minimize", ["00001"])
    assert [own.rank for own in outcome.configurations] == [1, 1, 3]


def test_means_and_intervals_are_those_of_scipy() -> None:
    (own,) = compare([FAR], "minimize", ["00003"]).configurations
    values = list(FAR.values.values())
    low, high = stats.t.interval(0.95, 4, loc=own.mean, scale=stats.sem(values))
    assert own == Confirmed(FAR, pytest.approx(3.04), pytest.approx((high - low) / 2), 1, 1)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.2, 3.1, 4.2, 5.1]),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [1.5, 1.8, 3.5, 3.9, 5.2]),
        ([0.3, 0.9], [0.5, 1.2]),
    ],
)
def test_apart_as_the_paired_t_test_says(left: Sequence[float], right: Sequence[float]) -> None:
    expected = stats.ttest_rel(left, right).pvalue < 0.05
    one, other = runs("1", *left), runs("2", *right)
    assert are_apart(one, other) == are_apart(other, one) == expected


def test_apart_needs_two_seeds_in_common() -> None:
    one, other = (
        FreshRuns("1", "1-a", 2, 0, {1: 1.0, 2: 1.0}),
        FreshRuns("2", "2-a", 1, 0, {1: 9.0}),
    )
    assert not are_apart(one, other)
    assert are_apart(one, FreshRuns("2", "2-a", 2, 0, {1: 9.0, 2: 9.0})), "no noise at all"
    assert not are_apart(one, FreshRuns("2", "2-a", 2, 0, {1: 1.0, 2: 1.0}))


def test_seeds_that_make_no_difference_are_warned_of() -> None:
    same = [runs(name, 1.0, 1.0, 1.0, 1.0, 1.0) for name in ("00001", "00002")]
    assert "it does not read the seed" in compare(same, "minimize", ["00001"]).warnings[0]
    assert compare([same[0], A], "minimize", ["00001"]).warnings == ()

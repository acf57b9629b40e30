"""The best so far is the first place of the leaderboard, found without a table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract.states import TrialState
from orchestrator.domain.best_so_far import Best, find_best
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import TrialFiles

VALUES = [-1.0, 0.0, 1, 1.5, "nan", "inf", "-inf", None, True, "0.1", 10**400, [1], "absent"]


def trial(number: int, value: Any, **params: Any) -> TrialFiles:
    metrics = {} if value == "absent" else {"loss": value}
    return TrialFiles(
        name=f"{number:05d}-aaaa",
        number=number,
        id="aaaa",
        params={"lr": number, **params},
        result={"metrics": metrics},
        is_committed=True,
        metrics=metrics,
    )


def done(trials: list[TrialFiles]) -> dict[str, TrialState]:
    return {files.name: TrialState.DONE for files in trials}


def first_places(
    trials: list[TrialFiles], states: dict[str, TrialState], summary: SweepSummary
) -> set[str]:
    frame = rank_trials(trials, states, {}, summary, 0.0).frame
    return set(frame.loc[(frame["rank"] == 1).fillna(False), "trial"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(VALUES), st.booleans()), max_size=8),
    st.sampled_from(["minimize", "maximize"]),
)
def test_best_agrees_with_the_leaderboard(found: list[tuple[Any, bool]], goal: str) -> None:
    summary = SweepSummary("s", "loss", goal, ("lr",))
    trials = [trial(number, value) for number, (value, _) in enumerate(found)]
    states = {
        files.name: TrialState.DONE if is_done else TrialState.RUNNING
        for files, (_, is_done) in zip(trials, found, strict=True)
    }
    best = find_best(trials, states, summary)
    places = first_places(trials, states, summary)
    assert (best.trial if best else None) == min(places, default=None)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.sampled_from(VALUES)] * 3), max_size=5),
    st.sampled_from(["minimize", "maximize"]),
)
def test_best_agrees_with_the_leaderboard_over_repeats(
    found: list[tuple[Any, ...]], goal: str
) -> None:
    summary = SweepSummary("s", "loss", goal, ("lr", "seed"), seeded=True)
    trials = [
        trial(3 * group + seed, value, lr=group, seed=seed)
        for group, values in enumerate(found)
        for seed, value in enumerate(values)
    ]
    states = done(trials)
    best = find_best(trials, states, summary)
    places = first_places(trials, states, summary)
    assert (best.trial if best else None) == min(places, default=None)


def test_partial_configuration_does_not_beat_a_complete_one() -> None:
    summary = SweepSummary("s", "loss", "minimize", ("lr", "seed"), seeded=True)
    trials = [
        trial(0, 0.1, lr=1, seed=0),
        trial(1, 9.9, lr=1, seed=1),
        trial(2, 1.0, lr=2, seed=0),
        trial(3, 2.0, lr=2, seed=1),
    ]
    states = {**done(trials), trials[1].name: TrialState.RUNNING}
    best = find_best(trials, states, summary)
    assert best == Best("00002-aaaa", 1.5, {"lr": 2, "seed": 0}, 2, 2)
    states[trials[3].name] = TrialState.PENDING
    assert find_best(trials, states, summary) == Best("00000-aaaa", 0.1, {"lr": 1, "seed": 0}, 1, 2)


@pytest.mark.parametrize("metric", [None, "other"])
def test_nothing_is_best_without_an_objective(metric: str | None) -> None:
    trials = [trial(1, 0.5)]
    assert find_best(trials, done(trials), SweepSummary("s", metric)) is None

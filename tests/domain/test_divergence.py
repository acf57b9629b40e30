"""A seed that diverged is a result, however the program told it; a missing one is none."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.records import COMMITTED, FAILED
from orchestrator.contract.states import TrialState
from orchestrator.domain.best_so_far import find_best
from orchestrator.domain.leaderboard import Leaderboard, rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import Attempt, TrialFiles

SUMMARY = SweepSummary("s", "loss", "minimize", ("lr", "seed"), seeded=True)
DONE, STATES = TrialState.DONE, TrialState
DIVERGED = Attempt(1, outcome=FAILED, exit_code=65, kind="non_finite", cause="exit code 65")
BROKE = Attempt(1, outcome=FAILED, exit_code=1, kind="error", cause="it broke")


def repeat(number: int, lr: int, metrics: dict[str, Any], *attempts: Attempt) -> TrialFiles:
    attempts = attempts or (Attempt(1, outcome=COMMITTED, exit_code=0),)
    is_done = attempts[-1].outcome == COMMITTED
    return TrialFiles(
        f"{number:05d}-aaaa",
        number,
        "aaaa",
        {"lr": lr, "seed": number % 3},
        {"metrics": metrics} if is_done else None,
        is_done,
        attempts,
        metrics,
    )


def rank_with(odd: TrialFiles, state: TrialState) -> tuple[Leaderboard, str | None]:
    """Rank a configuration of one odd repeat and two good ones, and a worse one beside it."""
    good = [repeat(1, 1, {"loss": 0.1}), repeat(2, 1, {"loss": 0.2})]
    trials = [odd, *good, *(repeat(3 + seed, 2, {"loss": 5.0 + seed}) for seed in range(3))]
    states = {trial.name: DONE for trial in trials} | {odd.name: state}
    best = find_best(trials, states, SUMMARY)
    return rank_trials(trials, states, {}, SUMMARY, 0.0), best and best.trial


@pytest.mark.parametrize(
    ("metrics", "attempt", "state", "how"),
    [
        ({"loss": "nan"}, (), DONE, "loss is nan"),
        ({"loss": 1e400}, (), DONE, "loss is inf"),
        ({"loss": 10**400}, (), DONE, "loss is inf"),
        ({"loss": "nan"}, (DIVERGED,), STATES.FAILED, "loss is nan"),
        ({}, (DIVERGED,), STATES.FAILED, "diverged"),
        ({"loss": 3.0}, (DIVERGED,), STATES.FAILED, "diverged"),
        ({"loss": "-inf"}, (BROKE,), STATES.FAILED, "loss is -inf"),
        ({"loss": "nan"}, (Attempt(1),), STATES.CANCELLED, "loss is nan"),
    ],
)
def test_repeat_that_diverged_takes_the_rank_of_its_configuration(
    metrics: dict[str, Any], attempt: tuple[Attempt, ...], state: TrialState, how: str
) -> None:
    board, best = rank_with(repeat(0, 1, metrics, *attempt), state)
    assert board.table["rank"].cells == [1, 1, 1, None, None, None]
    assert board.table["trial"].cells[0] == best == "00003-aaaa"
    notes = dict(zip(board.table["trial"].cells, board.table["note"].cells, strict=True))
    assert notes["00001-aaaa"] == notes["00002-aaaa"] == f"its repeat 00000-aaaa: {how}"
    # Its two good repeats would come first, and nothing says so.
    assert "would come first" not in board.standing.words


@pytest.mark.parametrize(
    ("metrics", "attempt", "state"),
    [
        ({}, (), DONE),
        ({"loss": "low"}, (), DONE),
        ({"loss": [0.1]}, (), DONE),
        ({"loss": True}, (), DONE),
        ({"loss": 0.1}, (BROKE,), STATES.FAILED),
        ({}, (Attempt(1),), STATES.LOST),
        ({"loss": "nan"}, (Attempt(1),), STATES.RUNNING),
        ({"loss": "nan"}, (DIVERGED,), STATES.PENDING),
    ],
)
def test_repeat_that_is_missing_leaves_its_configuration_partial(
    metrics: dict[str, Any], attempt: tuple[Attempt, ...], state: TrialState
) -> None:
    board, best = rank_with(repeat(0, 1, metrics, *attempt), state)
    assert board.table["rank"].cells == [1, 1, 1, 2, 2, None]
    assert board.table["partial"].cells[3:5] == ["2 of 3 repeats"] * 2
    assert board.table["trial"].cells[0] == best == "00003-aaaa"
    assert "00001 would come first with 2 of its 3 repeats" in board.standing.words


def test_single_trials_are_ranked_as_before() -> None:
    trials = [repeat(0, 1, {"loss": "nan"}), repeat(1, 1, {"loss": 0.1})]
    alone = SweepSummary("s", "loss", "minimize", ("lr", "seed"))
    board = rank_trials(trials, {}, {}, alone, 0.0)
    assert board.table["rank"].cells == [1, None]
    assert board.unfit == {}

"""Runs on fresh seeds in a leaderboard: beside its ranks, and never in them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.contract.records import FAILED
from orchestrator.contract.states import TrialState
from orchestrator.domain.confirmed import spell
from orchestrator.domain.confirmed_board import CONFIRMED_COLUMNS, add_confirmed
from orchestrator.domain.fresh_trials import NOTHING, Confirmation, FreshTrial
from orchestrator.domain.leaderboard import Leaderboard, rank_trials
from orchestrator.domain.standing import Certainty
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.domain.trials import trial_id

SEEDED = SweepSummary("demo", "loss", "minimize", ("a", "seed"), seeded=True)
FRESH = (10000, 10001)


def trial(number: int, a: int, seed: int, loss: float | None, **metrics: Any) -> TrialFiles:
    params = {"a": a, "seed": seed}
    reported = metrics if loss is None else {"loss": loss, **metrics}
    return TrialFiles(
        name=f"{number:05d}-{trial_id(params)}",
        number=number,
        id=trial_id(params),
        params=params,
        result={"metrics": reported},
        is_committed=True,
        metrics=reported,
    )


def asked(*of: TrialFiles) -> Confirmation:
    trials = [
        FreshTrial(one.name, seed, {**(one.params or {}), "seed": seed})
        for one in of
        for seed in FRESH
    ]
    return Confirmation(seeds=FRESH, top=len(of), trials=tuple(trials))


def ranked(
    trials: list[TrialFiles],
    confirmation: Confirmation,
    states: dict[str, TrialState] | None = None,
    summary: SweepSummary = SEEDED,
) -> Leaderboard:
    states = states or {}
    fresh = confirmation.by_id
    board = rank_trials(trials, states, {}, summary, 0.0, fresh=fresh, differs=confirmation.differs)
    return add_confirmed(board, confirmation, trials, states)


def column(board: Leaderboard, name: str) -> dict[int, Any]:
    """Return a column by the trial's number."""
    cells = board.frame[name].to_numpy(dtype=object, na_value=None).tolist()
    numbers = [int(str(trial).partition("-")[0]) for trial in board.frame["trial"]]
    return dict(zip(numbers, cells, strict=True))


OWN = [trial(0, 1, 0, 0.5), trial(1, 1, 1, 0.7), trial(2, 2, 0, 0.9), trial(3, 2, 1, 1.1)]
LUCKY = asked(OWN[0], OWN[2])


def test_fresh_runs_change_no_rank_mean_or_count() -> None:
    before = ranked(OWN, NOTHING)
    fresh = [trial(4, 1, 10000, 9.0), trial(5, 1, 10001, 9.1), trial(6, 2, 10000, 0.1)]
    board = ranked([*OWN, *fresh], LUCKY)
    for name in ("rank", "loss_mean", "loss_ci95_low", "repeats_done", "repeats"):
        new = column(board, name)
        assert {number: new[number] for number in range(4)} == column(before, name), name
    assert {column(board, "rank")[number] for number in (4, 5, 6)} == {None}
    assert (board.n_ranked, board.leads) == (before.n_ranked, before.leads)


def test_columns_stand_in_every_row_of_a_configuration() -> None:
    fresh = [trial(4, 1, 10000, 9.0), trial(5, 1, 10001, 9.2), trial(6, 2, 10000, 0.1)]
    fresh.append(trial(7, 2, 10001, 0.3))
    board = ranked([*OWN, trial(8, 3, 0, 2.0), *fresh], LUCKY)
    assert column(board, "confirmed_rank") == {
        **dict.fromkeys((0, 1, 4, 5), 2),
        **dict.fromkeys((2, 3, 6, 7), 1),
        8: None,
    }
    means = column(board, "confirmed_mean")
    assert (means[0], means[2]) == (9.1, 0.2)
    assert column(board, "confirmed_n")[8] is None
    assert column(board, "note")[6] == "fresh seed, to confirm 00002"
    assert board.standing.certainty is Certainty.OVERTURNED
    columns = list(board.frame.columns)
    at = columns.index("repeats") + 1
    assert tuple(columns[at : at + len(CONFIRMED_COLUMNS)]) == CONFIRMED_COLUMNS


def test_fresh_run_without_a_finite_value_leaves_its_configuration_unranked() -> None:
    for value in (math.nan, math.inf, None):
        fresh = [trial(4, 1, 10000, value, other=1), trial(5, 1, 10001, 0.5)]
        fresh += [trial(6, 2, 10000, 0.9), trial(7, 2, 10001, 0.9)]
        board = ranked([*OWN, *fresh], LUCKY)
        assert column(board, "confirmed_rank")[0] is None
        assert board.standing.certainty is Certainty.PROVISIONAL
        assert "only 1 of 2 runs of 00000 on fresh seeds have a value" in board.standing.words


DIVERGED = Attempt(1, outcome=FAILED, exit_code=65, kind="non_finite", cause="exit code 65")


@pytest.mark.parametrize(
    ("value", "attempts", "how"),
    [
        (math.nan, (), "loss is nan"),
        (0.4, (DIVERGED,), "diverged"),
        (None, (DIVERGED,), "diverged"),
    ],
)
def test_fresh_run_that_diverged_leaves_no_mean_however_it_was_told(
    value: float | None, attempts: tuple[Attempt, ...], how: str
) -> None:
    odd = trial(4, 1, 10000, value)
    if attempts:
        odd = odd._replace(result=None, is_committed=False, attempts=attempts)
    states = {odd.name: TrialState.FAILED if attempts else TrialState.DONE}
    fresh = [trial(5, 1, 10001, 0.1), trial(6, 2, 10000, 0.9), trial(7, 2, 10001, 0.9)]
    board = ranked([*OWN, odd, *fresh], LUCKY, states)
    cells = [column(board, f"confirmed_{name}")[0] for name in ("rank", "mean", "ci95_low", "n")]
    assert cells == [None, None, None, 1], "of the good one alone it would be the best"
    assert f"of 00000 on fresh seeds have a value ({odd.name}: {how})" in board.standing.words
    others = ranked([*OWN, odd, *fresh], asked(OWN[2], OWN[0]), states).outcome.configurations
    assert [(spell(own), own.rank) for own in others] == [("0.9 ± 0", 1), ("diverged", None)]


def test_fresh_runs_that_are_not_there_yet_count_as_open() -> None:
    board = ranked([*OWN, trial(4, 1, 10000, 0.5)], LUCKY)
    assert board.standing.words == (
        "The first place is provisional: 1 of 4 runs on fresh seeds have ended."
    )
    running = trial(5, 1, 10001, 0.4)
    states = {running.name: TrialState.RUNNING}
    assert (
        "1 of 4" in ranked([*OWN, trial(4, 1, 10000, 0.5), running], LUCKY, states).standing.words
    )


def test_first_place_that_is_not_among_them_says_so() -> None:
    board = ranked(OWN, asked(OWN[2]))
    assert board.standing.words.endswith("are of others: make confirm adds it.")
    assert board.standing.certainty is not Certainty.CONFIRMED


def test_first_place_whose_parameters_cannot_be_read_is_confirmed_by_nothing() -> None:
    single = SweepSummary("demo", "loss", "minimize", ("a",))
    unknown = trial(9, 9, 9, 0.1)._replace(params=None)
    board = ranked([OWN[0], unknown], asked(OWN[0]), summary=single)
    assert column(board, "rank") == {9: 1, 0: 2}
    assert board.standing.certainty is Certainty.PROVISIONAL


def test_configuration_that_is_not_on_the_board_overturns_nothing() -> None:
    fresh = [trial(4, 1, 10000, 9.0), trial(5, 1, 10001, 9.2)]
    fresh += [trial(6, 2, 10000, 0.1), trial(7, 2, 10001, 0.3)]
    whole = [*OWN, *fresh]
    assert ranked(whole, LUCKY).standing.certainty is Certainty.OVERTURNED
    some = rank_trials([*OWN[:2], *fresh], {}, {}, SEEDED, 0.0, fresh=LUCKY.by_id)
    board = add_confirmed(some, LUCKY, whole, {})
    assert board.standing.certainty is Certainty.CONFIRMED
    assert column(board, "confirmed_rank") == {**dict.fromkeys((0, 1, 4, 5), 1), 6: None, 7: None}


def test_metric_of_a_column_s_name_keeps_its_values() -> None:
    board = ranked([*OWN, trial(4, 1, 10000, 0.5, confirmed_rank=7)], LUCKY)
    assert column(board, "metric.confirmed_rank")[4] == 7
    assert column(board, "confirmed_rank")[4] is None
    assert "metric.confirmed_rank" in board.metrics


def test_sweep_of_single_runs_is_confirmed_too() -> None:
    single = SweepSummary("demo", "loss", "minimize", ("a",))
    fresh = [trial(4, 1, 10000, 0.5), trial(5, 1, 10001, 0.6)]
    fresh += [trial(6, 2, 10000, 0.9), trial(7, 2, 10001, 1.0)]
    board = ranked([OWN[0], OWN[2], *fresh], LUCKY, summary=single)
    assert column(board, "rank") == {0: 1, 2: 2, 4: None, 5: None, 6: None, 7: None}
    assert column(board, "confirmed_rank") == {0: 1, 2: 2, 4: 1, 5: 1, 6: 2, 7: 2}
    assert board.standing.certainty is Certainty.CONFIRMED


def test_without_a_confirmation_the_board_is_as_it_was() -> None:
    board = ranked(OWN, NOTHING)
    assert not set(CONFIRMED_COLUMNS) & set(board.frame.columns)
    assert board.outcome.configurations == ()

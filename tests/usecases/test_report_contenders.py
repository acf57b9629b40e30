"""What the report says of the best: chosen by its own runs, and measured again on fresh seeds."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.adapters.report_table import describe_table
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import TrialState
from orchestrator.domain.fresh_trials import NOTHING
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.report_document import Contender, ShownValue
from orchestrator.domain.report_methods import describe_methods
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.usecases.report_contenders import describe_best, fresh_table, tied_table
from tests.domain.test_confirmed_board import asked, ranked, trial

HALF = "±\u00a095\u00a0%"
SWEEP = SweepPaths("/nowhere/results/demo")
# Configuration 1 comes first, tied with 2; 3 is apart.
OWN = [trial(0, 1, 0, 0.5), trial(1, 1, 1, 0.7), trial(2, 2, 0, 0.6), trial(3, 2, 1, 0.8)]
APART = [trial(4, 3, 0, 90.0), trial(5, 3, 1, 90.1)]
FRESH = [trial(6, 1, 10000, 0.8), trial(7, 1, 10001, 0.9), trial(8, 2, 10000, 0.75)]


def board(*more: TrialFiles, states: dict[str, TrialState] | None = None) -> Leaderboard:
    return ranked([*OWN, *APART, *FRESH, *more], asked(OWN[0], OWN[2]), states)


def best(found: Leaderboard) -> Contender:
    contender = describe_best(found, SWEEP, "")
    assert contender is not None
    return contender


def texts(values: Any) -> dict[str, str]:
    return {value.name: value.text for value in values}


def test_best_has_what_it_came_to_on_fresh_seeds_beside_what_chose_it() -> None:
    found = best(board(trial(9, 2, 10001, 0.86)))
    assert texts(found.scores) == {
        "loss_mean": "0.6",
        "95 % interval of it": "-0.67062 to 1.87062",
        "repeats done": "2 of 2",
    }
    half = 12.706204736432095 * 0.05  # Student's t of one degree of freedom, times s / sqrt(2)
    assert texts(found.fresh) == {
        "mean of loss": "0.85",
        "95 % interval of it": f"{0.85 - half:.6g} to {0.85 + half:.6g}",
        "rank": "2 of 2, tied with 1",
        "runs done": "2 of 2",
    }
    mean = next(value for value in found.fresh if value.name == "mean of loss")
    assert float(mean.full) == 0.85


def test_best_without_all_fresh_runs_has_a_mean_and_no_rank() -> None:
    failed = trial(9, 2, 10001, None)
    states = {FRESH[1].name: TrialState.FAILED, failed.name: TrialState.FAILED}
    found = board(failed, states=states)
    assert texts(best(found).fresh) == {"mean of loss": "0.8", "runs done": "1 of 2"}
    table = fresh_table(found)
    assert table is not None
    assert [list(row[:5]) for row in table.rows] == [
        ["", "", "0.8", "", "1 of 2"],
        ["", "", "0.75", "", "1 of 2"],
    ]
    assert "00002 has no rank here for want of runs: failed." in table.notes


def test_best_with_a_fresh_run_that_diverged_has_no_mean() -> None:
    odd = trial(7, 1, 10001, math.nan)
    found = ranked([*OWN, *APART, FRESH[0], odd, FRESH[2]], asked(OWN[0], OWN[2]))
    assert "mean of loss" not in texts(best(found).fresh)
    table = fresh_table(found)
    assert table is not None
    note = f"00000 has no rank here, since a run diverged: {odd.name}: loss is nan."
    assert note in table.notes


def test_fresh_table_has_every_configuration_that_ran_there_the_best_first() -> None:
    table = fresh_table(board(trial(9, 2, 10001, 0.86)))
    assert table is not None
    assert table.title == "On fresh seeds: 2 configurations, 2 runs each"
    assert list(zip(table.headers, *table.rows, strict=True)) == [
        ("rank", "1", "2"),
        ("tie", "1", "1"),
        ("mean", "0.805", "0.85"),
        (HALF, "0.7", "0.64"),
        ("runs", "2", "2"),
        ("rank before", "2", "1"),
        ("trial", OWN[2].name, OWN[0].name),
        ("loss_mean before", "0.7", "0.6"),
        ("a", "2", "1"),
    ]


def test_tied_table_has_fresh_means_beside_the_first_ones() -> None:
    table = tied_table(board(trial(9, 2, 10001, 0.86)))
    assert table is not None
    assert list(zip(table.headers, *table.rows, strict=True)) == [
        ("rank", "2"),
        ("trial", OWN[2].name),
        ("loss_mean", "0.7"),
        (HALF, "1.3"),
        ("fresh rank", "1"),
        ("fresh mean", "0.805"),
        (f"fresh {HALF}", "0.7"),
        ("fresh runs", "2"),
        ("a", "2"),
    ]


def test_without_a_confirmation_nothing_is_said_of_fresh_seeds() -> None:
    found = ranked([*OWN, *APART], NOTHING)
    assert (best(found).fresh, fresh_table(found)) == ([], None)
    table = tied_table(found)
    assert table is not None
    assert list(table.headers) == ["rank", "trial", "loss_mean", HALF, "a"]
    assert any("make confirm measures it again" in text for text in describe_methods(found))


def test_partial_configuration_that_is_tied_says_so() -> None:
    partial = [trial(4, 3, 0, 0.7), trial(5, 3, 1, 0.71), trial(6, 3, 2, None)]
    whole = [trial(number, a, seed, 0.5 + seed / 5) for number, a, seed in
             ((0, 1, 0), (1, 1, 1), (2, 1, 2))]  # fmt: skip
    states = {partial[2].name: TrialState.FAILED}
    table = tied_table(ranked([*whole, *partial], NOTHING, states))
    assert table is not None
    assert dict(zip(table.headers, table.rows[0], strict=True))["partial"] == "2 of 3 repeats"


def test_configuration_whose_first_repeat_failed_keeps_its_fresh_runs() -> None:
    own = [trial(0, 1, 0, None), trial(1, 1, 1, 0.7), *OWN[2:]]
    fresh = [*FRESH, trial(9, 2, 10001, 0.86)]
    states = {own[0].name: TrialState.FAILED}
    table = fresh_table(ranked([*own, *fresh], asked(own[1], OWN[2]), states))
    assert table is not None
    cells = dict(zip(table.headers, zip(*table.rows, strict=True), strict=True))
    assert cells["trial"] == (OWN[2].name, own[1].name)


def test_table_shows_fresh_columns_at_first() -> None:
    columns = {
        column["name"]: column
        for column in describe_table(board(trial(9, 2, 10001, math.nan)))["columns"]
    }
    for name in ("confirmed_mean", "confirmed_ci95_low", "confirmed_ci95_high"):
        assert (columns[name]["shown"], columns[name]["role"]) == (True, "score"), name
    assert columns["confirmed_rank"]["shown"]
    assert columns["confirmed_n"]["shown"]
    assert not columns["confirmed_tie"]["shown"]


def test_methods_say_how_fresh_runs_count() -> None:
    words = describe_methods(board(trial(9, 2, 10001, 0.86)))
    assert any("Runs on fresh seeds have no rank and are in no mean" in text for text in words)
    assert not any("make confirm measures it again" in text for text in words)


def test_values_are_shown_short_and_kept_whole() -> None:
    found = ranked([trial(0, 1, 0, 1 / 3), trial(1, 1, 1, 1 / 3)], NOTHING)
    assert best(found).scores[0] == ShownValue("loss_mean", "0.333333", repr(1 / 3))


def test_fresh_table_names_no_seed_of_the_runs_that_chose() -> None:
    plain = SweepSummary("demo", "loss", "minimize", ("a", "seed"))
    own = [trial(0, 1, 7, 0.5), trial(1, 2, 7, 0.6)]
    fresh = [trial(2, 1, 10000, 0.5), trial(3, 1, 10001, 0.6)]
    found = ranked([*own, *fresh], asked(own[0]), summary=plain)
    table = fresh_table(found)
    assert table is not None
    assert table.headers[-3:] == ["trial", "loss before", "a"]


def test_further_objectives_over_repeats_are_means_too() -> None:
    both = SweepSummary(
        "demo", "loss", "minimize", ("a", "seed"), seeded=True,
        more_objectives=(("acc", "maximize"),),
    )  # fmt: skip
    own = [trial(0, 1, 0, 0.5, acc=0.9), trial(1, 1, 1, 0.7, acc=0.7)]
    own += [trial(2, 2, 0, 0.6, acc=0.5), trial(3, 2, 1, 0.8, acc=0.6)]
    found = ranked(own, NOTHING, summary=both)
    assert texts(best(found).scores)["acc_mean"] == "0.8"
    table = tied_table(found)
    assert table is not None
    assert dict(zip(table.headers, table.rows[0], strict=True))["acc_mean"] == "0.55"

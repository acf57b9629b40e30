import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrator.adapters.leaderboard_table import render_leaderboard
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.states import TrialState
from orchestrator.domain import leaderboard, named_columns
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.standing import Certainty
from orchestrator.domain.sweep_summary import SweepSummary, parse_summary
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.domain.typed_columns import MISSING

LOSS = SweepSummary("demo", "loss", "minimize", ("lr",))
SEEDED = SweepSummary("demo", "loss", "minimize", ("lr", "seed"), seeded=True)


def trial(number, loss=MISSING, params=None, metrics=None, **fields):
    """Make a finished trial, or one without a result if neither loss nor metrics is given."""
    if metrics is None and loss is not MISSING:
        metrics = {"loss": loss}
    return TrialFiles(
        name=f"{number:05d}-aaaa",
        number=number,
        id="aaaa",
        params={"lr": number} if params is None else params,
        result=None if metrics is None else {"metrics": metrics},
        is_committed=metrics is not None,
        metrics=metrics or {},
        **fields,
    )


def rank(trials, summary=LOSS, states=None, reasons=None):
    return rank_trials(trials, states or {}, reasons or {}, summary, 0.0)


def ranks(board):
    """Return (rank, number) of every row, None where there is no rank."""
    numbers = [int(name.partition("-")[0]) for name in board.frame["trial"]]
    return list(zip(column(board, "rank"), numbers, strict=True))


def column(board, name):
    return board.frame[name].to_numpy(dtype=object, na_value=None).tolist()


# --- ranking ---


def test_rank_trials_minimize_puts_the_smallest_first():
    board = rank([trial(1, 0.5), trial(2, -3.0), trial(3, 7)])
    assert ranks(board) == [(1, 2), (2, 1), (3, 3)]


def test_rank_trials_maximize_puts_the_largest_first():
    board = rank(
        [trial(1, 0.5), trial(2, -3.0), trial(3, 7)], SweepSummary("d", "loss", "maximize")
    )
    assert ranks(board) == [(1, 3), (2, 1), (3, 2)]


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_rank_trials_ties_share_a_rank_and_skip_the_next(goal):
    board = rank(
        [trial(4, 1.0), trial(3, 1), trial(2, 1.0), trial(1, 5.0), trial(5, 5.0)],
        SweepSummary("d", "loss", goal),
    )
    low, high = [(1, 2), (1, 3), (1, 4)], [(4, 1), (4, 5)]
    expected = low + high if goal == "minimize" else [(1, 1), (1, 5), (3, 2), (3, 3), (3, 4)]
    assert ranks(board) == expected


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_rank_trials_objective_that_is_no_finite_number_never_wins(goal):
    trials = [
        trial(1, "inf"),
        trial(2, "-inf"),
        trial(3, "nan"),
        trial(4, math.inf),
        trial(5, -math.inf),
        trial(6, math.nan),
        trial(7, 10**400),
        trial(8, True),
        trial(9, "0.1"),
        trial(10, None),
        trial(11, [0.1]),
        trial(12, metrics={"acc": 1, "f1": 2}),
        trial(13, metrics={}),
        trial(14, 1.0),
    ]
    board = rank(trials, SweepSummary("d", "loss", goal))
    assert ranks(board) == [(1, 14)] + [(None, number) for number in range(1, 14)]
    assert column(board, "note") == [
        None,
        "loss is inf",
        "loss is -inf",
        "loss is nan",
        "loss is inf",
        "loss is -inf",
        "loss is nan",
        "loss is inf",
        "loss is 'true', not a number",
        "loss is '0.1', not a number",
        "loss is 'null', not a number",
        "loss is '[0.1]', not a number",
        "no metric 'loss' in the result; it has acc, f1",
        "no metric 'loss' in the result",
    ]


def test_rank_trials_others_stand_below_with_state_and_reason():
    states = {
        1: TrialState.NEW, 2: TrialState.PENDING, 3: TrialState.REQUEUED, 4: TrialState.RUNNING,
        5: TrialState.CANCELLED, 6: TrialState.INTERRUPTED, 7: TrialState.UNKNOWN,
        8: TrialState.LOST, 9: TrialState.FAILED, 10: TrialState.DONE, 11: TrialState.DONE,
        12: TrialState.FAILED,
    }  # fmt: skip
    trials = [trial(number) for number in range(1, 10)]
    trials += [trial(10, 3.0), trial(11, "nan")]
    trials.append(trial(12, attempts=(Attempt(1, cause="exit code 1: \x1b[31mboom\nx"),)))
    names = {one.number: one.name for one in trials}
    board = rank(
        trials,
        states={names[number]: state for number, state in states.items()},
        reasons={names[8]: "not in the queue", names[9]: "out of memory"},
    )
    table = list(
        zip(column(board, "trial"), column(board, "state"), column(board, "note"), strict=True)
    )
    assert table == [
        ("00010-aaaa", "done", None),
        ("00011-aaaa", "done", "loss is nan"),
        ("00009-aaaa", "failed", "out of memory"),
        ("00012-aaaa", "failed", "exit code 1: boom x"),
        ("00008-aaaa", "lost", "not in the queue"),
        ("00007-aaaa", "unknown", None),
        ("00006-aaaa", "interrupted", None),
        ("00005-aaaa", "cancelled", None),
        ("00004-aaaa", "running", None),
        ("00003-aaaa", "requeued", None),
        ("00002-aaaa", "pending", None),
        ("00001-aaaa", "new", None),
    ]
    assert board.n_ranked == 1
    assert board.counts == {
        TrialState.NEW: 1, TrialState.PENDING: 1, TrialState.RUNNING: 1, TrialState.REQUEUED: 1,
        TrialState.DONE: 2, TrialState.FAILED: 2, TrialState.INTERRUPTED: 1, TrialState.LOST: 1,
        TrialState.CANCELLED: 1, TrialState.UNKNOWN: 1,
    }  # fmt: skip


def test_rank_trials_every_state_has_its_place_below():
    assert set(leaderboard._BELOW) == set(TrialState)


def test_rank_trials_running_with_a_fine_loss_so_far_has_no_rank():
    live = trial(1)._replace(metrics={"loss": 0.0})
    board = rank([live, trial(2, 1.0)], states={live.name: TrialState.RUNNING})
    assert ranks(board) == [(1, 2), (None, 1)]
    assert column(board, "loss") == [1.0, 0.0]


def test_rank_trials_result_that_cannot_be_read_has_no_rank():
    broken = trial(1, problems=("result.json: empty",))._replace(is_committed=True)
    board = rank([broken], states={broken.name: TrialState.DONE})
    assert ranks(board) == [(None, 1)]
    assert column(board, "note") == ["no result that can be read; result.json: empty"]


def test_rank_trials_without_metric_ranks_nothing():
    board = rank([trial(2, 1.0), trial(1, 2.0)], SweepSummary("d", None))
    assert ranks(board) == [(None, 1), (None, 2)]
    assert (board.objective, board.leads, column(board, "loss")) == (None, (), [2.0, 1.0])


def test_rank_trials_none_gives_an_empty_table_with_columns():
    board = rank([])
    assert list(board.frame.columns) == [
        "rank", "trial", "state", "loss", "attempts", "gpu_hours", "cost", "currency", "node",
        "note",
    ]  # fmt: skip
    assert (len(board.frame), board.n_ranked, board.counts) == (0, 0, {})


def test_rank_trials_one_trial_wins():
    assert ranks(rank([trial(7, 1e308)])) == [(1, 7)]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3)),
        max_size=12,
    ),
    st.sampled_from(["minimize", "maximize"]),
    st.randoms(),
)
def test_rank_trials_any_objectives_in_any_order_give_the_same_sound_table(values, goal, rng):
    summary = SweepSummary("d", "loss", goal)
    trials = [trial(number, value) for number, value in enumerate(values)]
    board = rank(trials, summary)
    shuffled = list(trials)
    rng.shuffle(shuffled)
    pd.testing.assert_frame_equal(rank(shuffled, summary).frame, board.frame)
    found = ranks(board)
    assert sorted(number for _, number in found) == list(range(len(values)))
    ranked = [(r, float(values[number])) for r, number in found if r is not None]
    assert all(math.isfinite(value) for _, value in ranked)
    better = (lambda a, b: a < b) if goal == "minimize" else (lambda a, b: a > b)
    for r, value in ranked:
        assert r == 1 + sum(better(other, value) for _, other in ranked)


# --- columns ---


def test_rank_trials_columns_stand_in_their_order():
    attempts = (
        Attempt(1, node="n1", wall_s=3600.0, outcome="preempted", resources={"gpus": 2}),
        Attempt(
            2,
            node="n2",
            wall_s=1800.0,
            outcome="committed",
            resources={"gpus": 2, "price_per_hour": 4.0, "currency": "EUR"},
        ),
    )
    params = {"epochs": 3, "optim": {"name": "sgd", "lr": 0.1}, "lr": 5}
    first = trial(1, params=params, metrics={"acc": 0.9, "loss": 1.0}, attempts=attempts)
    second = trial(2, 2.0, {"epochs": 3, "optim": {"name": "adam", "lr": 0.1}, "lr": 6})
    board = rank([first, second])
    assert list(board.frame.columns) == [
        "rank", "pareto", "trial", "state", "loss", "lr", "optim.name", "acc", "attempts",
        "gpu_hours", "cost", "currency", "node", "note", "epochs", "optim.lr",
    ]  # fmt: skip
    assert (board.parameters, board.metrics) == (("lr", "optim.name"), ("acc",))
    assert (board.constants, board.costs) == (("epochs", "optim.lr"), ("cost",))
    assert [None if pd.isna(cell) else cell for cell in board.frame.iloc[0]] == [
        1, True, "00001-aaaa", "done", 1.0, 5, "sgd", 0.9, 2, 3.0, 2.0, "EUR", "n2", None, 3, 0.1,
    ]  # fmt: skip


def test_rank_trials_several_currencies_have_a_column_each():
    def paid(number, currency):
        resources = {"price_per_hour": 1.0, "currency": currency}
        return trial(number, number, attempts=(Attempt(1, wall_s=3600.0, resources=resources),))

    board = rank([paid(1, "USD"), paid(2, "EUR")])
    assert board.costs == ("cost_EUR", "cost_USD")
    assert (column(board, "cost_EUR"), column(board, "cost_USD")) == ([None, 1.0], [1.0, None])
    assert "currency" not in board.frame


def test_rank_trials_names_that_are_taken_get_a_prefix():
    params = {"rank": 1, "loss": 2, "note": 3, "cost": 4}
    board = rank([trial(1, params=params, metrics={"loss": 9.0, "rank": 5, "lr": 6})])
    frame = board.frame
    assert frame.columns.is_unique
    assert frame["rank"].tolist() == [1]
    assert frame["loss"].tolist() == [9.0]
    assert (frame["param.rank"].tolist(), frame["metric.rank"].tolist()) == ([1], [5])
    assert frame["param.loss"].tolist() == [2]


def test_rank_trials_values_keep_what_they_are():
    values = ["007", "NA", "null", "None", "", "2026-01-01", "1e-5", "=1+1"]
    big = 2**53 + 1
    trials = [
        trial(n, n, {"text": text, "big": big + n, "huge": 2**70 + n, "flag": n % 2 == 0})
        for n, text in enumerate(values)
    ]
    trials.append(trial(len(values), len(values), {}))
    board = rank(trials)
    assert column(board, "text") == [*values, None]
    assert column(board, "big") == [*(big + n for n in range(len(values))), None]
    assert column(board, "huge") == [*(str(2**70 + n) for n in range(len(values))), None]
    assert column(board, "flag") == [*(n % 2 == 0 for n in range(len(values))), None]
    dtypes = [str(board.frame[name].dtype) for name in ("text", "big", "huge", "flag", "loss")]
    assert dtypes == ["string", "Int64", "string", "boolean", "Int64"]


def test_rank_trials_metrics_without_end_are_capped_and_it_says_so(monkeypatch):
    monkeypatch.setattr(named_columns, "MAX_COLUMNS", 3)
    board = rank([trial(1, metrics={f"m{n}": n for n in range(5)} | {"loss": 1.0})])
    assert ranks(board) == [(1, 1)]
    assert board.metrics == ("m0", "m1")
    assert board.problems == (
        "leaderboard: 3 more metrics than the 3 shown; the others stand in the trials' own files",
    )


def test_rank_trials_unusable_parameters_do_not_hide_a_trial():
    broken = trial(2, 1.0)._replace(params=None)
    board = rank([trial(1, 2.0), broken])
    assert ranks(board) == [(1, 2), (2, 1)]
    assert column(board, "lr") == [None, 1]


# --- repeats ---


def repeat(number, lr, seed, loss=MISSING, **fields):
    return trial(number, loss, {"lr": lr, "seed": seed}, **fields)


def test_rank_trials_repeats_are_ranked_by_their_mean():
    board = rank(
        [
            repeat(1, 0.1, 0, 1.0),
            repeat(2, 0.1, 1, 3.0),
            repeat(3, 0.1, 2, 2.0),
            repeat(4, 0.2, 0, 0.5),
            repeat(5, 0.2, 1, 5.5),
            repeat(6, 0.2, 2, 6.0),
        ],
        SEEDED,
    )
    assert ranks(board) == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    assert board.leads == (0, 3)
    assert column(board, "loss_mean") == [2.0] * 3 + [4.0] * 3
    assert column(board, "repeats_done") == column(board, "repeats") == [3] * 6
    frame = board.frame
    for start, values in ((0, [1.0, 3.0, 2.0]), (3, [0.5, 5.5, 6.0])):
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert frame["loss_ci95_low"][start] == pytest.approx(low, rel=1e-6)
        assert frame["loss_ci95_high"][start] == pytest.approx(high, rel=1e-6)


def test_rank_trials_values_of_other_types_make_another_configuration():
    values = [1, 1.0, True, "1", "True", None, [1], [1.0], [{"a": 1, "b": 2}], [{"b": 2, "a": 1}]]
    trials = [
        trial(2 * place + seed, float(place), {"x": value, "seed": seed})
        for place, value in enumerate([*values, float("nan"), float("nan")])
        for seed in (0, 1)
    ]
    # The same objects under another name in another order are repeats; so are two NaN.
    trials[1] = trials[1]._replace(params=dict(reversed(trials[1].params.items())))
    assert column(rank(trials, SEEDED), "repeats") == [2] * 16 + [4] * 8


def test_rank_trials_partial_repeats_show_as_such():
    running = repeat(3, 0.1, 2)
    board = rank(
        [repeat(1, 0.1, 0, 1.0), repeat(2, 0.1, 1, 2.0), running, repeat(4, 0.2, 0, 1.2)],
        SEEDED,
        states={running.name: TrialState.RUNNING},
    )
    assert ranks(board) == [(1, 4), (2, 1), (2, 2), (None, 3)]
    assert column(board, "repeats_done") == [1, 2, 2, 2]
    assert column(board, "repeats") == [1, 3, 3, 3]
    assert column(board, "loss_ci95_low")[0] is None  # no interval from one repeat


def test_rank_trials_repeat_that_diverged_costs_its_configuration_the_rank():
    board = rank(
        [repeat(1, 0.1, 0, 0.001), repeat(2, 0.1, 1, "nan"), repeat(3, 0.2, 0, 9.0)], SEEDED
    )
    assert ranks(board) == [(1, 3), (None, 1), (None, 2)]
    assert column(board, "note") == [None, "its repeat 00002-aaaa: loss is nan", "loss is nan"]
    assert column(board, "loss_mean") == [9.0, None, None]


def test_rank_trials_tied_configurations_stay_apart():
    board = rank(
        [
            repeat(1, 0.1, 0, 0.1),
            repeat(2, 0.2, 0, 0.3),
            repeat(3, 0.1, 1, 0.2),
            repeat(4, 0.2, 1, 0.2),
            repeat(5, 0.1, 2, 0.3),
            repeat(6, 0.2, 2, 0.1),
            repeat(7, 0.3, 0, 0.9),
        ],
        SEEDED,
    )
    assert ranks(board) == [(1, 1), (1, 3), (1, 5), (1, 2), (1, 4), (1, 6), (3, 7)]
    assert board.leads == (0, 3, 6)


def test_rank_trials_mean_that_overflows_has_no_rank():
    board = rank([repeat(1, 0.1, 0, 1.7e308), repeat(2, 0.1, 1, 1.6e308)], SEEDED)
    assert ranks(board) == [(None, 1), (None, 2)]
    assert column(board, "note") == ["the mean overflows"] * 2


def test_rank_trials_seed_of_an_unseeded_sweep_is_a_parameter():
    board = rank([repeat(1, 0.1, 0, 1.0), repeat(2, 0.1, 1, 2.0)])
    assert ranks(board) == [(1, 1), (2, 2)]
    assert "loss_mean" not in board.frame


def test_rank_trials_repeats_without_parameters_are_not_thrown_together():
    first, second = (repeat(n, 0, 0, float(n))._replace(params=None) for n in (1, 2))
    assert ranks(rank([first, second], SEEDED)) == [(1, 1), (2, 2)]


# --- sweep.json ---


def test_parse_summary_whole_record_returns_it():
    record = {
        "name": "demo",
        "metric": {"name": "acc", "goal": "maximize"},
        "parameters": ["lr", "optim.name"],
        "seeded": True,
        "cluster": "whatever else",
    }
    expected = SweepSummary("demo", "acc", "maximize", ("lr", "optim.name"), True)
    assert parse_summary(record, "sweep.json") == expected


def test_parse_summary_without_metric_returns_none():
    assert parse_summary({"name": "d", "metric": None}, "x") == SweepSummary("d", None)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"metric": "loss"}, 's.json: metric: found "loss"; it needs a name, and a goal that is '
                             "minimize or maximize"),
        ({"metric": {"name": "loss"}}, 's.json: metric: found {"name": "loss"}'),
        ({"metric": {"name": "loss", "goal": "min"}}, "s.json: metric: found"),
        ({"parameters": "lr"}, "s.json: parameters: not a list of names"),
    ],
)  # fmt: skip
def test_parse_summary_mistake_is_named(record, message):
    with pytest.raises(CorruptRecord) as error:
        parse_summary(record, "s.json")
    assert str(error.value).startswith(message)


# --- ties, partial configurations, several objectives ---

KINDS = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.just("nan"),
    st.just("-inf"), st.just(10**400), st.just([1.0]), st.floats(-2, 2), st.integers(-2, 2),
)  # fmt: skip


def configuration(first, lr, values, states=None):
    """Make the repeats of one configuration; None for one that is not done."""
    return [
        repeat(first + seed, lr, seed, MISSING if value is None else value)
        for seed, value in enumerate(values)
    ]


def test_rank_trials_ties_name_the_best_that_each_cannot_be_told_from():
    groups = [[1.0, 1.1, 0.9], [1.05, 1.2, 1.0], [3.0, 3.1, 2.9], [3.05, 3.15, 2.95]]
    trials = [t for n, values in enumerate(groups) for t in configuration(10 * n, n, values)]
    board = rank(trials, SEEDED)
    leads = list(board.leads)
    assert [column(board, "tie")[row] for row in leads] == [1, 1, 3, 3]
    assert stats.ttest_ind(groups[0], groups[1], equal_var=False).pvalue > 0.05
    assert stats.ttest_ind(groups[0], groups[2], equal_var=False).pvalue < 0.05
    assert board.standing.certainty is Certainty.TIED
    assert "cannot be told from 1 of 3 others" in board.standing.words


def test_rank_trials_first_that_is_told_from_all_others_is_clear():
    board = rank(configuration(0, 1, [1.0, 1.01]) + configuration(9, 2, [5.0, 5.01]), SEEDED)
    assert board.standing.certainty is Certainty.CLEAR
    assert column(board, "tie") == [1, 1, 2, 2]


def test_rank_trials_partial_configuration_comes_after_complete_ones_and_says_so():
    trials = configuration(0, 1, [0.1, 0.1, None]) + configuration(9, 2, [0.5, 0.6, 0.7])
    states = {t.name: TrialState.FAILED for t in trials if t.result is None}
    board = rank(trials, SEEDED, states)
    assert ranks(board) == [(1, 9), (1, 10), (1, 11), (2, 0), (2, 1), (None, 2)]
    assert column(board, "partial") == [None] * 3 + ["2 of 3 repeats"] * 2 + [None]
    assert board.standing.certainty is Certainty.PROVISIONAL
    assert "00000 would come first with 2 of its 3 repeats" in board.standing.words


def test_rank_trials_partial_configuration_is_named_as_its_row_is():
    trials = configuration(0, 1, [None, 0.1, 0.1]) + configuration(9, 2, [0.5, 0.6, 0.7])
    board = rank(trials, SEEDED, {trials[0].name: TrialState.LOST})
    assert ranks(board)[3:] == [(2, 1), (2, 2), (None, 0)]
    assert "00001 would come first with 2 of its 3 repeats" in board.standing.words


def test_rank_trials_where_none_is_complete_the_partial_ones_are_ranked():
    trials = configuration(0, 1, [0.1, None]) + configuration(9, 2, [0.5, None])
    states = {t.name: TrialState.RUNNING for t in trials if t.result is None}
    board = rank(trials, SEEDED, states)
    assert ranks(board)[:2] == [(1, 0), (2, 9)]
    assert "tie" not in board.frame
    assert board.standing.words == (
        "The first place is provisional: it has 1 of its 2 repeats, as none has them all; one run "
        "may be luck (make confirm reruns the best on fresh seeds); 2 trials may still bring a "
        "result."
    )


def test_rank_trials_running_trial_shows_its_step_and_that_it_is_ahead():
    live = trial(1)._replace(metrics={"loss": 0.0}, last_step=40)
    board = rank([live, trial(2, 1.0)], states={live.name: TrialState.RUNNING})
    assert column(board, "partial") == [None, "step 40"]
    assert "1 trial may still bring a result, and 00001 is ahead so far" in board.standing.words


def test_rank_trials_single_repeat_is_tied_with_the_first():
    trials = (
        configuration(0, 1, [1.0, 1.01]) + configuration(9, 2, [5.0]) + configuration(20, 3, [9])
    )
    board = rank(trials, SEEDED)
    assert column(board, "tie") == [1, 1, 1, 1]


def test_rank_trials_nothing_ranked_has_no_standing():
    assert rank([trial(1, "nan")]).standing.certainty is Certainty.NONE
    assert rank([trial(1, "nan")]).standing.words == ""


TWO = SweepSummary("d", "acc", "maximize", ("lr",), more_objectives=(("ms", "minimize"),))


def scored(number, acc, ms=MISSING, hours=1.0):
    metrics = {"acc": acc} if ms is MISSING else {"acc": acc, "ms": ms}
    return trial(
        number,
        metrics=metrics,
        attempts=(Attempt(1, wall_s=3600 * hours, outcome="committed", resources={"gpus": 1}),),
    )


def test_rank_trials_several_objectives_make_a_front():
    board = rank(
        [scored(1, 0.9, 5), scored(2, 0.8, 1), scored(3, 0.7, 4), scored(4, 0.95, "nan"),
         scored(5, 0.5), scored(6, 0.9, 5)],
        TWO,
    )  # fmt: skip
    assert ranks(board) == [(1, 4), (2, 1), (2, 6), (4, 2), (5, 3), (6, 5)]
    assert column(board, "pareto") == [False, True, True, True, False, False]
    assert (board.objectives, board.front) == ((("acc", "maximize"), ("ms", "minimize")),) * 2
    assert board.metrics == ()
    assert list(board.frame.columns)[:6] == ["rank", "pareto", "trial", "state", "acc", "ms"]


def test_rank_trials_equal_objectives_stand_by_the_next_then_hours_then_number():
    trials = [
        scored(1, 1, 9),
        scored(2, 1, 3, 5),
        scored(3, 1, 3, 2),
        scored(4, 1, 3, 2),
        scored(5, 1),
    ]
    assert ranks(rank(trials, TWO)) == [(1, 3), (1, 4), (1, 2), (1, 1), (1, 5)]


def test_rank_trials_repeats_of_several_objectives_have_means():
    both = SweepSummary(
        "d", "acc", "maximize", ("lr", "seed"), True, more_objectives=(("ms", "minimize"),)
    )
    trials = [
        trial(n, params={"lr": lr, "seed": n}, metrics={"acc": acc, "ms": ms})
        for n, lr, acc, ms in ((1, 1, 0.5, 3), (2, 1, 0.7, 5), (3, 2, 0.5, 1), (4, 2, 0.5, "nan"))
    ]
    board = rank(trials, both)
    assert column(board, "acc_mean") == [0.6, 0.6, 0.5, 0.5]
    assert column(board, "ms_mean") == [4.0, 4.0, None, None]
    assert column(board, "pareto") == [True, True, False, False]


def test_rank_trials_one_objective_has_its_front_with_what_it_took():
    def paid(number, loss, hours, price=None):
        resources = {"gpus": 1, **({"price_per_hour": price, "currency": "EUR"} if price else {})}
        return trial(number, loss, attempts=(Attempt(1, wall_s=3600 * hours, resources=resources),))

    by_hours = rank([paid(1, 1.0, 2), paid(2, 2.0, 3), paid(3, 3.0, 1)])
    assert column(by_hours, "pareto") == [True, False, True]
    assert by_hours.front == (("loss", "minimize"), ("gpu_hours", "minimize"))
    by_cost = rank([paid(1, 1.0, 2, 1.0), paid(2, 2.0, 1, 9.0), paid(3, 3.0, 1, 0.5)])
    assert column(by_cost, "pareto") == [True, False, True]
    assert by_cost.front == (("loss", "minimize"), ("cost", "minimize"))
    assert "pareto" not in rank([trial(1, 1.0), trial(2, 2.0)]).frame


def test_rank_trials_price_of_nothing_parts_nobody_so_the_front_is_over_hours():
    resources = {"gpus": 1, "price_per_hour": 0, "currency": "EUR"}
    board = rank(
        [
            trial(n, float(n), attempts=(Attempt(1, wall_s=3600 * hours, resources=resources),))
            for n, hours in ((1, 2), (2, 3), (3, 1))
        ]
    )
    assert column(board, "pareto") == [True, False, True]
    assert board.front == (("loss", "minimize"), ("gpu_hours", "minimize"))
    assert column(board, "cost") == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("metric", ["confirmed", "repeats", "rank", "x" * 300])
def test_rank_trials_means_are_found_by_the_objectives_name(metric):
    summary = replace(SEEDED, metric=metric)
    trials = [
        trial(n, MISSING, {"lr": 1, "seed": n}, {metric: float(n), f"{metric}_mean": 9.0})
        for n in (1, 2)
    ]
    board = rank(trials, summary)
    assert column(board, f"{board.objective}_mean") == [1.5, 1.5]
    assert column(board, f"{board.objective}_ci95_low")[0] < 0
    assert render_leaderboard(board, 80) is not None


def test_rank_trials_mean_that_nobody_has_is_a_column_of_numbers():
    board = rank([trial(1, math.nan, {"lr": 1, "seed": 1})], SEEDED)
    assert board.table["loss_mean"].dtype == "Float64"


def test_rank_trials_fresh_runs_are_listed_and_not_ranked():
    trials = [trial(1, 5.0), trial(2, 0.1)._replace(id="fresh")]
    board = rank_trials(trials, {}, {}, LOSS, 0.0, fresh={"fresh"})
    assert ranks(board) == [(1, 1), (None, 2)]


def test_rank_trials_what_repeats_differ_in_is_no_other_configuration():
    trials = [trial(n, float(n), {"lr": 1, "seed": n, "data_seed": 10 * n}) for n in (1, 2)]
    assert rank(trials, SEEDED).leads == (0, 1)
    board = rank_trials(trials, {}, {}, SEEDED, 0.0, differs=("seed", "data_seed"))
    assert board.leads == (0,)
    assert rank(trials, replace(SEEDED, differs=("data_seed", "seed"))).leads == (0,)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), KINDS, KINDS), max_size=10), st.booleans(), st.randoms()
)
def test_rank_trials_any_values_turned_around_give_the_same_order(rows, seeded, rng):
    def turned(value):
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return (
            -value
            if plain
            else {"inf": "-inf", "-inf": "inf"}.get(value, value)
            if (isinstance(value, str))
            else value
        )

    def trials(turn):
        return [
            trial(n, params={"lr": lr, "seed": n}, metrics={"a": turn(a), "b": turn(b)})
            for n, (lr, a, b) in enumerate(rows)
        ]

    down = SweepSummary("d", "a", "minimize", ("lr",), seeded, more_objectives=(("b", "maximize"),))
    up = SweepSummary("d", "a", "maximize", ("lr",), seeded, more_objectives=(("b", "minimize"),))
    there, back = rank(trials(lambda value: value), down), rank(trials(turned), up)
    shuffled = trials(turned)
    rng.shuffle(shuffled)
    pd.testing.assert_frame_equal(rank(shuffled, up).frame, back.frame)
    for name in ("rank", "trial", "state", "tie", "pareto", "partial"):
        assert (name in there.frame) == (name in back.frame)
        if name in there.frame:
            assert column(there, name) == column(back, name)
    assert there.standing == back.standing
    for name, r in zip(column(there, "trial"), column(there, "rank"), strict=True):
        if r is not None:
            value = rows[int(name.partition("-")[0])][1]
            assert type(value) in (int, float)
            assert math.isfinite(value)


def test_rank_trials_only_configuration_is_clear_of_nothing_and_says_so():
    board = rank(configuration(0, 1, [1.0, 1.01, 1.02]), SEEDED)
    assert board.standing.certainty is Certainty.CLEAR
    assert board.standing.words == (
        "The first place is clear for want of others: one configuration is ranked, by its 3 "
        "repeats; make confirm reruns the best on fresh seeds."
    )

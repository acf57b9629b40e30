import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.states import TrialState
from orchestrator.domain import leaderboard, named_columns
from orchestrator.domain.leaderboard import rank_trials
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
        "rank", "trial", "state", "loss", "lr", "optim.name", "acc", "attempts", "gpu_hours",
        "cost", "currency", "node", "note", "epochs", "optim.lr",
    ]  # fmt: skip
    assert (board.parameters, board.metrics) == (("lr", "optim.name"), ("acc",))
    assert (board.constants, board.costs) == (("epochs", "optim.lr"), ("cost",))
    assert [None if pd.isna(cell) else cell for cell in board.frame.iloc[0]] == [
        1, "00001-aaaa", "done", 1.0, 5, "sgd", 0.9, 2, 3.0, 2.0, "EUR", "n2", None, 3, 0.1,
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
    board = rank([repeat(1, 0.1, 0, 1.7e308), repeat(2, 0.1, 1, 1.7e308)], SEEDED)
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

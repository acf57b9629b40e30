from dataclasses import replace

import pytest
from rich.cells import cell_len

from orchestrator.adapters.leaderboard_table import _pick_groups, render_leaderboard, short_titles
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import Leaderboard, rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.table import Table
from orchestrator.domain.trial_files import Attempt, TrialFiles
from orchestrator.domain.typed_columns import text_column

LUCK_80 = [
    "The first place is provisional: one run may be luck (make confirm reruns the",
    "best on fresh seeds).",
]
RUNNING = TrialState.RUNNING
FIVE = ("optim.learning_rate", "batch_size", "optim.name", "weight_decay", "n_layers")


def trial(number, params, loss=None, **metrics):
    found = {"val_loss": loss, **metrics} if loss is not None else {}
    return TrialFiles(
        name=f"{number:05d}-3fa9c1d2e0",
        number=number,
        id="3fa9c1d2e0",
        params=params,
        result={"metrics": found} if loss is not None else None,
        metrics=found,
        attempts=(
            Attempt(1, node="n1", wall_s=1800.0, outcome="committed", resources={"gpus": 1}),
        ),
    )


def five(number):
    return {
        "optim": {"learning_rate": 1.2345678e-5 * number, "name": "adamw"},
        "batch_size": 32 * number,
        "weight_decay": 0.1 / number,
        "n_layers": 12 + number,
        "epochs": 3,
    }


def board_of(trials, parameters=FIVE, seeded=False, states=None, reasons=None, metric="val_loss"):
    summary = SweepSummary("demo", metric, "minimize", parameters, seeded)
    return rank_trials(trials, states or {}, reasons or {}, summary, 0.0)


def show(board, width=80, **options):
    return [line.text for line in render_leaderboard(board, width, **options)]


def test_render_leaderboard_five_parameters_fit_eighty_columns():
    trials = [trial(n, five(n), 0.123456789 * n, acc=0.9, tokens_per_s=1e5) for n in (1, 2, 3)]
    assert show(board_of(trials), n_rows=2) == [
        "demo: val_loss, minimize",
        *LUCK_80,
        "                                      batch_         weight_      n_   gpu_",
        "      trial  val_loss  learning_rate    size  name     decay  layers  hours  acc",
        "1  *  00001   0.12346      1.235e-05      32  adamw      0.1      13    0.5  0.9",
        "2     00002   0.24691      2.469e-05      64  adamw     0.05      14    0.5  0.9",
        "*: on the Pareto front of val_loss and gpu_hours",
        "… and 1 more row in leaderboard.csv",
        "… and 2 more columns in leaderboard.csv: attempts, tokens_per_s",
        "",
        "3 trials: 3 done. Used 1.500 GPU-hours.",
    ]


def test_render_leaderboard_measurements_of_time_and_of_a_moment_give_way_first():
    moment = {"current_loss": 0.7, "time_eval_s": 3.0, "acc": 0.9, "response_score": 2.0}
    board = board_of([trial(1, {"lr": 1}, 0.5, **moment)], ("lr",))
    assert show(board, 140)[2].split() == [
        "trial", "val_loss", "lr", "acc", "response_score", "gpu_hours", "attempts",
        "current_loss", "time_eval_s",
    ]  # fmt: skip
    assert any(
        line.startswith("… and 3 more columns in leaderboard.csv: at") for line in show(board, 44)
    )


def test_render_leaderboard_ties_the_front_and_partial_ones_are_marked():
    losses = {0.1: (1.0, 1.1, 0.9), 0.2: (1.05, 1.2, 1.0), 0.3: (4.0, 4.1, 4.2), 0.4: (0.5, 0.6)}
    trials = [
        trial(10 * place + seed, {"lr": lr, "seed": seed}, loss)
        for place, (lr, values) in enumerate(losses.items())
        for seed, loss in enumerate((*values, None)[:3])
    ]
    board = board_of(trials, ("lr", "seed"), True, {trials[-1].name: TrialState.FAILED})
    assert show(board, 90) == [
        "demo: val_loss, minimize",
        "The first place is provisional: 00030 would come first with 2 of its 3 repeats; 1 of 3",
        "others cannot be told from it.",
        "        trial             val_loss mean  ± 95%       n   lr  gpu_hours mean",
        "1    *  00000-3fa9c1d2e0              1   0.25       3  0.1             0.5",
        "2  ~1   00010-3fa9c1d2e0         1.0833   0.26       3  0.2             0.5",
        "3       00020-3fa9c1d2e0            4.1   0.25       3  0.3             0.5",
        "Partial, with fewer repeats than the others:",
        "4       00030-3fa9c1d2e0           0.55   0.64  2 of 3  0.4             0.5",
        "~N: its repeats cannot tell it from rank N (95 %)",
        "*: on the Pareto front of val_loss and gpu_hours",
        "",
        "Without a rank:",
        "trial             state",
        "00032-3fa9c1d2e0  failed",
        "",
        "12 trials: 11 done, 1 failed. Used 6.000 GPU-hours, 8.3% of it lost.",
    ]


@pytest.mark.parametrize("width", [40, 200])
@pytest.mark.parametrize("seeded", [False, True])
def test_render_leaderboard_asks_for_no_pandas_frame(monkeypatch, seeded, width):
    monkeypatch.setattr(Leaderboard, "frame", property(lambda board: pytest.fail("imports pandas")))
    trials = [trial(n, five(n // 2) | {"seed": n % 2}, n / 10) for n in range(2, 8)]
    assert len(show(board_of(trials, (*FIVE, "seed"), seeded), width)) > 3


def test_render_leaderboard_trial_that_runs_shows_objective_and_step_so_far():
    live = trial(2, {"lr": 2}, 0.25)._replace(result=None, last_step=300)
    board = board_of([trial(1, {"lr": 1}, 0.5), live], ("lr",), states={live.name: RUNNING})
    lines = show(board, 100)
    assert lines[-4:-2] == [
        "trial             state    loss  so far",
        "00002-3fa9c1d2e0  running  0.25  step 300",
    ]


def test_render_leaderboard_repeats_without_room_leave_out_the_mean_amount_alone():
    trials = [trial(n, {"lr": 1.0 + n // 2, "seed": n % 2}, 1.0 + n, acc=1) for n in range(4)]
    lines = show(board_of(trials, ("lr", "seed"), True), 50)
    assert not any("gpu_hours mean" in line or "more column" in line for line in lines)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140, 300])
def test_render_leaderboard_any_width_is_kept_to_and_every_column_accounted_for(width):
    trials = [trial(n, five(n), 0.123456789 * n, acc=0.9) for n in range(1, 60)]
    board = board_of(trials, reasons={})
    lines = show(board, width)
    assert max(map(cell_len, lines)) <= width
    assert any("39 more rows" in line for line in lines)
    assert not any("…" in line for line in lines if not line.startswith("…"))


def test_render_leaderboard_others_are_listed_with_their_reason():
    trials = [trial(1, {"lr": 1}, 0.5), *(trial(n, {"lr": n}) for n in range(2, 5))]
    names = [one.name for one in trials]
    states = {names[1]: TrialState.PENDING, names[2]: TrialState.FAILED, names[3]: TrialState.LOST}
    board = board_of(
        trials,
        ("lr",),
        states=states,
        reasons={names[2]: "exit code 1: " + "very " * 30, names[3]: "not in the queue"},
    )
    assert show(board, 72, n_others=2) == [
        "demo: val_loss, minimize",
        "The first place is provisional: one run may be luck (make confirm reruns",
        "the best on fresh seeds); 2 trials may still bring a result.",
        "   trial             val_loss  lr  gpu_hours  attempts",
        "1  00001-3fa9c1d2e0       0.5   1        0.5         1",
        "",
        "Without a rank:",
        "trial             state   why",
        "00003-3fa9c1d2e0  failed  exit code 1: very very very very very very ve…",
        "00004-3fa9c1d2e0  lost    not in the queue",
        "… and 1 more row in leaderboard.csv",
        "",
        "4 trials: 1 pending, 1 done, 1 failed, 1 lost. Used 2.000 GPU-hours,",
        "25.0% of it lost.",
    ]


def test_render_leaderboard_others_with_one_reason_are_one_row():
    nan, oom = float("nan"), "exit code 1: CUDA out of memory"
    trials = [trial(1, {"lr": 1}, 0.5), *(trial(n, {"lr": n}, nan) for n in range(2, 14))]
    trials += [trial(n, {"lr": n}) for n in range(20, 27)]
    names = [one.name for one in trials]
    states = dict.fromkeys(names[13:], TrialState.FAILED)
    reasons = dict.fromkeys(names[13:19], oom) | {names[19]: "exit code 2"}
    lines = show(board_of(trials, ("lr",), states=states, reasons=reasons), n_others=2)
    start = lines.index("Without a rank:")
    assert lines[start + 1 : start + 6] == [
        "                                  val_",
        "trials  such as           state   loss  why",
        "    12  00002-3fa9c1d2e0  done     nan  val_loss is nan",
        "     6  00020-3fa9c1d2e0  failed        exit code 1: CUDA out of memory",
        "… and 1 more row in leaderboard.csv",
    ]


def test_render_leaderboard_runs_on_fresh_seeds_are_one_row_whatever_they_confirm():
    board = board_of([trial(1, {"lr": 1}), trial(2, {"lr": 2})], ("lr",))
    notes = text_column([f"fresh seed, to confirm 0000{n}" for n in (7, 8)])
    cells = {name: board.table[name] for name in board.table.columns} | {"note": notes}
    lines = show(replace(board, table=Table(cells, 2)))
    assert lines[2:5] == [
        "trials  such as           state    why",
        "     2  00001-3fa9c1d2e0  unknown  fresh seed",
        "",
    ]


def test_pick_groups_shows_failures_and_fresh_seeds_before_more_of_the_same():
    groups = {("done", "loss is nan"): [0], ("done", "loss is inf"): [1], ("failed", "x"): [2]}
    groups[("done", "fresh seed")] = [3, 4]
    assert _pick_groups(groups, 3) == [[0], [2], [3, 4]]
    assert _pick_groups(groups, 9) == [[0], [1], [2], [3, 4]]


def test_render_leaderboard_repeats_show_mean_interval_and_count():
    trials = [
        trial(n, {"lr": lr, "seed": seed}, loss)
        for n, lr, seed, loss in (
            (1, 0.1, 0, 1.0),
            (2, 0.1, 1, 2.0),
            (3, 0.2, 0, 5.0),
            (4, 0.2, 1, None),
        )
    ]
    board = board_of(trials, ("lr", "seed"), True, {trials[3].name: TrialState.RUNNING})
    assert show(board)[:7] == [
        "demo: val_loss, minimize",
        "The first place is provisional: 1 trial may still bring a result; 1 of 1 other",
        "cannot be told from it.",
        "        trial             val_loss mean  ± 95%       n   lr  gpu_hours mean",
        "1    *  00001-3fa9c1d2e0            1.5    6.4       2  0.1             0.5",
        "Partial, with fewer repeats than the others:",
        "2  ~1   00003-3fa9c1d2e0              5         1 of 2  0.2             0.5",
    ]


def test_render_leaderboard_hostile_text_is_shown_as_text():
    hostile = "[red]x[/red] \x1b[2J\x1b]0;t\x07=1\n2"
    trials = [trial(1, {"lr": hostile, "[b]t": 1}, 1), trial(2, {"lr": "学" * 30, "[b]t": 2}, 2)]
    lines = show(board_of(trials, ("lr", "[b]t")))
    assert lines[4:7] == [
        "      trial             val_loss  lr                       [b]t  hours  attempts",
        "1  *  00001-3fa9c1d2e0         1  [red]x[/red] =1 2           1    0.5         1",
        "2     00002-3fa9c1d2e0         2  学学学学学学学学学学学…     2    0.5         1",
    ]


def test_render_leaderboard_without_metric_says_so():
    lines = show(board_of([trial(1, {"lr": 1}, 0.5)], metric=None))
    assert lines == [
        "demo: the spec names no metric, so nothing is ranked",
        "",
        "trial             state",
        "00001-3fa9c1d2e0  done",
        "",
        "1 trial: 1 done. Used 0.5000 GPU-hours.",
    ]


def test_render_leaderboard_without_trials_says_so():
    assert show(board_of([])) == ["demo: val_loss, minimize", "", "No trials."]


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        ([], []),
        (["optim.lr", "model.n_layers"], ["lr", "n_layers"]),
        (["a.lr", "b.lr", "x"], ["a.lr", "b.lr", "x"]),
        (["lr", "optim.lr"], ["lr", "optim.lr"]),
        (["a.b.c", "d.b.c"], ["a.b.c", "d.b.c"]),
    ],
)
def test_short_titles_dotted_names_stay_different(names, titles):
    assert short_titles(names) == titles

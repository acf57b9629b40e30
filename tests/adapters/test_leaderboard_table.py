import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator.adapters.leaderboard_table import render_leaderboard, short_titles
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import Attempt, TrialFiles

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
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render_leaderboard(board, width, **options))
    return [line.rstrip() for line in console.export_text().rstrip("\n").split("\n")]


def test_render_leaderboard_five_parameters_fit_eighty_columns():
    trials = [trial(n, five(n), 0.123456789 * n, acc=0.9, tokens_per_s=1e5) for n in (1, 2, 3)]
    assert show(board_of(trials), n_rows=2) == [
        "demo: val_loss, minimize",
        "                    learning_  batch_         weight_                       gpu_",
        "   trial  val_loss       rate    size  name     decay  n_layers  attempts  hours",
        "1  00001   0.12346  1.235e-05      32  adamw      0.1        13         1    0.5",
        "2  00002   0.24691  2.469e-05      64  adamw     0.05        14         1    0.5",
        "… and 1 more row in leaderboard.csv",
        "… and 2 more columns in leaderboard.csv: acc, tokens_per_s",
        "",
        "3 trials: 3 done. Used 1.5 GPU-hours.",
    ]


def test_render_leaderboard_measurements_of_a_moment_give_way_first():
    moment = {"current_loss": 0.7, "current_speed": 2e5, "acc": 0.9}
    board = board_of([trial(1, {"lr": 1}, 0.5, **moment)], ("lr",))
    assert show(board, 140)[1].split()[-3:] == ["acc", "current_loss", "current_speed"]
    assert show(board, 44)[-3].startswith("… and 2 more columns in leaderboard.csv: cu")


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
        "   trial             val_loss  lr  attempts  gpu_hours",
        "1  00001-3fa9c1d2e0       0.5   1         1        0.5",
        "",
        "Without a rank:",
        "trial             state   why",
        "00003-3fa9c1d2e0  failed  exit code 1: very very very very very very ve…",
        "00004-3fa9c1d2e0  lost    not in the queue",
        "… and 1 more row in leaderboard.csv",
        "",
        "4 trials: 1 pending, 1 done, 1 failed, 1 lost. Used 2 GPU-hours, 25.0%",
        "of it lost.",
    ]


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
    assert show(board)[:4] == [
        "demo: val_loss, minimize",
        "   trial             val_loss mean  ± 95%       n   lr",
        "1  00001-3fa9c1d2e0            1.5    6.4       2  0.1",
        "2  00003-3fa9c1d2e0              5         1 of 2  0.2",
    ]


def test_render_leaderboard_hostile_text_is_shown_as_text():
    hostile = "[red]x[/red] \x1b[2J\x1b]0;t\x07=1\n2"
    trials = [trial(1, {"lr": hostile, "[b]t": 1}, 1), trial(2, {"lr": "学" * 30, "[b]t": 2}, 2)]
    lines = show(board_of(trials, ("lr", "[b]t")))
    assert lines[2:5] == [
        "   trial             val_loss  lr                       [b]t  attempts  hours",
        "1  00001-3fa9c1d2e0         1  [red]x[/red] =1 2           1         1    0.5",
        "2  00002-3fa9c1d2e0         2  学学学学学学学学学学学…     2         1    0.5",
    ]


def test_render_leaderboard_without_metric_says_so():
    lines = show(board_of([trial(1, {"lr": 1}, 0.5)], metric=None))
    assert lines == [
        "demo: the spec names no metric, so nothing is ranked",
        "",
        "trial             state",
        "00001-3fa9c1d2e0  done",
        "",
        "1 trial: 1 done. Used 0.5 GPU-hours.",
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

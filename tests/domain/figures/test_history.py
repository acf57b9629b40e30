from orchestrator.contract.records import FAILED
from orchestrator.contract.states import TrialState
from orchestrator.domain.figures.history import build_history
from tests.domain.figures.boards import attempt, board_of, trial


def build(trials, now_s=10_000.0, **options):
    board = board_of(trials, **options)
    return build_history(board, {t.name: t for t in trials}, now_s)


def test_build_history_best_so_far_by_time_of_the_end():
    figure = build(
        [
            trial(1, 3.0, [attempt(start_s=0, wall_s=300)]),
            trial(2, 1.0, [attempt(start_s=0, wall_s=200)]),
            trial(3, 0.5, [attempt(start_s=100, wall_s=400)]),
            trial(4, None, [attempt(start_s=0, wall_s=50, outcome=FAILED)]),
        ]
    )
    data = figure.data
    assert data["origin_s"] == 50
    assert (data["t"], data["y"]) == ([150, 250, 450], [1.0, 3.0, 0.5])
    assert data["best_t"] == [150, 450]
    assert data["best_trial"] == ["00002-aaaa", "00003-aaaa"]
    assert data["failed_t"] == [0]
    assert "after 1 improvement." in figure.table


def test_build_history_maximize_improves_upwards():
    figure = build([trial(i, float(i), [attempt(start_s=i)]) for i in (1, 2, 3)], goal="maximize")
    assert figure.data["best_y"] == [1.0, 2.0, 3.0]


def test_build_history_running_trial_is_drawn_now_and_never_best():
    live = trial(2, None, [attempt(start_s=0, outcome=None)])._replace(metrics={"loss": 0.1})
    figure = build([trial(1, 3.0, [attempt()]), live], states={live.name: TrialState.RUNNING})
    assert figure.data["states"] == ["done", "running"]
    assert figure.data["t"] == [0, 6400]
    assert figure.data["best_y"] == [3.0]


def test_build_history_without_results_says_why():
    assert "No trial is done" in build([trial(1)]).data["reason"]
    assert "names no objective" in build([trial(1)], metric=None).data["reason"]

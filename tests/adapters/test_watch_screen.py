"""The screen of `watch`: what it shows in which size, recorded as golden files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator.adapters.watch_screen import draw_screen
from orchestrator.contract.states import TrialState
from orchestrator.domain.best_so_far import Best
from orchestrator.domain.cause import Cause
from orchestrator.domain.cost import Usage
from orchestrator.domain.watch_view import RecentFailure, RunningTrial, WatchView

FOOT = "seen 3 s ago; q leaves"
HOSTILE = "\x1b[2J\x1b]0;evil\x07[red]x[/red]\r\n\u202eabc"
SIZES = [(80, 24), (200, 60), (40, 10), (30, 5), (10, 3), (1, 1)]


def running(number: int, **fields: object) -> RunningTrial:
    line = RunningTrial(
        name=f"{number:05}-0123456789",
        attempt=1 + number % 3,
        node=f"n{number % 4}",
        age_s=60.0 * number,
        step=10 * number,
        n_steps=500,
        metric="eval_perplexity",
        value=1000 / (number + 1),
        note="",
        params={"learning_rate": 1e-5 * number, "batch_size": 16, "optimizer": "adamw"},
    )
    return dataclasses.replace(line, **fields)  # type: ignore[arg-type]


VIEW = WatchView(
    name="deepseek-sft",
    at=datetime(2026, 1, 1, 14, 2, 11, tzinfo=UTC),
    n_trials=162,
    counts={
        TrialState.PENDING: 96,
        TrialState.RUNNING: 25,
        TrialState.REQUEUED: 2,
        TrialState.DONE: 34,
        TrialState.FAILED: 5,
    },
    running=(running(77, note="no heartbeat"), *map(running, range(35, 59))),
    left_s=12_000.0,
    usage=Usage(60.0, 41.2, {"CNY": 37.08}),
    budget="37.08 of 1500.00 CNY spent",
    metric="eval_perplexity",
    goal="minimize",
    best=Best("00017-0123456789", 12.413333, {}, 2, 3),
    best_params={"learning_rate": 3e-5, "batch_size": 16, "optimizer": "adamw"},
    failures=(
        RecentFailure("error", "exit code 1: ValueError: no such file " * 4, 3, 4, 130.0),
        RecentFailure("CUDA out of memory", "OutOfMemoryError: 2 GiB", 0, 7, 4000.0),
        RecentFailure("diverged", "exit code 65", 2, 2, None),
        RecentFailure("no progress", "no progress", 0, 1, None),
    ),
    interruptions={Cause.PREEMPTED: 12, Cause.TIMEOUT: 0, Cause.NODE_FAILURE: 1, Cause.SILENT: 0},
    notices=(
        "the gate is closed: 3 trials failed alike; 96 held; make release opens it",
        "Slurm will not start 2 that wait: a node it needs is down, drained or reserved",
    ),
    supervisor="supervised by process 4711 on login1 since 2026-01-01T10:00:00Z",
)


def show(view: WatchView, width: int, height: int) -> list[str]:
    console = Console(
        width=width, height=height, color_system=None, markup=False, emoji=False, highlight=False
    )
    with console.capture() as captured:
        console.print(draw_screen(view, width, height, FOOT))
    return captured.get().removesuffix("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), SIZES[:3])
def test_screen_is_as_recorded(
    width: int, height: int, check_golden: Callable[[str, str], None]
) -> None:
    text = "\n".join(show(VIEW, width, height)) + "\n"
    check_golden(f"watch-{width}x{height}.txt", text)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_larger_than_the_terminal(width: int, height: int) -> None:
    wide = dataclasses.replace(
        VIEW,
        name="学习率扫描" * 20,
        notices=("没有空格的一句话" * 30,),
        running=tuple(running(n, node="节点" * 20, params={"名字": "值" * 50}) for n in range(40)),
        best_params={"学习率": "很大" * 40},
        trouble="超时" * 99,
    )
    for view in (VIEW, wide, WatchView("s", VIEW.at, 0, {})):
        lines = show(view, width, height)
        assert len(lines) <= height
        assert max(map(cell_len, lines)) <= width


def test_foreign_text_is_text() -> None:
    view = dataclasses.replace(
        VIEW,
        name=HOSTILE,
        metric=HOSTILE,
        notices=(HOSTILE,),
        supervisor=HOSTILE,
        trouble=HOSTILE,
        budget=HOSTILE,
        usage=Usage(1, 1, {HOSTILE: 2.0}),
        best_params={HOSTILE: HOSTILE},
        failures=(RecentFailure("error", HOSTILE, 1, 1, 5),),
        running=(
            running(1, node=HOSTILE, note=HOSTILE, metric=HOSTILE, params={HOSTILE: HOSTILE}),
        ),
    )
    for width, height in SIZES:
        text = "\n".join(show(view, width, height))
        assert text.replace("\n", "").isprintable(), text
    assert show(view, 200, 60)[0].startswith("[red]x[/red] abc: 34 of 162 done (20 %)")


def test_bar_is_full_only_at_the_end() -> None:
    def bar(**counts: int) -> str:
        found = {TrialState[name.upper()]: n for name, n in counts.items()}
        view = WatchView("s", VIEW.at, sum(counts.values()), found)
        return show(view, 42, 10)[1]

    assert bar(done=9999, running=1) == "[" + "#" * 39 + ">]"
    assert bar(done=10) == "[" + "#" * 40 + "]"
    assert bar(done=10, failed=10, pending=20) == "[" + "#" * 10 + "x" * 10 + "." * 20 + "]"


def test_unknown_is_a_dash_and_not_zero() -> None:
    view = WatchView(
        "s",
        VIEW.at,
        2,
        {TrialState.RUNNING: 2},
        running=(running(1, age_s=None, node="", step=None, value=None, attempt=0, params={}),),
        metric="loss",
        goal="minimize",
    )
    lines = show(view, 80, 24)
    assert lines[3:5] == ["— left", "best so far: — (loss, minimize)"]
    assert lines[7].split() == ["00001", "—", "—", "—", "—", "—"]


def test_slurm_that_does_not_answer_is_told_with_the_age_of_what_is_shown() -> None:
    view = dataclasses.replace(VIEW, trouble="squeue: Socket timed out", stale_s=95.0)
    told = "! Slurm does not answer, its queue is shown as of 1 min ago: squeue: Socket timed out"
    assert told in show(view, 120, 30)
    never = dataclasses.replace(view, stale_s=None)
    assert "nothing is known of its queue" in "\n".join(show(never, 120, 30))


def test_running_trials_that_do_not_fit_are_counted() -> None:
    lines = show(VIEW, 80, 24)
    shown = [line for line in lines if line[:5].isdigit()]
    assert f"and {25 - len(shown)} more running" in lines

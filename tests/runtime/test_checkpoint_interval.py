"""How often to save: the formulas against the papers' numbers, the clock in pretended time."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from orchestrator.runtime import checkpoint_interval, session
from orchestrator.runtime.checkpoint_interval import (
    ASSUMED_SAVE_S,
    MIN_INTERVAL_S,
    CheckpointClock,
    clock_from_environment,
    daly_interval_s,
    young_interval_s,
)

MIN, HOUR = 60.0, 3600.0


class Time:
    """A clock that moves when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("mtbf_s", "expected_min"),
    [(24 * HOUR, 117), (6 * HOUR, 57), (15 * MIN, 9.1)],
)
def test_daly_interval_five_minute_saves_are_those_of_the_papers_figures(
    mtbf_s: float, expected_min: float
) -> None:
    assert daly_interval_s(5 * MIN, mtbf_s) / MIN == pytest.approx(expected_min, rel=0.006)


@pytest.mark.parametrize(
    ("save_s", "mtbf_s", "young_s", "daly_s"),
    [
        (50, 100, 100, 100 * (1 + 0.5 / 3 + 0.25 / 9) - 50),
        (200, 100, 200, 100),  # a save takes twice the time between losses: nothing helps
        (1e6, 100, math.sqrt(2e8), 100),
        (0, 100, 0, 0),
        (0, math.inf, 0, 0),
        (1, math.inf, math.inf, math.inf),
    ],
)
def test_intervals_by_hand(save_s: float, mtbf_s: float, young_s: float, daly_s: float) -> None:
    assert young_interval_s(save_s, mtbf_s) == pytest.approx(young_s)
    assert daly_interval_s(save_s, mtbf_s) == pytest.approx(daly_s)


def test_daly_interval_is_where_the_expected_run_time_is_least() -> None:
    # Daly's exact model of the time to get work done, with a restart time of 0: the formula is an
    # approximation of its minimum.
    for save_s, mtbf_s in ((60, 24 * HOUR), (300, 6 * HOUR), (300, 15 * MIN)):

        def cost(tau: float, save_s: float = save_s, mtbf_s: float = mtbf_s) -> float:
            return mtbf_s * math.expm1((tau + save_s) / mtbf_s) / tau

        best = min(range(10, 20_000, 5), key=cost)
        assert daly_interval_s(save_s, mtbf_s) == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize(
    ("save_s", "mtbf_s"),
    [(-1, 1), (math.nan, 1), (math.inf, 1), (1, 0), (1, -1), (1, math.nan)],
)
def test_intervals_impossible_times_are_refused(save_s: float, mtbf_s: float) -> None:
    for formula in (young_interval_s, daly_interval_s):
        with pytest.raises(ValueError, match="no interval for a save of"):
            formula(save_s, mtbf_s)


def test_clock_follows_measured_saves_and_not_the_first_slow_one() -> None:
    time = Time()
    clock = CheckpointClock(24 * HOUR, now=time)
    assert clock.interval_s == daly_interval_s(ASSUMED_SAVE_S, 24 * HOUR)
    for seconds in (900.0, 300.0, 300.0):
        clock.saved(seconds)
    assert clock.interval_s / MIN == pytest.approx(117, rel=0.006)
    for _ in range(5):
        clock.saved(1.0)
    assert clock.save_s == 1.0


def test_clock_is_due_after_the_interval_of_work_without_the_time_of_saving() -> None:
    time = Time()
    clock = CheckpointClock(interval_s=600, now=time)
    times = []
    for _ in range(40):
        time.now += 60
        if clock.is_due():
            times.append(time.now - 1000)
            time.now += 30  # saving
            clock.saved(30)
    assert times == [600, 1230, 1860, 2490]


def test_clock_free_saves_are_not_due_at_every_step() -> None:
    time = Time()
    clock = CheckpointClock(now=time)
    clock.saved(0)
    time.now += MIN_INTERVAL_S - 1
    assert not clock.is_due()
    time.now += 1
    assert clock.is_due()


def test_clock_programs_own_interval_rules() -> None:
    time = Time()
    clock = CheckpointClock(interval_s=600, now=time)
    time.now += 60
    assert (clock.is_due(), clock.is_due(60), clock.is_due(61)) == (False, True, False)


def test_clock_save_longer_than_the_grace_warns_once_with_both_times() -> None:
    said: list[str] = []
    clock = CheckpointClock(grace_s=60, warn=said.append)
    for seconds in (59, 90, 120):
        clock.saved(seconds)
    (line,) = said
    assert line.startswith(
        "saving a checkpoint took 90 s, but a trial that is told to stop has 60 s"
    )


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_clock_impossible_save_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="a save cannot take"):
        CheckpointClock().saved(seconds)


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, daly_interval_s(ASSUMED_SAVE_S, 24 * HOUR)),
        ({"TRIAL_MTBF_S": "3600"}, daly_interval_s(ASSUMED_SAVE_S, HOUR)),
        ({"TRIAL_MTBF_S": "3600", "TRIAL_CHECKPOINT_INTERVAL_S": "90.5"}, 90.5),
        (
            {"TRIAL_MTBF_S": "0", "TRIAL_CHECKPOINT_INTERVAL_S": "soon", "TRIAL_GRACE_S": "nan"},
            daly_interval_s(ASSUMED_SAVE_S, 24 * HOUR),
        ),
    ],
)
def test_clock_from_environment(environ: dict[str, str], interval_s: float) -> None:
    assert clock_from_environment(environ, print).interval_s == interval_s


def test_session_checkpoint_due_by_the_environment_and_warns_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "_clocks", [])
    monkeypatch.setenv("TRIAL_CHECKPOINT_INTERVAL_S", "0.000000001")
    monkeypatch.setenv("TRIAL_GRACE_S", "20")
    session.checkpoint_due()  # starts the clock
    assert session.checkpoint_due()
    assert not session.checkpoint_due(3600)
    session.checkpoint_saved(21)
    assert "warning: saving a checkpoint took 21 s" in capsys.readouterr().err


def test_session_of_another_rank_does_not_repeat_the_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "_clocks", [])
    monkeypatch.setenv("TRIAL_GRACE_S", "20")
    monkeypatch.setenv("RANK", "1")
    session.checkpoint_saved(21)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "code", "output"), [(["300"], 0, "7002\n"), ([], 2, ""), (["long"], 2, "")]
)
def test_main_prints_the_seconds_for_scripts(words: list[str], code: int, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", checkpoint_interval.__name__, *words],
        env={"TRIAL_MTBF_S": "86400"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (code, output)

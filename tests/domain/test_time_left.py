"""How long a sweep still takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.contract import records
from orchestrator.contract.states import TrialState
from orchestrator.domain.durations import tell_duration
from orchestrator.domain.time_left import estimate_time_left
from orchestrator.domain.trial_files import Attempt, TrialFiles

NOW_S = 1_000_000.0
Found = tuple[TrialFiles, TrialState]


def done(number: int, *walls_s: float) -> Found:
    attempts = tuple(
        Attempt(n, wall_s=wall_s, outcome=records.COMMITTED) for n, wall_s in enumerate(walls_s, 1)
    )
    return TrialFiles(f"{number}", number, "a", attempts=attempts), TrialState.DONE


def running(number: int, since_s: float, *before_s: float) -> Found:
    attempts = [
        Attempt(n, wall_s=wall_s, outcome=records.PREEMPTED) for n, wall_s in enumerate(before_s, 1)
    ]
    started = datetime.fromtimestamp(NOW_S - since_s, UTC)
    attempts.append(Attempt(len(attempts) + 1, started_at=started))
    return TrialFiles(f"{number}", number, "a", attempts=tuple(attempts)), TrialState.RUNNING


def waiting(number: int, state: TrialState = TrialState.PENDING) -> Found:
    return TrialFiles(f"{number}", number, "a"), state


def estimate(*found: Found) -> float | None:
    states = {trial.name: state for trial, state in found}
    return estimate_time_left([trial for trial, _ in found], states, NOW_S)


def test_work_left_is_divided_by_what_runs() -> None:
    # Means of 100 s: 40 s and 60 s are left of the running ones, 100 s of each of three others.
    found = estimate(
        done(1, 80), done(2, 70, 50), running(3, 60), running(4, 40), *map(waiting, (5, 6, 7))
    )
    assert found == pytest.approx((40 + 60 + 300) / 2)


def test_at_least_what_one_running_trial_needs() -> None:
    assert estimate(done(1, 100), running(2, 10), running(3, 95)) == pytest.approx(90)


def test_earlier_attempts_count() -> None:
    assert estimate(done(1, 100), running(2, 10, 30)) == pytest.approx(60)


def test_overdue_trial_needs_nothing_more() -> None:
    assert estimate(done(1, 100), running(2, 500)) == 0


def test_unknown_without_a_done_or_a_running_trial() -> None:
    assert estimate(running(1, 10), waiting(2)) is None
    assert estimate(done(1, 100), waiting(2)) is None


def test_ended_trials_take_no_time() -> None:
    ended = (TrialState.FAILED, TrialState.CANCELLED)
    assert estimate(done(1, 100), *(waiting(n, state) for n, state in enumerate(ended, 2))) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "—"),
        (float("nan"), "—"),
        (-5, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 d"),
        (187_200, "2 d 4 h"),
    ],
)
def test_duration_in_words(seconds: float | None, words: str) -> None:
    assert tell_duration(seconds) == words

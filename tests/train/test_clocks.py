"""Every second is in one phase."""

import pytest
from clocks import PhaseClock, process_age_s, start_ticks


class Now:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def test_phases_add_up_and_nest():
    now = Now()
    clock = PhaseClock(now)
    now.seconds += 1
    with clock.phase("evaluation"):
        now.seconds += 2
        with clock.phase("data"):
            now.seconds += 4
        now.seconds += 8
    now.seconds += 16
    assert clock.take() == {"data": 4, "compute": 17, "checkpoint": 0, "evaluation": 10}
    assert sum(clock.take().values()) == 0


def test_time_taken_in_the_midst_of_a_phase_is_that_phase():
    now = Now()
    clock = PhaseClock(now)
    with clock.phase("checkpoint"):
        now.seconds += 1
        assert clock.take()["checkpoint"] == 1
        now.seconds += 2
    assert clock.take() == {"data": 0, "compute": 0, "checkpoint": 2, "evaluation": 0}


def test_phase_that_fails_ends():
    now = Now()
    clock = PhaseClock(now)
    with pytest.raises(ValueError, match="x"), clock.phase("data"):
        raise ValueError("x")
    now.seconds += 1
    assert clock.take()["compute"] == 1


def test_restart_forgets():
    now = Now()
    clock = PhaseClock(now)
    now.seconds += 5
    clock.restart()
    assert sum(clock.take().values()) == 0


def test_start_of_a_process_is_read_past_any_name():
    fields = " ".join(str(n) for n in range(4, 53))
    assert start_ticks(f"12 (a) b) (c) S {fields}\n") == 22
    assert process_age_s() > 0

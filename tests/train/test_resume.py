"""Preemption by real signals: what an interrupted trial leaves equals an uninterrupted one."""

import re
import signal
from pathlib import Path

import pytest

from tests.waiting import wait_until

pytestmark = pytest.mark.train


def resumed_from(trial):
    return int(re.search(r"resuming from .*checkpoint-(\d+)", trial.log()).group(1))


def test_interrupted_trial_equals_uninterrupted(make_trial):
    # Dropout draws random numbers in each step; the logging window (7) and the accumulation (2)
    # are cut by the interruptions.
    arguments = {
        "attention_dropout": 0.1,
        "gradient_accumulation_steps": 2,
        "max_steps": 100,
        "save_steps": 30,
    }
    whole = make_trial("whole", **arguments).run()
    cut = make_trial("cut", **arguments)

    process = cut.start(slow_after=14)
    cut.wait_for_step(process, 14)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=300) == 75, cut.log()
    stopped_at = cut.steps_saved()[-1]
    assert 14 <= stopped_at < 100
    assert max(line["step"] for line in cut.metrics()) <= stopped_at

    process = cut.start(slow_after=stopped_at + 14)
    cut.wait_for_step(process, stopped_at + 14)
    process.kill()  # without notice: steps after the last save are lost, and done again
    process.wait(timeout=300)
    assert resumed_from(cut) == stopped_at  # no step was repeated

    process = cut.start(slow_after=stopped_at + 21)
    cut.wait_for_step(process, stopped_at + 21)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 75, cut.log()
    saved = cut.steps_saved()[-1]

    cut.run()
    assert resumed_from(cut) == saved
    assert cut.curve() == whole.curve()
    assert cut.weights() == whole.weights()
    assert cut.last()["steps"] == 100
    assert cut.steps_saved() == whole.steps_saved()[-1:] or len(cut.steps_saved()) == 2
    assert not list(cut.checkpoints.glob(".tmp*"))


def test_evaluation_gives_way_to_a_preemption(make_trial):
    # Evaluating takes seconds (one sequence at a time); told to stop in its midst, the program
    # leaves at once and the next attempt makes up for it.
    arguments = {"max_steps": 8, "eval_steps": 4, "logging_steps": 4, "eval_batch_size": 1}
    whole = make_trial("whole", **arguments).run()
    cut = make_trial("cut", **arguments)
    process = cut.start(slow_after=4)
    cut.wait_for_step(process, 4)  # the report of the training loss comes before the evaluation
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=300) == 75, cut.log()
    assert cut.steps_saved() == [4]
    assert "eval_loss" not in cut.last()
    cut.run()
    assert cut.curve() == whole.curve()
    assert cut.weights() == whole.weights()


def catches(pid, signum):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE).group(1), 16)
    return bool(mask >> (signum - 1) & 1)


def test_signal_before_the_first_step_loses_nothing(make_trial):
    trial = make_trial("early")
    process = trial.start()
    wait_until(lambda: catches(process.pid, signal.SIGUSR2), on_timeout=process.poll, poll_s=0.01)
    assert process.poll() is None, "the handlers are there long before torch is loaded"
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=300) == 75, trial.log()
    assert trial.metrics() == [] or trial.steps_saved()


def test_finished_trial_run_again_only_reports(make_trial):
    trial = make_trial("twice", max_steps=4).run()
    weights, curve = trial.weights(), trial.curve()
    trial.run()  # killed after its last checkpoint, before its result was committed
    assert resumed_from(trial) == 4
    assert trial.weights() == weights
    assert trial.curve() == curve

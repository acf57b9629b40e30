"""How often a training saves: by time, in pretended time, unless it is told otherwise."""

import subprocess
import sys

import pytest
from arguments import ArgumentMistake, parse_arguments

from orchestrator.runtime import session
from orchestrator.runtime.checkpoint_interval import CheckpointClock, daly_interval_s
from tests.train.conftest import ROOT

STEP_S = 60.0


@pytest.fixture
def saves(monkeypatch):
    """Let each step take a minute and each save half of one; return the steps of the saves."""
    import trainer
    from callbacks import TrialCallback

    found = []
    time = [0.0]
    step_begins, save = TrialCallback.on_step_begin, trainer.TrialTrainer._save_checkpoint

    def on_step_begin(self, *args, **kwargs):
        time[0] += STEP_S
        step_begins(self, *args, **kwargs)

    def save_checkpoint(self, *args, **kwargs):
        found.append(self.state.global_step)
        save(self, *args, **kwargs)

    class Clock(CheckpointClock):
        def saved(self, seconds):
            time[0] += 30.0
            super().saved(30.0)

    def start(**options):
        clock = Clock(now=lambda: time[0], **options)
        monkeypatch.setattr(session, "_clocks", [clock])
        return found

    monkeypatch.setattr(TrialCallback, "on_step_begin", on_step_begin)
    monkeypatch.setattr(trainer.TrialTrainer, "_save_checkpoint", save_checkpoint)
    return start


@pytest.mark.train
def test_training_saves_as_daly_says(train_here, saves):
    mtbf_s = 2000.0
    # Until a save was timed one is taken for 10 s: after 4 steps; then each takes 30 s.
    assert -(-daly_interval_s(10, mtbf_s) // STEP_S) == 4
    assert -(-daly_interval_s(30, mtbf_s) // STEP_S) == 6
    steps = saves(mtbf_s=mtbf_s)
    train_here("daly", save_steps=-1, eval_steps=0)
    assert steps == [4, 10, 16, 22, 28, 34, 40]


@pytest.mark.train
def test_training_saves_as_the_sweep_says(train_here, saves):
    steps = saves(interval_s=15 * STEP_S)
    train_here("sweep", save_steps=-1, eval_steps=0)
    assert steps == [15, 30, 40]


@pytest.mark.train
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"save_steps": -1, "save_minutes": 12.5}, [13, 26, 39, 40]),
        ({"save_steps": 18}, [18, 36, 40]),
        ({"save_steps": 0}, [40]),
    ],
)
def test_training_own_interval_rules(train_here, saves, arguments, expected):
    steps = saves(interval_s=2 * STEP_S)
    train_here("own", eval_steps=0, **arguments)
    assert steps == expected


def test_training_two_intervals_are_refused():
    with pytest.raises(ArgumentMistake, match="--save_minutes and --save_steps: give one"):
        parse_arguments(["--save_minutes=5", "--save_steps=10"])


@pytest.mark.parametrize(
    "program", [[sys.executable, "train/plain.py"], ["bash", "train/plain.sh"]]
)
@pytest.mark.parametrize(("interval_s", "is_saved"), [("0.001", True), ("3600.0", False)])
def test_plain_programs_save_as_the_sweep_says(make_trial, program, interval_s, is_saved):
    trial = make_trial("plain")
    environ = {**trial.environ, "TRIAL_CHECKPOINT_INTERVAL_S": interval_s}
    done = subprocess.run(
        [*program, "--steps=9", "--step_s=0.01"], cwd=ROOT, env=environ, timeout=120
    )
    assert done.returncode == 0
    assert bool(list(trial.checkpoints.iterdir())) is is_saved

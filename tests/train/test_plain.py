"""The two examples without a framework keep to the protocol."""

import os
import signal
import subprocess
import sys

import pytest

from tests.waiting import wait_until

PROGRAMS = {
    "python": [sys.executable, "train/plain.py", "--steps=30"],
    "bash": ["bash", "train/plain.sh", "--steps=30"],
}


@pytest.mark.parametrize("language", PROGRAMS)
@pytest.mark.parametrize("signum", [signal.SIGUSR2, signal.SIGTERM])
def test_interrupted_equals_uninterrupted(make_trial, language, signum):
    def start(trial, *extra):
        return subprocess.Popen(
            [*PROGRAMS[language], *extra],
            env={**trial.environ, "TRIAL_ATTEMPT": "1"},
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        )

    whole, cut = make_trial("whole"), make_trial("cut")
    assert start(whole).wait(timeout=120) == 0
    process = start(cut, "--step_s=0.5")  # many seconds are left when it is told to stop
    wait_until(lambda: len(cut.metrics()) >= 3, on_timeout=process.poll)
    process.send_signal(signum)
    assert process.wait(timeout=120) == 75
    assert 3 <= cut.last()["step"] < 30
    assert start(cut).wait(timeout=120) == 0
    assert cut.metrics() == whole.metrics()

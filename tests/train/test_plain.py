"""The two examples without a framework keep to the protocol."""

import os
import signal
import subprocess
import sys
import time

import pytest

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
    assert start(whole).wait(timeout=60) == 0
    process = start(cut, "--step_s=0.05")
    deadline = time.monotonic() + 30
    while len(cut.metrics()) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signum)
    assert process.wait(timeout=10) == 75
    assert 5 <= cut.last()["step"] < 30
    assert start(cut).wait(timeout=60) == 0
    assert cut.metrics() == whole.metrics()

"""What ``launch.py`` makes of its ranks' ends and words; ranks that train are in test_ranks.py."""

import signal
import subprocess
import sys

import pytest

from tests.train.conftest import ROOT

pytestmark = pytest.mark.train

# The ranks' grace after a failure, shortened.
LAUNCH = """\
import sys
sys.path.insert(0, "train")
import launch
launch._FAILURE_GRACE_S = 0.2
sys.exit(launch.launch(2, ["-c", sys.argv[1]]))
"""
RANK = 'import os, signal, sys, time; rank = int(os.environ["RANK"]); '


def run_ranks(program):
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, RANK + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("pass", 0),
        ("sys.exit(75)", 75),
        ("sys.exit(75 * rank)", 75),
        ("sys.exit(65)", 65),
        ("sys.exit(2)", 2),
        # The other waits for the one that is gone, and must not outlive it for long.
        ("sys.exit(65) if rank else time.sleep(3600)", 65),
        ("sys.exit(2) if rank else time.sleep(3600)", 2),
        (
            "os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(3600)",
            128 + signal.SIGKILL,
        ),
        ("os.kill(os.getpid(), signal.SIGKILL) if rank else sys.exit(75)", 128 + signal.SIGKILL),
    ],
)
def test_exit_code_of_the_ranks_reaches_the_caller(program, code):
    assert run_ranks(program).returncode == code


def test_what_all_ranks_say_is_said_once():
    program = (
        'sys.path.insert(0, "train"); import launch; '
        'lines = ["all", f"rank {rank}", "a\\nll", "all"]; '
        "said = [line for line in lines if launch.is_first_to_say(line)]; "
        'sys.stderr.write("".join(f"{line!r}\\n" for line in said))'
    )
    done = run_ranks(program)
    assert sorted(done.stderr.splitlines()) == ["'a\\nll'", "'all'", "'rank 0'", "'rank 1'"]


def test_mistake_of_all_ranks_is_one_line():
    done = subprocess.run(
        [sys.executable, "train/launch.py", "--ranks=2", "train/main.py", "--learning_rat=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    said = "train/main.py: unknown argument --learning_rat; did you mean --learning_rate?"
    assert done.stderr.splitlines() == [said]

"""Watching a sweep on a Slurm: what it asks, and that it ends."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.submitting import HELD
from tests.cluster.user import User, spec

pytestmark = pytest.mark.cluster

COMMANDS = ("squeue", "sacct", "scontrol", "sinfo")


def note_calls(user: User) -> Path:
    """Put commands in front of Slurm's that note their calls and go on to the real ones."""
    folder = user.folder / "noting"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    calls = folder / "calls"
    for name in COMMANDS:
        real = shutil.which(name)
        path = folder / name
        path.write_text(f'#!/bin/bash\necho {name} >> "{calls}"\nexec {real} "$@"\n')
        path.chmod(0o755)
    user.env["PATH"] = f"{folder}:/usr/local/bin:/usr/bin:/bin"
    return calls


def test_look_asks_slurm_once_and_watch_ends_with_the_sweep(user: User) -> None:
    user.env["STEPS"] = "40"  # some seconds: most looks find some of them running
    user.write("sweep.yaml", spec("  x: {min: 1, max: 8, n: 8}"))
    user.submit()
    calls = note_calls(user)
    began = time.monotonic()
    done = user.type("watch", "sweep", "--interval", "1", "--json")
    minutes = (time.monotonic() - began) / 60
    assert done.returncode == 0, done.stdout + done.stderr
    views = [json.loads(line) for line in done.stdout.splitlines()]
    assert views[-1]["is_over"]
    assert views[-1]["counts"] == {"done": views[-1]["n_trials"]}
    asked = Counter(calls.read_text().split() if calls.exists() else ())
    # Each view had a look of its own; the last one needs no question, since all had committed.
    assert asked["squeue"] >= len(views) - 1
    # Of a task that left the queue before its result shows accounting may tell, once a minute.
    assert asked["sacct"] <= 1 + minutes
    assert asked["scontrol"] <= 1, "the cluster's name, where squeue knows no task any more"


def test_look_at_waiting_trials_is_one_question(user: User) -> None:
    user.write("sweep.yaml", spec("  x: {min: 1, max: 30, n: 30}", resources=HELD))
    user.submit()
    calls = note_calls(user)
    done = user.type("watch", "sweep", "--once", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"pending": 30}
    assert calls.read_text().split() == ["squeue"]

"""What the tests of submission share: typing `submit`, dying at a point, reading the journal."""

from __future__ import annotations

import signal
import subprocess

from tests.cluster.user import User, journal

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
ONE_STEP = {"STEPS": "1"}
HELD = {"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 10, "sbatch": {"hold": ""}}


def kinds(user: User) -> list[str]:
    return [entry["kind"] for entry in journal(user)]


def arrays(user: User) -> list[str]:
    """Ids of the arrays, ended ones too, whose name is one of the journal's tokens."""
    tokens = {entry["token"] for entry in journal(user) if entry["kind"] == "intent"}
    jobs = user.cluster.squeue(all_states=True)
    return sorted({job.job_id.partition("_")[0] for job in jobs if job.name in tokens})


def submit(user: User, *words: str) -> subprocess.CompletedProcess[str]:
    return user.type("submit", "sweep.yaml", "--cluster", "slurm", *words)


def kill_at(user: User, point: str) -> None:
    user.env["ORCHESTRATOR_FAILPOINT"] = point
    assert submit(user).returncode in KILLED
    del user.env["ORCHESTRATOR_FAILPOINT"]

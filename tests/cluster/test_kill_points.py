"""Kills `submit` at random points on a real Slurm; see tests/faults for a thousand more."""

from __future__ import annotations

import os
import random

import pytest

from tests.cluster.submitting import HELD, KILLED, submit
from tests.cluster.user import User, spec
from tests.faults.ledger import compare

pytestmark = pytest.mark.cluster

N_KILLS = 60
N_TRIALS = 4
MAX_TRIES = 5


@pytest.mark.timeout(1800)
@pytest.mark.cluster_options(max_array_size=4)
def test_a01_a02_submit_killed_at_random_points_submits_each_trial_once(
    user: User, record_property: pytest.RecordProperty
) -> None:
    seed = int.from_bytes(os.urandom(3), "big")
    chance = random.Random(seed)
    user.env["ORCHESTRATOR_SETTLE_S"] = "3"
    n_kills, n_trials = 0, 0
    while n_kills < N_KILLS:
        n_trials += N_TRIALS  # two arrays
        text = spec(f"  x: {{min: 1, max: {n_trials}, step: 1}}", resources=HELD)
        user.write("sweep.yaml", text)
        for _ in range(chance.randint(3, 7)):
            point = chance.choice(["*", "*", "journal.write.half", "sbatch.before", "sbatch.after"])
            count = chance.randint(1, 90) if point == "*" else chance.randint(1, 2)
            user.env["ORCHESTRATOR_FAILPOINT"] = f"{point}:{count}"
            n_kills += submit(user).returncode in KILLED
        del user.env["ORCHESTRATOR_FAILPOINT"]
        for _ in range(MAX_TRIES):
            done = submit(user)
            if done.returncode == 0:
                break
        assert done.returncode == 0, (seed, done)
        assert problems(user, n_trials) == [], f"seed {seed}"
    record_property("kill_points", n_kills)
    assert user.states() == {"pending": n_trials}


def problems(user: User, n_trials: int) -> list[str]:
    """Put the queue and the sweep's records side by side."""
    n_tasks: dict[tuple[str, str], int] = {}
    for job in user.cluster.squeue():
        key = (job.job_id.partition("_")[0], job.name)
        n_tasks[key] = n_tasks.get(key, 0) + 1
    queue = [(array, token, n) for (array, token), n in n_tasks.items()]
    return compare(user.folder / "results/sweep", queue, n_trials).problems

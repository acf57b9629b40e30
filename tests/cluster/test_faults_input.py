"""Secrets, foreign jobs and vanishing folders, on a real Slurm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from tests.cluster.user import User, spec

pytestmark = pytest.mark.cluster
SECRET = "hunter2"


@pytest.mark.parametrize("layout", ["step", "batch"])
def test_e16_secret_parameter_is_nowhere_in_what_slurm_shows_of_a_job(
    user: User, layout: str
) -> None:
    """Accounting keeps the lines of sbatch and srun for good, and shows them to everybody."""
    user.write("sweep.yaml", spec(f"  key: ['{SECRET} \\n']", env={"STEPS": "75"}, layout=layout))
    user.submit()
    user.await_states({"running": 1})

    def shown(*words: str) -> str:
        done = user.cluster.run_as_user(list(words))
        assert done.returncode == 0, done.stderr
        return done.stdout

    queue = shown("squeue", "-a", "-o", "%all") + shown("squeue", "-a", "-s", "-o", "%all")
    jobs = shown("scontrol", "show", "job")
    assert "sweep-" in queue
    assert SECRET not in queue + jobs
    user.await_states({"done": 1})
    (trial,) = user.trials()
    attempt = json.loads((trial / "attempts/1.json").read_text())
    history = user.cluster.wait_until(
        lambda: (
            text
            if "sbatch --parsable"
            in (text := shown("sacct", "-a", "-P", "-j", attempt["job_id"], "-o", "ALL"))
            else ""
        ),
        30,
        user.explain,
    )
    assert "sbatch --parsable" in history
    assert (layout == "step") == ("orchestrator.runtime.attempt" in history)
    assert SECRET not in history


def test_e15_job_of_another_user_with_our_name_is_not_ours(user: User) -> None:
    """Job names are public: anybody can give a job the name of an array of ours."""
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "1"}))
    token = user.submit()["arrays"][0]["token"]
    user.await_states({"done": 1})
    user.write("count.sh", "exit 3\n")
    user.write("sweep.yaml", spec("  a: [2]"))
    token = user.submit()["arrays"][0]["token"]
    user.await_states({"failed": 1, "done": 1})
    # The cluster's root is another user.
    foreign = subprocess.run(
        ["sbatch", "--parsable", f"--job-name={token}", "--array=0-0", "-p", "spot", "-t1"]
        + ["--chdir=/", "--output=/dev/null", "--wrap", "sleep 60"],
        env={**os.environ, **user.cluster.env()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()
    user.cluster.wait_until(lambda: foreign in str(user.cluster.squeue()), 20, user.cluster.squeue)
    assert user.states() == {"done": 1, "failed": 1}


def test_d16_sweep_moved_under_running_and_queued_trials_leaves_nothing_elsewhere(
    user: User,
) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "50"}, max_concurrent=1))
    user.submit()
    trial = user.cluster.wait_until(
        lambda: next((t for t in user.trials() if (t / "done").exists()), None), 60, user.explain
    )
    results = user.folder / "results"
    (results / "sweep").rename(results / "moved")
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 60, user.cluster.squeue)
    assert sorted(p.name for p in results.iterdir()) == [".last-sweep.json", "moved"]
    log = (results / "moved/trials" / trial.name / "log").read_text()
    assert "the sweep was moved or removed" in log
    assert "Traceback" not in log
    (results / "moved").rename(results / "sweep")
    user.env["ORCHESTRATOR_SETTLE_S"] = "0"
    user.cluster.wait_until(
        lambda: user.submit()["submitted"] or user.states() == {"done": 2}, 150, user.explain, 2
    )
    user.await_states({"done": 2})


@pytest.mark.parametrize("name", ["per%c %j%%", "q\"uo'te", "\u4e2d\u6587"])
def test_e02_odd_path_of_the_results_is_taken_as_it_is(user: User, name: str) -> None:
    folder = user.folder / name
    folder.mkdir()
    shutil.chown(folder, user.folder.owner(), user.folder.group())
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "1"}))
    where = ("--results", str(folder))
    done = user.type("submit", "sweep.yaml", "--cluster", "slurm", *where)
    assert done.returncode == 0, done.stderr

    def counts() -> dict[str, int]:
        answer: dict[str, int] = json.loads(user.type("status", "--json", *where).stdout)["counts"]
        return answer

    user.cluster.wait_until(lambda: counts() == {"done": 1}, 60, counts)
    logs = list(folder.rglob("*log"))
    assert len(logs) == 2

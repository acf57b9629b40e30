"""Preemption in the modes that differ most, and the faults around it, on a real Slurm.

The whole matrix is `make preemption-matrix`, and `make test-all` here; see RESULTS.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.preemption_matrix import (
    CHECKPOINT_EVERY,
    ROWS,
    STEPS_SH,
    Row,
    read_records,
    read_steps,
    run_row,
)
from tests.cluster.user import User, spec

pytestmark = pytest.mark.cluster

# Each stands for a way in which Slurm ends a job, and in which the trial comes back.
_AT_ONCE = Row("REQUEUE")
_SIGNALLED = Row("REQUEUE", 10, user_signal=True, layout="batch")
_CANCELLED = Row("CANCEL")
_GANG = Row("REQUEUE", gang=True)
_NAMED = (_AT_ONCE, _SIGNALLED, _CANCELLED, _GANG)
_IN_EVERY_RUN = (
    Row("CANCEL", 10, requeue=False),
    Row("CANCEL", accounting=False, requeue=False),
    Row("CANCEL", 10, user_signal=True, accounting=False, requeue=False),
)


def options_of(row: Row) -> pytest.MarkDecorator:
    return pytest.mark.cluster_options(**dataclasses.asdict(row.options))


def check(user: User, row: Row) -> None:
    outcome = run_row(user, row)
    assert outcome.is_as_promised, outcome
    if row in (_CANCELLED, *_IN_EVERY_RUN):
        # Slurm does not requeue here: it told the attempt, or a round of submit, what it was.
        counts = json.loads(user.type("failures", "--json").stdout)["interruptions"]
        n_left = outcome.n_attempts - outcome.n_commits  # none of a trial that was quicker
        assert {"preempted": n_left, "all": n_left} == {
            "preempted": counts["preempted"],
            "all": sum(counts.values()),
        }, outcome


@options_of(_AT_ONCE)
def test_b01_requeued_without_grace_or_signal_loses_at_most_a_checkpoint(user: User) -> None:
    check(user, _AT_ONCE)


@options_of(_SIGNALLED)
def test_b02_requeued_after_a_grace_with_the_user_signal_loses_no_step(user: User) -> None:
    check(user, _SIGNALLED)


@options_of(_CANCELLED)
def test_b05_preempted_by_cancelling_is_submitted_again(user: User) -> None:
    check(user, _CANCELLED)


@options_of(_GANG)
def test_b06_gang_preemption_without_grace_loses_at_most_a_checkpoint(user: User) -> None:
    check(user, _GANG)


def _parameters() -> list[object]:
    assert {*_NAMED, *_IN_EVERY_RUN} <= set(ROWS)
    return [
        pytest.param(
            row,
            id=row.name,
            marks=[options_of(row), *([] if row in _IN_EVERY_RUN else [pytest.mark.slow])],
        )
        for row in ROWS
        if row not in _NAMED
    ]


@pytest.mark.parametrize("row", _parameters())
def test_preempted_trials_are_done_once_and_lose_at_most_a_checkpoint(user: User, row: Row) -> None:
    check(user, row)


def root(user: User, *argv: str) -> str:
    """Run one of Slurm's commands as the operator."""
    done = subprocess.run(
        argv,
        env={**os.environ, **user.cluster.env()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def submit_steps(user: User, parameters: str, steps: int, program: str = STEPS_SH) -> str:
    """Submit a sweep of the counting program; the array's job id."""
    user.write("steps.sh", program)
    text = spec(parameters, env={"STEPS": str(steps), "EVERY": str(CHECKPOINT_EVERY)})
    user.write("sweep.yaml", text.replace("count.sh", "steps.sh"))
    job_id: str = user.submit()["arrays"][0]["job_id"]
    return job_id


def await_steps(user: User, n_trials: int, n_steps: int) -> list[Path]:
    user.cluster.wait_until(
        lambda: (
            len(user.trials()) == n_trials
            and all(len(read_steps(trial)) >= n_steps for trial in user.trials())
        ),
        60,
        user.explain,
    )
    return user.trials()


def test_b10_last_array_task_requeues_itself_and_no_sibling(user: User) -> None:
    """Its job id is the array's: `scontrol requeue $SLURM_JOB_ID` would restart every task."""
    program = STEPS_SH.replace("stop=0", 'stop=0; [ "$1" = --a=2 ] || STEPS=1', 1)
    array = submit_steps(user, "  a: [0, 1, 2]", 120, program)
    first, second, last = await_steps(user, 3, 1)
    user.cluster.wait_until(
        lambda: user.states().get("done") == 2 and len(read_steps(last)) > 3, 60, user.explain
    )
    assert read_records(last)[0]["job_id"] == read_records(last)[0]["array_job_id"] == array
    user.cluster.run_as_user(["scancel", "--signal=USR2", f"{array}_2"], check=True)
    user.cluster.wait_until(
        lambda: read_records(last)[0].get("requeue") == "requested", 30, user.explain
    )
    user.await_states({"done": 2, "requeued": 1})
    # B21: held back by Slurm for 121 s, and shown as that.
    shown = json.loads(user.type("status", "--json").stdout)["trials"][2]
    assert (shown["state"], shown["reason"]) == ("requeued", "BeginTime")
    tasks = {job.job_id: job.state for job in user.cluster.squeue(all_states=True)}
    assert {tasks[f"{array}_0"], tasks[f"{array}_1"]} == {"COMPLETED"}
    user.cluster.wait_until(
        lambda: not user.submit()["submitted"] and len(read_records(last)) == 2,
        60,
        user.explain,
        interval_s=1,
    )
    user.await_states({"done": 3})
    assert read_steps(last) == list(range(1, 121))
    for trial in (first, second):
        assert len(read_records(trial)) == 1
        assert "nothing to do" not in (trial / "log").read_text(), "it was not run again"


def test_b11_operator_requeues_the_finished_array_and_nothing_changes(user: User) -> None:
    array = submit_steps(user, "  a: [0, 1, 2]", 1)
    user.await_states({"done": 3})
    user.board()
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 30, user.explain)
    sweep = user.folder / "results/sweep"
    kept = [sweep / "leaderboard.csv", *sweep.glob("trials/*/result.json")]
    before = [path.read_bytes() for path in kept]
    root(user, "scontrol", "requeue", array)
    held: set[str] = set()

    def has_run_again() -> bool:
        for job in user.cluster.squeue():
            if job.job_id in held:  # seen before: not within the second of its end
                root(user, "scontrol", "update", f"JobId={job.job_id}", "StartTime=now")
        held.update(job.job_id for job in user.cluster.squeue() if job.reason == "BeginTime")
        logs = [(trial / "log").read_text() for trial in user.trials()]
        return all("is committed; nothing to do" in log for log in logs)

    user.cluster.wait_until(has_run_again, 90, user.explain, interval_s=2.5)
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 30, user.explain)
    assert user.states() == {"done": 3}
    user.board()
    assert [path.read_bytes() for path in kept] == before
    assert [len(read_records(trial)) for trial in user.trials()] == [1, 1, 1]
    for trial in user.trials():
        argv = [str(user.installation.python), "-m", "orchestrator.runtime.attempt"]
        began = time.monotonic()
        user.cluster.run_as_user(
            [*argv, "--trial-dir", str(trial), "--", "false"], cwd=user.folder, check=True
        )
        print(f"attempt with nothing to do: {time.monotonic() - began:.2f} s")


@pytest.mark.cluster_options(preempt_mode="CANCEL", grace_s=0)
def test_b18_suspended_trial_is_not_taken_for_dead(user: User) -> None:
    user.env |= {"ORCHESTRATOR_HEARTBEAT_S": "0.5", "ORCHESTRATOR_STALE_S": "2"}
    array = submit_steps(user, "  a: [0]", 100)
    (trial,) = await_steps(user, 1, 3)
    root(user, "scontrol", "suspend", array)

    def look() -> tuple[str, str]:
        shown = json.loads(user.type("status", "--json").stdout)["trials"][0]
        return shown["state"], shown["reason"]

    user.cluster.wait_until(lambda: look() == ("running", "no heartbeat"), 30, look)
    n_steps = len(read_steps(trial))
    assert user.submit()["submitted"] == 0
    assert len(read_steps(trial)) == n_steps, "it is suspended"
    root(user, "scontrol", "resume", array)
    user.await_states({"done": 1})
    assert read_steps(trial) == list(range(1, 101))
    assert len(read_records(trial)) == 1


@pytest.mark.slow
def test_b20_timeout_goes_on_from_its_checkpoint(user: User) -> None:
    """It hears no signal, so Slurm kills it at its limit; `submit` takes it up again."""
    deaf = STEPS_SH.replace("trap 'stop=1;", "trap '' TERM USR2; : '", 1)
    user.write("steps.sh", deaf)
    text = spec(
        "  a: [0]",
        env={"STEPS": "450", "EVERY": str(CHECKPOINT_EVERY)},
        resources={"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 1},
    )
    user.write("sweep.yaml", text.replace("count.sh", "steps.sh"))
    user.submit()
    (trial,) = await_steps(user, 1, 3)
    user.cluster.wait_until(
        lambda: user.states() == {"interrupted": 1}, 200, user.explain, interval_s=2
    )
    shown = json.loads(user.type("status", "--json").stdout)["trials"][0]
    assert shown["reason"] == "time limit"
    assert user.submit()["submitted"] == 1
    user.await_states({"done": 1}, 200)
    steps = read_steps(trial)
    assert set(steps) == set(range(1, 451))
    assert len(steps) - 450 <= CHECKPOINT_EVERY
    first = json.loads((trial / "result.json").read_text())["attempts"][0]
    assert (first["outcome"], first["signal"]) == (None, "SIGUSR2")
    assert first["stopping_s"] > 0

"""Who runs an attempt, read from Slurm's environment."""

from __future__ import annotations

from orchestrator.domain.attempt_record import make_attempt
from orchestrator.runtime import job

TASK = {
    "SLURM_JOB_ID": "125",
    "SLURM_ARRAY_JOB_ID": "120",
    "SLURM_ARRAY_TASK_ID": "4",
    "SLURM_RESTART_COUNT": "2",
    "SLURM_JOB_NAME": "demo-1a2b",
}


def test_describe_job_of_an_array_task() -> None:
    assert job.describe_job(TASK) == {
        "job_id": "125",
        "array_job_id": "120",
        "array_task_id": 4,
        "restart_count": 2,
        "token": "demo-1a2b",
    }


def test_described_job_is_what_the_login_node_reads() -> None:
    problems: list[str] = []
    attempt = make_attempt(1, {**job.describe_process(), **job.describe_job(TASK)}, None, problems)
    assert problems == []
    assert (attempt.token, attempt.array_task_id, attempt.job_id) == ("demo-1a2b", 4, "125")


def test_describe_job_by_itself_and_none() -> None:
    assert job.describe_job({"SLURM_JOB_ID": "9"}) == {
        "job_id": "9",
        "array_job_id": None,
        "array_task_id": None,
        "restart_count": 0,
        "token": None,
    }
    assert job.describe_job({}) == {}


def test_slurm_task_id_never_names_a_whole_array() -> None:
    """Of the last task SLURM_JOB_ID equals the array's id, and would requeue every task."""
    assert job.slurm_task_id({**TASK, "SLURM_JOB_ID": "120"}) == "120_4"


def test_is_alive_here_knows_this_process_and_a_past_one() -> None:
    mine = job.describe_process()
    assert job.is_alive_here(mine) is True
    assert job.is_alive_here({**mine, "pid_start": 1}) is False
    assert job.is_alive_here({**mine, "boot_id": "before"}) is False
    assert job.is_alive_here({**mine, "host": "another"}) is None

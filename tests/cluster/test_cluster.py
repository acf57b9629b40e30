"""Tests that the test cluster is a cluster: what the other tests take for granted about it.

Each submits as the ordinary user. Runs on the machine of the cluster, as root.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster.cluster import USER, Cluster, ClusterOptions

pytestmark = pytest.mark.cluster
wait_until = Cluster.wait_until

# A step that notes when it was told to end, and then ignores it until it is killed.
STEP = """#!/bin/bash
trap 'echo "term $(date +%s.%N)" >> step.log' TERM
echo "start ${SLURM_RESTART_COUNT:-0} $(date +%s.%N)" >> step.log
while :; do sleep 0.1; done
"""


def submit(cluster: Cluster, folder: Path, script: str, options: Sequence[str] = ()) -> str:
    """Submits a batch script as the ordinary user; returns the job id."""
    argv = ["sbatch", "--parsable", "--output=%A_%a.out", *options, "--wrap", script]
    return cluster.run_as_user(argv, cwd=folder, check=True).stdout.strip()


def states(cluster: Cluster, name: str) -> dict[str, str]:
    """The states of the jobs of this name, by job id."""
    return {job.job_id: job.state for job in cluster.squeue(all_states=True) if job.name == name}


def wait_for_state(
    cluster: Cluster, name: str, state: str, timeout_s: float = 20, n_jobs: int = 1
) -> None:
    """Waits until there are so many jobs of this name, all in this state."""
    wait_until(
        lambda: list(states(cluster, name).values()) == [state] * n_jobs,
        timeout_s,
        lambda: cluster.squeue(all_states=True),
    )


def take_every_node(cluster: Cluster, folder: Path, name: str) -> str:
    """Submits a job to `ondemand` that leaves no room for any other."""
    nodes = cluster.options.n_nodes
    options = ["-p", "ondemand", f"--nodes={nodes}", "--exclusive", "-J", name]
    return submit(cluster, folder, "sleep 200", options)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_job_of_ordinary_user_runs_as_that_user_with_its_gpus(
    cluster: Cluster, user_dir: Path
) -> None:
    job = submit(cluster, user_dir, "id -un; echo $CUDA_VISIBLE_DEVICES", ["--gpus=2", "-J", "gpu"])
    wait_for_state(cluster, "gpu", "COMPLETED")
    out = wait_until(lambda: read(user_dir / f"{job}_4294967294.out"), 5)
    assert out == f"{USER}\n0,1\n"


def test_job_finds_the_cluster_without_the_callers_environment(
    cluster: Cluster, user_dir: Path
) -> None:
    submit(cluster, user_dir, 'echo "$SLURM_CONF" > conf', ["--export=NONE", "-J", "conf"])
    wait_for_state(cluster, "conf", "COMPLETED")
    assert read(user_dir / "conf").strip() == str(cluster.slurm_conf)


def test_array_of_five_runs_every_index(cluster: Cluster, user_dir: Path) -> None:
    submit(cluster, user_dir, "touch ran.$SLURM_ARRAY_TASK_ID", ["--array=0-4", "-J", "five"])
    wait_for_state(cluster, "five", "COMPLETED", n_jobs=5)
    assert sorted(path.name for path in user_dir.glob("ran.*")) == [f"ran.{i}" for i in range(5)]


def test_one_gpu_jobs_fill_every_gpu_at_once(cluster: Cluster, user_dir: Path) -> None:
    options = cluster.options
    n_gpus = options.n_nodes * options.gpus_per_node
    submit(cluster, user_dir, "sleep 200", [f"--array=1-{n_gpus + 1}", "--gpus=1", "-J", "fill"])
    expected = ["PENDING"] + ["RUNNING"] * n_gpus
    wait_until(lambda: sorted(states(cluster, "fill").values()) == expected, 20, cluster.squeue)


def test_sacct_shows_a_job_that_has_ended(cluster: Cluster, user_dir: Path) -> None:
    job = submit(cluster, user_dir, "exit 3", ["-J", "three"])
    argv = ["sacct", "-X", "-n", "-P", "-j", job, "-o", "JobName,State,ExitCode,User"]

    def row() -> str:
        return cluster.run_as_user(argv, check=True).stdout.strip()

    wait_until(lambda: row() == f"three|FAILED|3:0|{USER}", 20, row)


def test_cancel_all_leaves_no_job_behind(cluster: Cluster, user_dir: Path) -> None:
    submit(cluster, user_dir, "sleep 200", ["--array=0-5", "-J", "cancel"])
    wait_for_state(cluster, "cancel", "RUNNING", n_jobs=6)
    submit(cluster, user_dir, "true", ["--hold", "-J", "held"])
    cluster.cancel_all()
    assert cluster.squeue() == []
    assert states(cluster, "held") != {}
    assert set(states(cluster, "cancel").values()) == {"CANCELLED"}


def test_job_outlives_a_killed_controller(cluster: Cluster, user_dir: Path) -> None:
    submit(cluster, user_dir, "sleep 15; touch done", ["-J", "outlives"])
    wait_for_state(cluster, "outlives", "RUNNING")
    time.sleep(8)  # slurmctld saves its state after 5 s at most: SAVE_MAX_WAIT in its state_save.c
    cluster.kill("slurmctld")
    assert not cluster.is_up()
    cluster.start("slurmctld")
    wait_for_state(cluster, "outlives", "COMPLETED", timeout_s=40)
    assert (user_dir / "done").exists()


def test_heal_mends_killed_and_frozen_daemons(cluster: Cluster, user_dir: Path) -> None:
    cluster.kill("slurmd-n2")
    cluster.freeze("slurmd-n3")
    cluster.freeze("slurmdbd")
    cluster.heal()
    assert cluster.is_up()
    submit(cluster, user_dir, "true", ["--nodes=4", "-J", "healed"])
    wait_for_state(cluster, "healed", "COMPLETED")


def test_run_as_user_ends_a_command_that_takes_too_long(cluster: Cluster, user_dir: Path) -> None:
    with pytest.raises(TimeoutError, match="nothing"):
        wait_until(lambda: 0, 0.1, "nothing")
    script = "sleep 6 && touch survived"
    with pytest.raises(Exception, match="timed out after"):
        cluster.run_as_user(["bash", "-c", script], cwd=user_dir, timeout_s=0.3)
    time.sleep(6.5)
    assert not (user_dir / "survived").exists()


def test_preempted_job_is_told_at_once_and_requeued(cluster: Cluster, user_dir: Path) -> None:
    grace_s = cluster.options.grace_s
    (user_dir / "step.sh").write_text(STEP)
    script = "exec srun bash step.sh"
    job = submit(cluster, user_dir, script, ["-p", "spot", "--requeue", "-J", "victim"])
    wait_until(lambda: "start 0" in read(user_dir / "step.log"), 20, cluster.squeue)
    begin = time.monotonic()
    taker = take_every_node(cluster, user_dir, "taker")
    wait_until(lambda: "term" in read(user_dir / "step.log"), 10, cluster.squeue)
    assert time.monotonic() - begin < grace_s  # at its start, not with the kill at its end
    assert states(cluster, "victim") == {job: "RUNNING"}
    wait_for_state(cluster, "victim", "PENDING", timeout_s=grace_s + 40)
    assert time.monotonic() - begin >= grace_s - 1
    wait_for_state(cluster, "taker", "RUNNING")
    assert next(iter(states(cluster, "taker"))) == taker

    def attempts() -> list[str]:
        argv = ["sacct", "-D", "-X", "-n", "-P", "-j", job, "-o", "State"]
        return cluster.run_as_user(argv, check=True).stdout.split()

    wait_until(lambda: attempts() == ["PREEMPTED", "PENDING"], 20, attempts)


def test_restart_with_other_options_behaves_otherwise_and_back(
    cluster: Cluster, user_dir: Path
) -> None:
    before = submit(cluster, user_dir, "sleep 60", ["-J", "before"])
    cluster.restart(ClusterOptions(preempt_mode="CANCEL", grace_s=0))
    assert cluster.squeue(all_states=True) == []
    sacct = ["sacct", "-X", "-n", "-P", "-S", "now-1day", "-o", "JobID,JobName"]
    assert cluster.run_as_user(sacct, check=True).stdout == ""
    job = submit(cluster, user_dir, "exec sleep 60", ["-p", "spot", "--requeue", "-J", "victim"])
    assert int(job) <= int(before)
    wait_for_state(cluster, "victim", "RUNNING")
    take_every_node(cluster, user_dir, "taker")
    wait_for_state(cluster, "victim", "PREEMPTED")
    cluster.restart(ClusterOptions())
    assert cluster.options == ClusterOptions()
    config = cluster.run_as_user(["scontrol", "show", "partition", "spot"], check=True).stdout
    assert "PreemptMode=REQUEUE" in config
    assert "GraceTime=20" in config


@pytest.mark.cluster_options(accounting=False, user_signal=True, n_nodes=2)
def test_cluster_without_accounting_runs_jobs_and_refuses_sacct(
    cluster: Cluster, user_dir: Path
) -> None:
    assert "slurmdbd" not in cluster.daemons()
    submit(cluster, user_dir, "true", ["--nodes=2", "-J", "plain"])
    wait_for_state(cluster, "plain", "COMPLETED")
    done = cluster.run_as_user(["sacct"])
    assert (done.returncode, "storage is disabled" in done.stderr) == (1, True)

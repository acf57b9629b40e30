"""``plan`` on a real Slurm: the founding grid on ten nodes, limits of accounts, refusals."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import readme
from tests.cluster.user import User, spec

pytestmark = pytest.mark.cluster

# Of the founding document: 162 trials, 4 h each, 10 instances of 8 GPUs, 10,800 CNY on demand and
# 1,450 CNY on spot instances; 10,800 / 5,184 GPU-hours = 2.0833, 1,450 / 5,184 = 0.28.
GRID = """\
  learning_rate: [1e-5, 3e-5, 5e-5]
  per_device_train_batch_size: [16, 32, 64]
  weight_decay: [0.01, 0.05, 0.1]
  warmup_steps: [100, 500, 1000]
  optimizer: [adamw, lamb]"""
PROFILES = """\
spot: {template: base.sbatch.j2, price_per_gpu_hour: 0.28, currency: CNY}
ondemand: {template: base.sbatch.j2, price_per_gpu_hour: 2.0833, currency: CNY}
"""
FOUNDING = {"gpus": 8, "cpus": 8, "mem_gb": 64, "time": "4:00:00"}


@pytest.fixture
def templates(user: User) -> Path:
    folder = user.folder / "templates"
    folder.mkdir()
    folder.chmod(0o755)
    base = user.installation.project / "templates/base.sbatch.j2"
    shutil.copy(base, folder / "base.sbatch.j2")
    (folder / "partitions.yaml").write_text(PROFILES)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def tree(user: User) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in user.folder.rglob("*"))


def plan(user: User, *words: str, code: int = 0) -> dict[str, Any]:
    done = user.type("plan", "sweep.yaml", "--json", *words)
    assert done.returncode == code, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.cluster_options(n_nodes=10)
def test_founding_grid_on_ten_nodes_takes_68_hours_not_8(user: User, templates: Path) -> None:
    del templates
    user.write("sweep.yaml", spec(GRID, resources=FOUNDING))
    before = tree(user), user.cluster.squeue()
    done = user.cluster.run_as_user(
        [*shlex.split(readme.PLAN), f"RESULTS={user.folder}/none"],
        cwd=user.installation.project,
        timeout_s=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = readme.README.read_text(encoding="utf-8").partition(readme.PLAN)[2]
    shown = shown.partition("```text\n")[2].partition("```")[0]
    print(done.stdout)
    for line in shown.splitlines():
        assert line in done.stdout, f"the README shows: {line}\n{done.stdout}"
    done = user.type("plan", "sweep.yaml")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    for expected in (
        "sweep: 162 trials on Slurm, partition spot",
        "array 1 [0-161] 162 trials, each with 8 GPUs, 8 CPUs, 64 GB, 4:00 h",
        "batch 16 x accumulation 1 x 8 GPUs = 128 effective",
        "batch 64 x accumulation 1 x 8 GPUs = 512 effective",
        "162 trials x 4 h x 1 instance = 648 instance-hours",
        "162 trials x 4 h x 8 GPUs = 5184 GPU-hours",
        "5184 GPU-hours x 0.28 CNY = 1451.52 CNY at most",
        "10: partition spot has 10 nodes of 8 GPUs, 16 CPUs, 1000 GB",
        "162 trials, 10 at a time = 17 waves x 4 h = 68 h at most",
        "80 of its 80 GPUs are free now",
        "would take it (sbatch --test-only); the first trial could start at",
    ):
        assert expected in words, f"{expected}\n{done.stdout}"
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
    # The document's other price, and its own ceiling instead of the cluster's.
    report = plan(user, "partition=ondemand", "max_concurrent=5")
    assert report["cost"]["arithmetic"] == ["5184 GPU-hours x 2.0833 CNY = 10799.83 CNY"]
    assert (report["wall"]["waves"], report["wall"]["hours"]) == (33, 132)
    script = user.type("plan", "sweep.yaml", "--script", "161")
    assert "#SBATCH --gres=gpu:8" in script.stdout
    assert "--learning_rate=5e-05" in script.stdout
    array = user.type("plan", "sweep.yaml", "--array", "1")
    assert "#SBATCH --array=0-161\n" in array.stdout
    # A node of 8 GPUs is asked for nine, five nodes of ten too many, a partition that is not there.
    for override, said in (
        ("resources.gpus=9", "none of them large enough; a trial asks for 9 GPUs"),
        ("resources.nodes=11", "only 10 of them large enough"),
    ):
        refused = plan(user, override, code=2)
        assert any(said in problem for problem in refused["problems"]), refused["problems"]
        assert any("would refuse it" in problem for problem in refused["problems"])
    assert (tree(user), user.cluster.squeue()) == before, "nothing written, nothing submitted"


@pytest.mark.cluster_options(
    extra=(
        "AccountingStorageEnforce=associations,limits,qos",
        "PartitionName=debug Nodes=n1 MaxNodes=1 MaxTime=30 State=UP",
    )
)
def test_plan_knows_the_limits_and_what_is_left(user: User, templates: Path) -> None:
    (templates / "partitions.yaml").write_text(
        PROFILES + "debug: {template: base.sbatch.j2, defaults: {gpus: 1, time: 30}}\n"
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "1"}))
    assert user.submit()["submitted"] == 2
    user.await_states({"done": 2})
    grown = "a=1,2,3,4,5,6,7,8"
    report = plan(user, grown)
    assert (report["states"], report["n_to_submit"]) == ({"new": 6, "done": 2}, 6)
    (shape,) = report["shapes"]
    assert (shape["time_from"], shape["n_measured"]) == ("measured", 2)
    assert report["spent"]["gpu_hours"] > 0
    assert [limit["at_a_time"] for limit in shape["limits"]] == [32]

    for change in ("MaxJobs=4", "MaxSubmitJobs=5", "MaxTRESPerJob=gres/gpu=2"):
        set_limit(user, change)
    wait_for_limit(user, "MaxTRESPJ=gres/gpu=2")
    (shape,) = plan(user, grown, "resources.gpus=2")["shapes"]
    assert shape["limits"][0] == {
        "at_a_time": 4,
        "why": "account sweeps (user sweeper) allows a user 4 running jobs",
    }
    report = plan(user, grown)
    assert any("allows a user 5 queued and running jobs" in w for w in report["warnings"])
    refused = plan(user, grown, "resources.gpus=3", code=2)
    assert any("allows a job 2 GPUs, a trial asks for 3 GPUs" in p for p in refused["problems"])
    refused = plan(user, grown, "partition=debug", "resources.time=1:00:00", code=2)
    assert refused["problems"][0] == (
        "partition debug allows 1 node, 0:30 h; a trial asks for 1:00 h"
    )

    # What is queued is unknown while nobody answers: the plan is shown, and the code says so.
    user.write("sweep.yaml", spec("  a: [9]", env={"STEPS": "2000"}))
    assert user.submit()["submitted"] == 1
    user.cluster.kill("slurmctld")
    report = plan(user, code=3)
    assert report["unreachable"]
    assert (report["n_to_submit"], report["n_left"]) == (0, 1)
    assert any("Slurm does not answer" in warning for warning in report["warnings"])


def set_limit(user: User, change: str) -> None:
    argv = ["sacctmgr", "-i", "modify", "user", "sweeper", "set", change]
    environ = {**os.environ, **user.cluster.env()}
    subprocess.run(argv, env=environ, check=True, capture_output=True, timeout=60)


def wait_for_limit(user: User, words: str) -> None:
    """Wait until the controller has heard of a limit."""

    def is_known() -> bool:
        argv = ["scontrol", "-o", "show", "assoc_mgr", "flags=assoc", "users=sweeper"]
        return words in user.cluster.run_as_user(argv, check=True).stdout

    user.cluster.wait_until(is_known, 60)

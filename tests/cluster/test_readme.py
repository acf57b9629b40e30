"""The README's commands on a Slurm, typed in order by the ordinary user."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import readme
from tests.cluster.cluster import Cluster
from tests.cluster.installation import ROOT
from tests.cluster.user import User

pytestmark = pytest.mark.cluster


def test_commands_of_a_first_sweep(user: User) -> None:
    results = user.folder / "results"
    outputs = []
    more = [readme.EXPLAIN, readme.FAILURES, readme.LOGS]
    bounds = {readme.SUPERVISE: ["ARGS=--rounds 1"], readme.WATCH: ["ARGS=--once"]}
    for command in [*readme.ON_SLURM, *more, *readme.RELEASE]:
        bound = bounds.get(command, [])
        done = user.cluster.run_as_user(
            [*shlex.split(command), f"RESULTS={results}", *bound],
            cwd=user.installation.project,
            timeout_s=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        outputs.append(done.stdout)
    plan, submit, supervise, watch, status, _, again, story, failures, log, *releases = outputs[2:]
    assert "162 new; to submit: 162" in plan
    assert "[0-161%10]: 162 trials" in submit
    assert "162 pending" in supervise or " running" in supervise
    assert watch.startswith("deepseek-sft: ")
    assert "of 162 trials done" in status
    assert "0 of 162 trials failed" in failures
    assert re.search(r"attempt 1 on n[1-4], job|has no log yet", log), log
    assert "submit: submitted: Slurm took it as array " in story
    assert "submitted: 0" in again
    assert all("released: nothing was held" in words for words in releases)
    assert (results / "deepseek-sft/leaderboard.csv").exists()


def test_doctor_names_the_traps_of_the_test_cluster(user: User) -> None:
    done = user.cluster.run_as_user(
        [*shlex.split(readme.DOCTOR), f"RESULTS={user.folder}/results"],
        cwd=user.installation.project,
        timeout_s=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile spot: partition spot, PreemptMode=REQUEUE, grace 20 s" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.skipif(os.getuid() != 0, reason="daemons are started by root")
def test_cluster_up_and_down(cluster: Cluster) -> None:
    del cluster  # only for the reason why there can be none
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="cluster-") as folder:
        os.chmod(folder, 0o755)
        environ = {**os.environ, "ORCHESTRATOR_CLUSTER_DIR": folder}
        outputs = []
        for command in readme.CLUSTER:
            done = subprocess.run(
                shlex.split(command),
                cwd=ROOT,
                env=environ,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            outputs.append(done.stdout)
        assert "make submit" in outputs[0], "it says how to submit to it"
        assert not Path(folder, "state.json").exists()
        for path in Path(folder, "run").glob("*.pid"):
            words = Path("/proc", path.read_text().strip(), "cmdline")
            assert not words.exists() or not words.read_bytes(), f"{path.name} runs on"

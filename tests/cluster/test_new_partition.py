"""The sysadmins' guide of the README, word for word, on a Slurm that gets a new partition."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.partition_draft import TO_FILL
from tests import readme
from tests.cluster.cluster import USER, Cluster
from tests.cluster.user import User

pytestmark = pytest.mark.cluster

# What a sysadmin does in the editor: writes the price, and keeps the currency.
EDITOR = f"""\
#!/bin/bash
exec sed -i -e 's/\\(price_per_gpu_hour:\\) 0 .*/\\1 12.50/' -e 's/ *# {TO_FILL}.*//' "$1"
"""


@pytest.fixture
def checkout(user: User) -> Path:
    """A checkout whose templates are the user's own."""
    folder = user.folder / "checkout"
    folder.mkdir()
    for path in user.installation.project.iterdir():
        if path.name not in ("templates", "results", ".git"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(user.installation.project / "templates", folder / "templates")
    for path in [folder, *folder.rglob("templates"), *folder.rglob("templates/*")]:
        shutil.chown(path, USER, USER)
    user.write("editor", EDITOR)
    return folder


@pytest.fixture
def new_partition(cluster: Cluster) -> Iterator[None]:
    def scontrol(*words: str) -> None:
        subprocess.run(
            ["scontrol", *words], env=cluster.env(), check=True, capture_output=True, timeout=60
        )

    words = ["Nodes=n[1-2]", "MaxTime=12:00:00", "State=UP", "PreemptMode=OFF"]
    scontrol("create", "PartitionName=h100", *words)
    yield
    cluster.cancel_all()
    scontrol("delete", "PartitionName=h100")


def type_in(checkout: Path, user: User, command: str) -> subprocess.CompletedProcess[str]:
    env = {"RESULTS": str(user.folder / "results"), "EDITOR": str(user.folder / "editor")}
    return user.cluster.run_as_user(
        ["bash", "-c", command], cwd=checkout, env={**user.env, **env}, timeout_s=120
    )


def test_guide_adds_a_partition_and_a_sweep_runs_on_it(
    user: User, checkout: Path, new_partition: None
) -> None:
    del new_partition
    outputs = []
    for command in readme.PARTITION:
        done = type_in(checkout, user, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        outputs.append(done.stdout)
    draft, _, lint, submit = outputs
    assert "gpus_per_node: 8" in draft
    assert "max_time: 12:00:00" in draft
    assert "nodes: 2" in draft
    assert "price_per_gpu_hour: 0 " in draft
    assert f"edit the 2 lines that say '{TO_FILL}'" in draft
    assert "headers tried with sbatch --test-only" in lint
    assert "all well" in lint
    assert "submitted: 6" in submit
    user.await_states({"done": 6}, name="try-h100")
    rows = user.board("try-h100")
    assert {row["currency"] for row in rows} == {"CNY"}
    assert all(float(row["cost"]) > 0 for row in rows)


def test_lint_asks_slurm_about_profiles_and_headers(user: User, checkout: Path) -> None:
    with open(checkout / "templates/partitions.yaml", "a") as file:
        file.write("gone: {template: base.sbatch.j2}\n")
        file.write("big: {slurm_partition: cpu, template: cpu.sbatch.j2, gpus_per_node: 9,\n")
        file.write("      qos: nowhere, defaults: {gpus: 9}}\n")
    command = f"{user.installation.python} -m orchestrator lint --cluster slurm --json"
    done = type_in(checkout, user, command)
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)
    found = [(item["line"], item["check"], item["message"]) for item in report["findings"]]
    first = (checkout / "templates/partitions.yaml").read_text().split("\n").index(
        "gone: {template: base.sbatch.j2}"
    ) + 1
    said = "gone.slurm_partition: Slurm has no partition 'gone'; it has: spot, ondemand, cpu"
    assert (first, "limit", said) in found
    at_big = (first + 1, "limit", "big.gpus_per_node: 9; the largest node of cpu has 8")
    assert at_big in found
    refused = [item for item in found if item[1] == "test-only"]
    assert refused
    assert all("profile big: sbatch would refuse its" in item[2] for item in refused)

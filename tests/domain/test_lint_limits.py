"""Profiles against what their Slurm partitions have."""

from __future__ import annotations

import pytest

from orchestrator.domain.lint_limits import find_beyond
from orchestrator.domain.partition_loader import load_profiles
from orchestrator.domain.plan_nodes import NodeConfig
from orchestrator.domain.site import PartitionConfig

PARTITIONS = {"gpu": PartitionConfig("gpu", max_time_min=600, n_nodes=2, grace_s=30)}
NODES = [
    NodeConfig("g1", cpus=64, mem_mb=102_400, gpus={"h100": 8}, partitions=("gpu",)),
    NodeConfig("g2", cpus=32, mem_mb=51_200, gpus={"h100": 4}, partitions=("gpu", "x")),
    NodeConfig("c1", cpus=999, mem_mb=999_999, partitions=("x",)),
]


def find(text: str) -> list[tuple[int | None, str, str]]:
    (profile,) = load_profiles(text, file="p.yaml").values()
    found = find_beyond(profile, PARTITIONS, NODES)
    assert {finding.file for finding in found} <= {"p.yaml"}
    return [(finding.line, finding.severity, finding.message) for finding in found]


def test_find_beyond_profile_that_fits_is_let_pass() -> None:
    text = "gpu: {gpus_per_node: 8, cpus_per_node: 64, mem_gb_per_node: 100, max_time: 10:00:00,\n"
    text += "  gpu_type: H100, nodes: 2, grace_s: 30, defaults: {gpus: 8, time: 60}}\n"
    assert find(text) == []


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("gpus_per_node: 9", "gpu.gpus_per_node: 9; the largest node of gpu has 8"),
        ("cpus_per_node: 65", "gpu.cpus_per_node: 65; the largest node of gpu has 64"),
        ("mem_gb_per_node: 101", "gpu.mem_gb_per_node: 101; the largest node of gpu has 100"),
        ("nodes: 3", "gpu.nodes: 3; partition gpu has 2"),
        ("max_time: 601", "gpu.max_time: 601 minutes; partition gpu runs jobs for 600 at most"),
        ("defaults: {gpus: 9}", "gpu.defaults.gpus: 9; the largest node of gpu has 8"),
        (
            "gpu_type: a100",
            "gpu.gpu_type: 'a100': no node of gpu has such GPUs; Slurm knows h100",
        ),
    ],
)
def test_find_beyond_names_the_line(key: str, message: str) -> None:
    assert find(f"gpu:\n  preemptible: true\n  {key}\n") == [(3, "problem", message)]


def test_find_beyond_grace_is_a_warning() -> None:
    said = "gpu.grace_s: 60; partition gpu has GraceTime=30"
    assert find("gpu:\n  grace_s: 60\n") == [(2, "warning", said)]


def test_find_beyond_partition_that_slurm_does_not_have() -> None:
    said = "g.slurm_partition: Slurm has no partition 'gpux'; did you mean gpu? it has: gpu"
    assert find("g:\n  slurm_partition: gpux\n") == [(2, "problem", said)]

"""Nodes as Slurm describes them, and what fits on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.domain.partition import JobShape
from orchestrator.domain.plan_nodes import (
    NodeConfig,
    Packing,
    count_concurrent,
    describe_nodes,
    expand_hosts,
    fit_on,
    parse_gpus,
    parse_nodes,
    parse_packing,
)
from tests.domain import sites

# Output of a real cluster: three GPUs of n1 in use, n4 drained; names made neutral.
NODES = (Path(__file__).parent / "data/nodes-22.05.8.txt").read_text()
# MADE FROM THE MANUALS of 24.05 and 26.05 (scontrol(1), gres.conf(5)).
NEWER = """\
NodeName=gpu01 Arch=x86_64 CoresPerSocket=48
   CPUAlloc=12 CPUEfctv=188 CPUTot=192 CPULoad=3.10
   AvailableFeatures=h100 ActiveFeatures=h100
   Gres=gpu:h100:8(S:0-1),nvme:no_consume:1
   GresDrain=N/A
   GresUsed=gpu:h100:3(IDX:0-2)
   NodeAddr=gpu01 NodeHostName=gpu01 Version=24.05.4
   RealMemory=1000000 AllocMem=65536 FreeMem=800000 Sockets=2 Boards=1
   CoreSpecCount=2 CPUSpecList=0-3 MemSpecLimit=16000
   State=MIXED+DYNAMIC_NORM+PLANNED ThreadsPerCore=2 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A
   Partitions=h100,debug

NodeName=cloud1 CPUTot=8 Gres=gpu:a100:2(S:0),gpu:1g.10gb:7,shard:14 GresUsed=gpu:0
   State=IDLE+CLOUD+POWERED_DOWN Partitions=h100 RealMemory=64000
NodeName=gone State=DOWN+NOT_RESPONDING CPUTot=8 Gres=(null) Partitions=h100
"""
NODE = NodeConfig("a", cpus=16, mem_mb=64 * 1024, gpus={"": 8})


def shape(nodes: int = 1, gpus: int = 1, cpus: int = 2, mem_gb: int | None = 4) -> JobShape:
    return JobShape(nodes, gpus, None, cpus, None if mem_gb is None else mem_gb * 1024, 60)


def test_parse_nodes_of_22_05() -> None:
    first, second, _, last = parse_nodes(NODES)
    assert first == NodeConfig(
        "n1", 16, 1_024_000, {"": 8}, 3, 1, True, ("spot", "ondemand", "cpu")
    )
    assert (second.name, second.used_gpus, second.is_up) == ("n2", 0, True)
    assert (last.name, last.is_up) == ("n4", False)


def test_parse_nodes_of_newer_releases() -> None:
    gpu, cloud, gone = parse_nodes(NEWER)
    assert gpu == NodeConfig("gpu01", 188, 984_000, {"h100": 8}, 3, 2, True, ("h100", "debug"))
    assert (cloud.gpus, cloud.is_up) == ({"a100": 2, "1g.10gb": 7}, True)
    assert (cloud.count_gpus(), cloud.count_gpus("A100"), cloud.count_gpus("h100")) == (9, 2, 0)
    assert (gone.gpus, gone.is_up) == ({}, False)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("gpu:8", {"": 8}),
        ("gpu:h100:8(S:0-1)", {"h100": 8}),
        ("gpu:a100:4(S:0),gpu:v100:2(S:1)", {"a100": 4, "v100": 2}),
        ("gpu:A100:2,gpu:a100:2", {"a100": 4}),
        ("gpu:h100:3(IDX:0-2),license:5", {"h100": 3}),
        ("gpu_mem:80G,vgpu:3,mps:400", {}),
        ("gpu:tesla:2K", {"tesla": 2048}),
        ("(null)", {}),
        ("", {}),
    ],
)
def test_parse_gpus(text: str, gpus: dict[str, int]) -> None:
    assert parse_gpus(text) == gpus


def test_parse_packing() -> None:
    assert parse_packing(sites.CONFIG) == Packing(False, False, True)
    linear = "SelectType              = select/linear\nSelectTypeParameters    = CR_MEMORY\n"
    assert parse_packing(linear) == Packing(True, False, True)
    assert parse_packing("SelectTypeParameters = CR_CORE,CR_PACK_NODES") == Packing(
        False, True, False
    )
    assert parse_packing("") == Packing(False, True, True), "Slurm's default is CR_Core_Memory"


@pytest.mark.parametrize(
    ("wanted", "packing", "fit"),
    [
        (shape(), Packing(), 8),  # by GPUs and by CPUs
        (shape(gpus=8), Packing(), 1),
        (shape(gpus=9), Packing(), 0),
        (shape(gpus=0, cpus=1, mem_gb=None), Packing(), 16),
        (shape(gpus=0, cpus=1, mem_gb=5), Packing(), 12),
        (shape(gpus=0, cpus=1, mem_gb=5), Packing(by_memory=False), 16),
        (shape(gpus=0, cpus=3, mem_gb=None), Packing(by_core=True), 4),  # 3 threads are 2 cores
        (shape(gpus=0, cpus=1, mem_gb=None), Packing(whole_nodes=True), 1),
        (shape(gpus=0, cpus=1, mem_gb=None), Packing(max_cpus_per_node=6), 6),
    ],
)
def test_fit_on(wanted: JobShape, packing: Packing, fit: int) -> None:
    node = dataclasses.replace(NODE, threads_per_core=2)
    assert fit_on(node, wanted, packing) == fit


def test_fit_on_of_an_exclusive_job_is_one() -> None:
    assert fit_on(NODE, dataclasses.replace(shape(), sbatch=(("exclusive", ""),)), Packing()) == 1


def test_fit_on_counts_gpus_of_the_type_alone() -> None:
    node = dataclasses.replace(NODE, gpus={"a100": 6, "v100": 2})
    typed = dataclasses.replace(shape(), gpu_type="V100")
    assert fit_on(node, typed, Packing()) == 2


@pytest.mark.parametrize(
    ("n_nodes", "wanted", "answer"),
    [
        (10, shape(gpus=8), (10, 1)),
        (10, shape(), (80, 8)),
        (10, shape(nodes=2, gpus=8), (5, 1)),
        (3, shape(nodes=2, gpus=8), (1, 1)),
        (3, shape(nodes=2, gpus=4, cpus=1), (3, 2)),  # six halves, each pair on two nodes
        (1, shape(nodes=2, gpus=1), (0, 8)),  # eight parts fit, but on one node
        (0, shape(), (0, 0)),
    ],
)
def test_count_concurrent(n_nodes: int, wanted: JobShape, answer: tuple[int, int]) -> None:
    nodes = [dataclasses.replace(NODE, name=f"n{i}") for i in range(n_nodes)]
    assert count_concurrent(nodes, wanted, Packing()) == answer


def test_count_concurrent_leaves_out_nodes_that_are_down_or_excluded() -> None:
    nodes = [dataclasses.replace(NODE, name=f"n{i}", is_up=i != 0) for i in range(5)]
    wanted = dataclasses.replace(shape(gpus=8), sbatch=(("exclude", "n[1-2],x9"),))
    assert count_concurrent(nodes, wanted, Packing()) == (2, 1)


def test_expand_hosts() -> None:
    assert expand_hosts("n[01-03,7],gpu5,r[1-2]n1") == [
        "n01", "n02", "n03", "n7", "gpu5", "r1n1", "r2n1"
    ]  # fmt: skip
    assert expand_hosts("") == []


def test_describe_nodes() -> None:
    assert describe_nodes([NODE, NODE]) == "2 nodes of 8 GPUs, 16 CPUs, 64 GB"
    odd = NodeConfig("b", cpus=1, gpus={"a100": 1})
    assert describe_nodes([odd, NODE, NODE]) == (
        "2 nodes of 8 GPUs, 16 CPUs, 64 GB and 1 node of 1 a100, 1 CPU"
    )

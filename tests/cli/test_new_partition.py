"""`orchestrator new-partition`: what it drafts, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.adapters.profiles import read_profiles
from orchestrator.cli.main import run
from orchestrator.domain.partition_draft import TO_FILL
from tests.adapters.fake_slurm import FakeSlurm

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/domain/data"
PARTITION = """\
PartitionName=h100 AllowGroups=ALL Default=NO GraceTime=120 MaxTime=2-12:00:00 Nodes=g[1-2] \
PreemptMode=REQUEUE PriorityTier=1 State=UP TotalCPUs=192 TotalNodes=2
PartitionName=slow.1 GraceTime=0 MaxTime=UNLIMITED Nodes=c1 PreemptMode=OFF State=UP TotalNodes=1
"""
NODES = """\
NodeName=g1 CPUTot=96 Gres=gpu:h100:8(S:0-1) RealMemory=2063000 Partitions=h100 State=IDLE
NodeName=g2 CPUTot=96 Gres=gpu:h100:4 RealMemory=1031500 Partitions=h100,x State=IDLE
NodeName=c1 CPUTot=16 RealMemory=64000 Partitions=slow.1 State=IDLE
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A templates folder, on a machine with a Slurm that has two partitions."""
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    config = (DATA / "config-22.05.8.txt").read_text()
    slurm = FakeSlurm(tmp_path / "bin", config, PARTITION)
    (tmp_path / "bin/nodes").write_text(NODES)
    slurm.answer(
        "scontrol",
        'case "$*" in *config*) cat HERE/config ;; *partition*) cat HERE/partitions ;;\n'
        "*node*) cat HERE/nodes ;; esac",
    )
    monkeypatch.setenv("PATH", slurm.path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_draft_says_what_slurm_says(folder: Path) -> None:
    before = (folder / "templates/partitions.yaml").read_text()
    assert run(["new-partition", "h100"]) == 0
    text = (folder / "templates/partitions.yaml").read_text()
    assert text.startswith(before), "comments and all"
    assert (
        text.removeprefix(before)
        == f"""
h100:
  preemptible: true              # PreemptMode=REQUEUE
  gpus_per_node: 4               # the smallest of 2 kinds of node
  cpus_per_node: 96
  mem_gb_per_node: 1007
  gpu_type: h100
  nodes: 2
  max_time: 2-12:00:00
  grace_s: 120                   # GraceTime
  price_per_gpu_hour: 0          # {TO_FILL}: what one GPU costs for an hour
  currency: CNY                  # {TO_FILL}: in which currency
  defaults: {{gpus: 1, cpus: 24, mem_gb: 226, time: 1:00:00}}
"""
    )
    profile = read_profiles("templates")["h100"]
    assert (profile.nodes, profile.max_time_min, profile.grace_s) == (2, 60 * 60, 120)
    assert (
        (folder / "templates/h100.sbatch.j2")
        .read_text()
        .endswith('{% extends "base.sbatch.j2" %}\n')
    )


def test_draft_of_nodes_without_gpus_and_another_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del folder
    words = ["new-partition", "slow", "--slurm-partition", "slow.1", "--json"]
    assert run(words) == 0
    draft = json.loads(capsys.readouterr().out)
    assert draft["asked_slurm"]
    profile = read_profiles("templates")["slow"]
    assert (profile.slurm_partition, profile.layout) == ("slow.1", "batch")
    assert (profile.gpus_per_node, profile.max_time_min) == (0, None)
    assert "price_per_cpu_hour: 0" in draft["entry"]


def test_dry_run_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "templates").iterdir()}
    assert run(["new-partition", "h100", "--dry-run"]) == 0
    assert "would append to templates/partitions.yaml" in capsys.readouterr().out
    assert before == {path.name: path.read_bytes() for path in (folder / "templates").iterdir()}


def test_without_a_slurm_all_is_left_to_fill_in(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder / "nowhere"))
    assert run(["new-partition", "h100"]) == 0
    assert "Slurm was not asked" in capsys.readouterr().out
    assert (folder / "templates/partitions.yaml").read_text().count(TO_FILL) == 6
    assert "h100" in read_profiles("templates")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spot"], "templates/partitions.yaml:5: spot is there already; edit it, or use another"),
        (["base"], "templates/base.sbatch.j2 is there already; remove it, or use another NAME="),
        (["h10"], "Slurm has no partition 'h10'; did you mean h100? it has: h100, slow.1"),
        (["a b"], "'a b' is not allowed as a name"),
        ([""], "'' is not allowed as a name"),
        (["../x"], "'../x' is not allowed as a name"),
    ],
)
def test_what_cannot_be_drafted_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "templates").iterdir()}
    assert run(["new-partition", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert before == {path.name: path.read_bytes() for path in (folder / "templates").iterdir()}


def test_file_in_braces_is_not_appended_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "templates/partitions.yaml").write_text("{cpu: {}}\n")
    assert run(["new-partition", "h100"]) == 2
    assert "an entry appended to it would not be one" in capsys.readouterr().err
    assert (folder / "templates/partitions.yaml").read_text() == "{cpu: {}}\n"
    assert not (folder / "templates/h100.sbatch.j2").exists()


def test_controller_that_does_not_answer_is_exit_3(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bin/scontrol").write_text("#!/bin/bash\necho 'Unable to contact' >&2\nexit 1\n")
    assert run(["new-partition", "h100"]) == 3
    said = capsys.readouterr().err
    assert "Slurm does not answer: " in said
    assert "Unable to contact; nothing was written; type it again later" in said
    assert not (folder / "templates/h100.sbatch.j2").exists()
    assert run(["new-partition", "h100", "--cluster", "none"]) == 0


def test_files_can_be_read_by_those_who_could_before(folder: Path) -> None:
    (folder / "templates/partitions.yaml").chmod(0o664)
    assert run(["new-partition", "h100"]) == 0
    for name in ("partitions.yaml", "h100.sbatch.j2"):
        assert (folder / "templates" / name).stat().st_mode & 0o777 == 0o664

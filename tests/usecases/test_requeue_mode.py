"""Deciding requeue or resubmit mode: as written, else as the site allows, asking once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.domain.partition import PartitionProfile
from orchestrator.usecases.requeue_mode import resolve
from tests.adapters.fake_slurm import FakeSlurm
from tests.domain import sites

AUTO = PartitionProfile("spot", "spot", "spot.sbatch.j2")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin", sites.config(**sites.NO_REQUEUE), sites.PARTITIONS)
    monkeypatch.setenv("PATH", fake.path)
    return fake


def test_resolve_auto_asks_once_and_hands_the_limits_on(slurm: FakeSlurm) -> None:
    mode = resolve(AUTO, "slurm", True)
    assert mode.profile == replace(AUTO, requeue=False)
    assert mode.choice is not None
    assert mode.choice.reason == "the site has turned requeuing off (JobRequeue=0)"
    assert mode.read_limits().cluster == "hpc2"
    assert slurm.calls() == ["scontrol show config", "scontrol -a -o show partition"]


@pytest.mark.parametrize("requeue", [True, False])
def test_resolve_explicit_asks_nobody(slurm: FakeSlurm, requeue: bool) -> None:
    profile = replace(AUTO, requeue=requeue)
    mode = resolve(profile, "slurm", True)
    assert mode.profile is profile
    assert mode.choice is not None
    assert mode.choice.requeue is requeue
    assert slurm.calls() == []
    assert mode.read_limits().max_array_size == 1001
    assert slurm.calls() == ["scontrol show config"]


@pytest.mark.parametrize(("cluster", "has_work"), [("local", True), ("slurm", False)])
def test_resolve_where_nothing_is_submitted_to_slurm_asks_nobody(
    slurm: FakeSlurm, cluster: str, has_work: bool
) -> None:
    mode = resolve(AUTO, cluster, has_work)
    assert (mode.profile.requeue, mode.choice) == (True, None)
    assert slurm.calls() == []


def test_resolve_partition_that_slurm_lacks_goes_by_the_site(slurm: FakeSlurm) -> None:
    (slurm.folder / "config").write_text(sites.config())
    mode = resolve(replace(AUTO, slurm_partition="gone"), "slurm", True)
    assert mode.profile.requeue is True


def test_a08_resolve_without_an_answer_raises(slurm: FakeSlurm) -> None:
    slurm.answer("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ClusterUnreachable, match="Unable to contact"):
        resolve(AUTO, "slurm", True)

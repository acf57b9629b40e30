"""Reading a site's configuration, and choosing between requeue and resubmit mode."""

from __future__ import annotations

import pytest

from orchestrator.domain.site import (
    PartitionConfig,
    SiteConfig,
    choose_requeue,
    effective_grace_s,
    parse_partitions,
    parse_site,
)
from tests.domain import sites


def test_parse_site_real_output_is_read_whole() -> None:
    assert parse_site(sites.CONFIG) == SiteConfig(
        version=(22, 5, 8),
        version_text="22.05.8",
        cluster="hpc2",
        job_requeue=True,
        preempt_type="preempt/partition_prio",
        preempt_modes=("REQUEUE",),
        user_signal=False,
        kill_wait_s=8,
        max_array_size=1001,
        max_job_count=50_000,
        accounting="accounting_storage/slurmdbd",
        slurmd_timeout_s=40,
        conf_path="/var/spool/cluster/etc/slurm.conf",
    )


def test_parse_site_empty_text_has_slurms_defaults_and_unknowns() -> None:
    site = parse_site("")
    assert site == SiteConfig()
    assert (site.version, site.user_signal, site.kill_wait_s) == (None, None, 30)


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        (sites.GANG, "preempt_modes", ("GANG", "REQUEUE")),
        (sites.NO_REQUEUE, "job_requeue", False),
        (sites.NO_ACCOUNTING, "accounting", None),
        (sites.USER_SIGNAL, "user_signal", True),
        (sites.SMALL_ARRAYS, "max_array_size", 5),
        (sites.PRIVATE, "private_data", ("jobs",)),
        ({"SchedulerParameters": "max_array_tasks=500,bf_continue"}, "tasks_per_array", 500),
        ({"SchedulerParameters": "requeue_delay=0"}, "requeue_hold_s", 0),
        ({"AuthInfo": "socket=/run/munge,cred_expire=60"}, "requeue_hold_s", 61),
        ({"MinJobAge": "5 sec"}, "min_job_age_s", 5),
        ({"PreemptMode": "OFF", "PreemptType": "preempt/none"}, "preempt_modes", ("OFF",)),
        ({"SLURM_VERSION": "24.11.0-0rc1"}, "version", (24, 11, 0)),
        ({"SLURM_VERSION": "of our own"}, "version", None),
    ],
)
def test_parse_site_reads(changes: dict[str, str], name: str, value: object) -> None:
    assert getattr(sites.site(**changes), name) == value


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        (sites.newer("24.05.1", "send_user_signal"), True),
        (sites.newer("26.05.3"), False),
        (sites.newer("26.05.3", "reclaim_licenses,send_user_signal"), True),
        # 22.05 does not know the new name; newer ones still read the old.
        (sites.config() + "PreemptParameters = send_user_signal\n", False),
        (sites.config(SLURM_VERSION="26.05.3", **sites.USER_SIGNAL), True),
    ],
)
def test_parse_site_knows_both_names_of_the_user_signal(text: str, signal: bool) -> None:
    assert parse_site(text).user_signal is signal


def test_parse_partitions_reads_several_lines_and_one_line_alike() -> None:
    found = parse_partitions((sites.DATA / "partitions-o-22.05.8.txt").read_text())
    assert found == parse_partitions(sites.PARTITIONS)
    assert found == {
        "spot": PartitionConfig("spot", "REQUEUE", 20, None, "UP", 1, "n[1-4]", 4),
        "ondemand": PartitionConfig("ondemand", "OFF", 0, None, "UP", 10, "n[1-4]", 4),
        "cpu": PartitionConfig("cpu", "OFF", 0, None, "UP", 1, "n[1-4]", 4),
    }


def test_parse_partitions_reads_limits() -> None:
    spot = sites.partitions(MaxTime="1-12:00:00", State="DRAIN", Nodes="(null)", QoS="low")["spot"]
    assert (spot.max_time_min, spot.state, spot.nodes, spot.qos) == (2160, "DRAIN", "", "low")


def test_parse_partitions_mode_passes_over_gang() -> None:
    assert sites.partitions(PreemptMode="GANG,SUSPEND")["spot"].preempt_mode == "SUSPEND"


@pytest.mark.parametrize(
    ("changes", "grace_s"),
    [
        ({}, 20),
        (sites.GANG, 0),
        ({"PreemptType": "preempt/qos"}, None),
        ({"PreemptType": "preempt/none"}, 0),
    ],
)
def test_effective_grace_is_what_preemption_really_gives(
    changes: dict[str, str], grace_s: int | None
) -> None:
    assert effective_grace_s(sites.site(**changes), sites.partitions()["spot"]) == grace_s


@pytest.mark.parametrize(
    ("text", "spot", "requeue", "reason"),
    [
        (sites.config(), {}, True, "the site allows it (JobRequeue=1)"),
        (sites.config(**sites.GANG), {}, True, "the site allows it (JobRequeue=1)"),
        (
            sites.config(**sites.NO_REQUEUE),
            {},
            False,
            "the site has turned requeuing off (JobRequeue=0)",
        ),
        (
            sites.config(**sites.CANCEL),
            {"PreemptMode": "CANCEL"},
            False,
            "partition spot ends preempted jobs (PreemptMode=CANCEL)",
        ),
        # With preempt/qos the cluster-wide mode is what a QOS has, not the partition's.
        (
            sites.config(PreemptType="preempt/qos"),
            {"PreemptMode": "CANCEL"},
            True,
            "the site allows it (JobRequeue=1)",
        ),
        (
            sites.config(PreemptType="preempt/none"),
            {"PreemptMode": "CANCEL"},
            True,
            "the site allows it (JobRequeue=1)",
        ),
        (
            sites.newer("24.05.1"),
            {},
            True,
            "the site allows it, and a second run of a finished trial does nothing here",
        ),
        (sites.newer("24.05.1"), {"GraceTime": "0"}, True, "the site allows it (JobRequeue=1)"),
        (
            sites.newer("26.05.3", batch_requeue=1),
            {},
            False,
            "Slurm 26.05.3 would hold a job for ever at its first preemption (MaxBatchRequeue=1)",
        ),
    ],
)
def test_choose_requeue(text: str, spot: dict[str, str], requeue: bool, reason: str) -> None:
    choice = choose_requeue(parse_site(text), sites.partitions(**spot)["spot"])
    assert (choice.requeue, choice.reason) == (requeue, reason)


def test_choose_requeue_of_an_unknown_partition_goes_by_the_site() -> None:
    assert choose_requeue(sites.site(), None).requeue
    assert not choose_requeue(sites.site(**sites.NO_REQUEUE), None).requeue

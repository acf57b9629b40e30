"""What a partition means for a profile's trials: every trap is named, and only where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.finding import NOTE, OK, PROBLEM, WARNING, Finding
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.partition_findings import find_partition
from orchestrator.domain.site import parse_site
from tests.domain import sites

SPOT = PartitionProfile(
    "spot", "spot", "spot.sbatch.j2", preemptible=True, signal_before_end_s=20, max_time_min=1440
)
BATCH = replace(SPOT, layout="batch")


def found(
    profile: PartitionProfile = SPOT, text: str | None = None, **spot: str
) -> dict[str, Finding]:
    site = parse_site(sites.config() if text is None else text)
    findings = find_partition(site, sites.partitions(**spot), profile)
    assert all(finding.profile == profile.name for finding in findings)
    return {finding.topic: finding for finding in findings}


def test_find_partition_of_the_real_cluster() -> None:
    assert {topic: finding.severity for topic, finding in found().items()} == {
        "mode": OK,
        "notice": OK,
        "exit-in-grace": NOTE,
    }


def test_find_partition_that_is_never_preempted_has_no_traps_of_preemption() -> None:
    profile = PartitionProfile("cpu", "cpu", "cpu.sbatch.j2", layout="batch")
    assert {topic: finding.severity for topic, finding in found(profile).items()} == {"mode": OK}


def test_find_partition_that_does_not_exist_is_a_problem() -> None:
    finding = found(replace(SPOT, slurm_partition="gpu"))["partition-missing"]
    assert finding.severity == PROBLEM
    assert finding.what_is == ("The cluster has no partition gpu; it has: cpu, ondemand, spot.")
    assert "slurm_partition" in finding.remedy


@pytest.mark.parametrize(
    ("spot", "words"),
    [({"State": "DRAIN"}, "is DRAIN"), ({"Nodes": "(null)", "TotalNodes": "0"}, "has no nodes")],
)
def test_find_partition_that_takes_no_jobs(spot: dict[str, str], words: str) -> None:
    finding = found(**spot)["partition-state"]
    assert (finding.severity, words in finding.what_is) == (WARNING, True)


@pytest.mark.parametrize(
    ("profile", "max_time", "severity"),
    [
        (SPOT, "1-00:00:00", None),
        (SPOT, "12:00:00", WARNING),
        (replace(SPOT, max_time_min=None), "12:00:00", WARNING),
        (replace(SPOT, defaults={"time_min": 60}), "30:00", PROBLEM),
        (replace(SPOT, max_time_min=None), "UNLIMITED", None),
    ],
)
def test_find_partition_compares_the_time_limits(
    profile: PartitionProfile, max_time: str, severity: str | None
) -> None:
    finding = found(profile, MaxTime=max_time).get("max-time")
    assert (None if finding is None else finding.severity) == severity
    if severity == WARNING:
        assert finding is not None
        assert "`max_time: 12:00:00`" in finding.remedy


@pytest.mark.parametrize(
    ("requeue", "changes", "severity", "words"),
    [
        (None, {}, OK, "Requeue mode: the site allows it (JobRequeue=1)."),
        (None, sites.NO_REQUEUE, NOTE, "Resubmit mode: the site has turned requeuing off"),
        (True, {}, OK, "`requeue: true`, as auto would choose."),
        (True, sites.NO_REQUEUE, WARNING, "The profile says `requeue: true`, though the site has"),
        (False, {}, NOTE, "The profile says `requeue: false`, though the site allows it"),
    ],
)
def test_find_partition_says_the_mode(
    requeue: bool | None, changes: dict[str, str], severity: str, words: str
) -> None:
    finding = found(replace(SPOT, requeue=requeue), sites.config(**changes))["mode"]
    assert finding.severity == severity
    assert finding.what_is.startswith(words)


def test_find_partition_cancel_is_resubmit_mode() -> None:
    finding = found(text=sites.config(**sites.CANCEL), PreemptMode="CANCEL")["mode"]
    assert finding.severity == NOTE
    assert "partition spot ends preempted jobs (PreemptMode=CANCEL)" in finding.what_is
    assert "make supervise" in finding.remedy


def test_find_partition_preemptible_in_words_only() -> None:
    finding = found(replace(SPOT, preemptible=False))["preemptible"]
    assert finding.what_is == (
        "Jobs there can be preempted, but the profile says `preemptible: false`."
    )
    profile = PartitionProfile("ondemand", "ondemand", "x", preemptible=True)
    assert "cannot be preempted" in found(profile)["preemptible"].what_is


def test_b06_gang_gives_neither_grace_nor_signal() -> None:
    findings = found(text=sites.config(**sites.GANG))
    assert findings["gang"].severity == WARNING
    assert "SIGTERM, and 8 s later the kill" in findings["gang"].what_is
    assert findings["save-time"].what_is.startswith("A preempted trial has 8 s to save (KillWait)")
    assert not {"notice", "exit-in-grace", "rerun-after-grace"} & set(findings)


@pytest.mark.parametrize("mode", ["REQUEUE", "CANCEL"])
def test_find_partition_without_grace(mode: str) -> None:
    findings = found(GraceTime="0", PreemptMode=mode)
    assert findings["no-grace"].severity == WARNING
    assert "exit-in-grace" not in findings


@pytest.mark.parametrize(
    ("profile", "text", "topic", "severity"),
    [
        (SPOT, sites.config(), "notice", OK),
        (BATCH, sites.config(), "user-signal", WARNING),
        (BATCH, sites.config(**sites.USER_SIGNAL), "notice", OK),
        (BATCH, sites.newer("26.05.3", "send_user_signal"), "notice", OK),
        (BATCH, sites.newer("26.05.3"), "user-signal", WARNING),
    ],
)
def test_find_partition_says_when_a_trial_learns_of_its_preemption(
    profile: PartitionProfile, text: str, topic: str, severity: str
) -> None:
    findings = found(profile, text)
    assert findings[topic].severity == severity
    assert len({"notice", "user-signal"} & set(findings)) == 1


def test_find_partition_names_the_option_of_this_release() -> None:
    assert "SlurmctldParameters=preempt_send_user_signal" in found(BATCH)["user-signal"].remedy
    newer = found(BATCH, sites.newer("24.05.1"))["user-signal"]
    assert "PreemptParameters=send_user_signal" in newer.remedy


@pytest.mark.parametrize(
    ("profile", "spot", "seconds"),
    [
        (SPOT, {}, None),  # 20 s of grace and 8 s of KillWait for a save of 20 s
        (replace(SPOT, signal_before_end_s=60), {}, 28),
        (BATCH, {}, 8),  # told with the kill only
        (SPOT, {"GraceTime": "0"}, 8),
    ],
)
def test_b13_time_to_save_is_compared_with_what_the_profile_counts_on(
    profile: PartitionProfile, spot: dict[str, str], seconds: int | None
) -> None:
    finding = found(profile, **spot).get("save-time")
    assert (finding is None) == (seconds is None)
    if finding is not None:
        assert finding.what_is.startswith(f"A preempted trial has {seconds} s to save")


@pytest.mark.parametrize("version", ["24.05.1", "26.05.3"])
def test_b03_rerun_of_finished_jobs_is_named_on_newer_releases(version: str) -> None:
    findings = found(text=sites.newer(version))
    assert findings["rerun-after-grace"].severity == NOTE
    assert version in findings["rerun-after-grace"].what_is
    assert "exit-in-grace" not in findings
    assert not {"rerun-after-grace", "grace-exit-limit"} & set(found())


def test_b07_exits_within_the_grace_that_end_in_a_hold_are_named() -> None:
    finding = found(text=sites.newer("26.05.3", batch_requeue=7))["grace-exit-limit"]
    assert finding.severity == WARNING
    assert "for ever at number 7 (MaxBatchRequeue)" in finding.what_is
    resubmit = found(replace(SPOT, requeue=False), sites.newer("26.05.3"))
    assert "grace-exit-limit" not in resubmit


def test_b18_suspended_trials_are_not_given_up() -> None:
    findings = found(PreemptMode="GANG,SUSPEND")
    assert findings["suspend"].severity == NOTE
    assert "no-grace" not in findings

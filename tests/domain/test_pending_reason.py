"""Reasons of waiting: which need a person."""

from __future__ import annotations

import pytest

from orchestrator.domain.pending_reason import explain_blocked


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("PartitionTimeLimit", "the time it asks for is over the partition's limit"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "a node it needs is down, drained or"),
        ("launch failed requeued held", "Slurm could not launch it"),
        ("AssocMaxCpuPerJobLimit", "more than its account or QOS allows one job"),
        ("QOSMaxWallDurationPerJobLimit", "more than its account or QOS allows one job"),
        ("QOSMinGRES", "more than its account or QOS allows one job"),
    ],
)
def test_a16_reason_that_does_not_pass_is_put_in_words(reason: str, words: str) -> None:
    assert words in (explain_blocked(reason) or "")


@pytest.mark.parametrize(
    "reason",
    ["", "None", "Priority", "Resources", "BeginTime", "JobArrayTaskLimit", "Dependency"]
    + ["AssocGrpCpuLimit", "QOSMaxJobsPerUserLimit", "AssocMaxJobsLimit", "SomethingNew"]
    + ["Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority"],
)
def test_a16_reason_that_passes_by_itself_is_not_reported(reason: str) -> None:
    assert explain_blocked(reason) is None

"""What a site's configuration means: every trap is named, and only where it is."""

from __future__ import annotations

import pytest

from orchestrator.domain import site_findings
from orchestrator.domain.finding import NOTE, OK, SEVERITIES, WARNING, Finding, count_severities
from orchestrator.domain.site import parse_site
from orchestrator.domain.site_findings import find_site
from orchestrator.usecases import settle
from tests.domain import sites


def found(**changes: str) -> dict[str, Finding]:
    return {finding.topic: finding for finding in find_site(sites.site(**changes))}


def test_find_site_of_the_real_cluster() -> None:
    assert [(f.topic, f.severity) for f in find_site(sites.site())] == [
        ("requeue", OK),
        ("requeue-hold", NOTE),
        ("accounting", OK),
        ("array-size", OK),
        ("split-brain", NOTE),
        ("private-data", NOTE),
    ]


@pytest.mark.parametrize(
    ("changes", "topic", "severity", "words"),
    [
        (sites.NO_REQUEUE, "requeue", WARNING, "turned requeuing off (JobRequeue=0)"),
        (sites.NO_ACCOUNTING, "accounting", NOTE, "no accounting"),
        (
            {**sites.NO_ACCOUNTING, "MinJobAge": "5 sec"},
            "min-job-age",
            WARNING,
            "forgets a job 5 s after its end",
        ),
        (sites.SMALL_ARRAYS, "array-size", NOTE, "5 trials at most (MaxArraySize)."),
        (
            {"SchedulerParameters": "max_array_tasks=500"},
            "array-size",
            NOTE,
            "500 trials at most (MaxArraySize, max_array_tasks)",
        ),
        ({"MaxJobCount": "200"}, "max-job-count", NOTE, "200 jobs and array tasks"),
        ({"SlurmdTimeout": "0 sec"}, "split-brain", WARNING, "never gives up"),
        ({"SlurmdTimeout": "300 sec"}, "split-brain", NOTE, "silent for 300 s"),
        ({"MessageTimeout": "100 sec"}, "message-timeout", WARNING, "may take 100 s"),
        (sites.PRIVATE, "private-data", OK, "do not see"),
        ({"AuthInfo": "cred_expire=60"}, "requeue-hold", NOTE, "waiting for 61 s"),
    ],
)
def test_find_site_names(changes: dict[str, str], topic: str, severity: str, words: str) -> None:
    finding = found(**changes)[topic]
    assert finding.severity == severity
    assert words in finding.what_is


@pytest.mark.parametrize(
    ("changes", "topic"),
    [
        ({"MinJobAge": "5 sec"}, "min-job-age"),  # sacct remembers
        ({"SchedulerParameters": "requeue_delay=0"}, "requeue-hold"),
        ({}, "message-timeout"),
    ],
)
def test_find_site_is_silent_where_nothing_is(changes: dict[str, str], topic: str) -> None:
    assert topic not in found(**changes)


def test_a09_slurmdbd_that_is_down_is_named() -> None:
    findings = find_site(sites.site(), sacct_error="Connection refused")
    (finding,) = (finding for finding in findings if finding.topic == "accounting")
    assert finding.severity == WARNING
    assert "sacct does not answer (Connection refused)" in finding.what_is


def test_find_site_of_nothing_known_is_calm() -> None:
    assert {finding.severity for finding in find_site(parse_site(""))} <= {OK, NOTE}


def test_settle_time_that_is_named_is_the_one_that_is_kept() -> None:
    assert site_findings.SETTLE_S == settle.SETTLE_S


def test_count_severities_has_every_one() -> None:
    assert count_severities([]) == dict.fromkeys(SEVERITIES, 0)
    assert count_severities(find_site(sites.site(**sites.NO_REQUEUE)))[WARNING] == 1

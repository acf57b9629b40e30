"""Slurm's answers about arrays that wait."""

from __future__ import annotations

import time

import pytest

from orchestrator.adapters import slurm_arrays, slurm_cli
from orchestrator.contract.errors import ClusterUnreachable

# Captured on 22.05.8: tasks that are throttled, behind others or held have no time.
WAITING = """\
1|2|N/A|
3|0|N/A|
4|0|2026-11-21T15:17:41|
4|1|2026-11-21T15:17:41|
"""


def test_parse_waiting_passes_over_what_may_not_start() -> None:
    began = time.mktime(time.strptime("2026-11-21T15:17:41", "%Y-%m-%dT%H:%M:%S"))
    assert slurm_arrays.parse_waiting(WAITING, began + 90) == {"4_0": 90.0, "4_1": 90.0}
    assert slurm_arrays.parse_waiting(WAITING, began - 90) == {}, "eligible later (BeginTime)"
    assert slurm_arrays.parse_waiting("", began) == {}


def refuse(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def query(argv: list[str]) -> str:
        raise ClusterUnreachable(words)

    monkeypatch.setattr(slurm_cli, "query", query)


@pytest.mark.parametrize(
    "words",
    ["scontrol: 13_0: Job is no longer pending execution", "scontrol: Invalid job id specified"],
)
def test_defer_of_a_task_that_started_or_ended_is_no(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    refuse(monkeypatch, words)
    assert slurm_arrays.defer("13_0") is False


def test_defer_without_an_answer_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "scontrol: no answer in 60 s")
    with pytest.raises(ClusterUnreachable):
        slurm_arrays.defer("13_0")


def test_defer_of_a_task_that_waits_keeps_it_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def query(argv: list[str]) -> str:
        calls.append(argv)
        return ""

    monkeypatch.setattr(slurm_cli, "query", query)
    assert slurm_arrays.defer("13_0") is True
    assert calls == [["scontrol", "update", "JobId=13_0", "StartTime=now+1hour"]]

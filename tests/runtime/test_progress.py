"""When a trial is stuck: attempts in a row that added nothing, and what does not count."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime.progress import is_stuck, measure_progress, went_nowhere

NOTHING = [0, 0, 0]


def ended(outcome: str | None = "preempted", **fields: Any) -> dict[str, Any]:
    return {"outcome": outcome, "wall_s": 100.0, "progress_before": NOTHING, **fields}


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ([ended()] * 3, True),
        ([ended()] * 2, False),
        ([ended(None), ended("superseded"), ended("preempted")], True),
        # these had no chance, and are passed over
        ([ended(wall_s=3.0)] * 50, False),
        ([ended(), ended(wall_s=3.0), ended(), ended(None, wall_s=59.9), ended()], True),
        # progress within the last three, or before a short one
        ([ended(), ended(), ended(progress_before=[0, 1, 2])], False),
        ([ended(), ended(wall_s=1.0, progress_before=[9, 0, 0]), ended(), ended()], False),
        # somebody had it run again after it failed
        ([ended(), ended(), ended("failed"), ended(), ended(), ended()], False),
        ([ended("failed", kind="stuck"), ended(), ended(), ended()], False),
        # unknown is not absent
        ([ended(), ended(), {"outcome": None, "cause": "no record: x"}], False),
        ([ended(), ended(), ended(wall_s=None)], False),
        ([], False),
    ],
)
def test_b17_is_stuck_judges_by_progress_not_by_preemptions(
    newest_first: list[dict[str, Any]], expected: bool
) -> None:
    assert is_stuck(newest_first, NOTHING, {}) is expected


def test_is_stuck_limits_come_from_the_environment() -> None:
    environ = {"ORCHESTRATOR_MAX_IDLE_ATTEMPTS": "1", "ORCHESTRATOR_CHANCE_S": "0"}
    assert is_stuck([ended(wall_s=0.1)], NOTHING, environ)
    assert not is_stuck([ended(wall_s=0.1)], NOTHING, {})


def test_is_stuck_reads_no_more_than_it_needs() -> None:
    def endless() -> Any:
        while True:
            yield ended()
            yield ended(progress_before=[1, 1, 1])

    assert not is_stuck(endless(), NOTHING, {})


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ([ended(progress=NOTHING), ended(progress=NOTHING)], True),
        ([ended(progress=NOTHING), ended(progress=[1, 0, 0])], False),
        ([ended(progress=NOTHING), ended(progress=NOTHING, signal="SIGTERM")], False),
        ([ended(progress=NOTHING)], False),
    ],
)
def test_went_nowhere_counts_what_the_program_asked_for_itself(
    newest_first: list[dict[str, Any]], expected: bool
) -> None:
    assert went_nowhere(newest_first, NOTHING, {}) is expected


def test_measure_progress_sees_metrics_and_checkpoints(tmp_path: Any) -> None:
    trial = TrialPaths(str(tmp_path))
    assert measure_progress(trial) == NOTHING
    (tmp_path / "metrics.jsonl").write_text("12345")
    (tmp_path / "checkpoints").mkdir()
    assert measure_progress(trial) == [5, 0, 0]
    (tmp_path / "checkpoints" / "a").touch()
    newest = (tmp_path / "checkpoints" / "a").stat().st_mtime_ns
    assert measure_progress(trial) == [5, 1, newest]

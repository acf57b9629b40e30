"""The rate of unannounced losses: what counts, the prior, and what a node reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.contract import records
from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime.claim import previous_ends
from orchestrator.runtime.loss_rate import LossRate, is_unannounced_loss, read_loss_rate

DAY = 86_400.0


@pytest.mark.parametrize(
    ("outcome", "exit_code", "is_running", "expected"),
    [
        (None, None, False, True),  # node failed, or killed with all its kin
        (None, None, True, False),
        (records.FAILED, -9, False, True),  # out of memory
        (records.FAILED, 1, False, False),
        (records.FAILED, -11, False, False),
        (records.PREEMPTED, 75, False, False),
        (records.PREEMPTED, -15, False, True),  # no grace, or no checkpoint
        (records.COMMITTED, 0, False, False),
        (records.SUPERSEDED, -9, False, False),
        (records.REFUSED, 0, False, False),
    ],
)
def test_is_unannounced_loss(
    outcome: str | None, exit_code: int | None, is_running: bool, expected: bool
) -> None:
    assert is_unannounced_loss(outcome, exit_code, is_running) is expected


@pytest.mark.parametrize(
    ("losses", "observed_s", "nodes", "expected_s"),
    [
        (0, 0, 1, DAY),
        (0, 0, 4, DAY / 4),
        (0, 9 * DAY, 1, 10 * DAY),
        (3, 0, 1, DAY / 4),
        (999, 1000 * 3600, 1, 3600 * 1.024),
    ],
)
def test_mtbf_begins_at_a_nodes_day_and_follows_the_data(
    losses: int, observed_s: float, nodes: int, expected_s: float
) -> None:
    assert LossRate(losses, observed_s).mtbf_s(nodes) == pytest.approx(expected_s)


def make_trial(tmp_path: Path, *ends: dict[str, object]) -> TrialPaths:
    trial = TrialPaths(str(tmp_path / "trials/00001-aaaa"))
    os.makedirs(trial.attempts)
    for number, end in enumerate(ends, start=1):
        Path(trial.attempt(number)).write_text(json.dumps({"attempt": number, **end}))
        os.utime(trial.attempt(number), (1000 * number, 1000 * number))
    return trial


def rate_of(trial: TrialPaths) -> tuple[int, float]:
    rate = read_loss_rate(trial, previous_ends(trial, 1000))
    return rate.losses, rate.observed_s


def write_sum(tmp_path: Path, text: str, at: float) -> None:
    (tmp_path / "loss_rate.json").write_text(text)
    os.utime(tmp_path / "loss_rate.json", (at, at))


KILLED = {"claimed_unix": 400.0, "started_unix": 9e9, "resources": {"nodes": 2}}
FREED = {"outcome": "preempted", "exit_code": 75, "wall_s": 50.0}


def test_read_loss_rate_without_a_sum_is_this_trials_own(tmp_path: Path) -> None:
    # The node's clock was years ahead: the time of the killed one is the file server's.
    assert rate_of(make_trial(tmp_path, KILLED, FREED)) == (1, 2 * 600 + 50)


def test_read_loss_rate_attempts_of_before_the_sum_are_in_it(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, KILLED, FREED)
    write_sum(tmp_path, '{"losses": 7, "observed_s": 5000}', at=1500)
    assert rate_of(trial) == (7, 5050)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"losses": -1, "observed_s": 1}', '{"losses": 1, "observed_s": "x"}'],
)
def test_read_loss_rate_bad_sum_is_no_sum(tmp_path: Path, text: str) -> None:
    trial = make_trial(tmp_path)
    write_sum(tmp_path, text, at=1500)
    assert rate_of(trial) == (0, 0)

"""What the login node tells compute nodes of a sweep's losses."""

import json
import os

import pytest

from orchestrator.adapters.trial_dir import scan_trials
from orchestrator.contract.records import FAILED, PREEMPTED
from orchestrator.contract.states import TrialState
from orchestrator.usecases.loss_rate import measure_loss_rate, publish_loss_rate
from tests.trial_writer import RESOURCES, add_trial, claim, ended, make_sweep

NOW_S = 1767261600.0 + 7200  # two hours after the attempts started


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(str(tmp_path / "demo"))


def test_measure_loss_rate_counts_silent_ends_and_all_time(sweep):
    states = {}
    for number, (state, attempts) in enumerate(
        [
            (TrialState.DONE, None),
            (TrialState.RUNNING, [("silent",), (None, None)]),
            (TrialState.LOST, [("silent",)]),
            (TrialState.UNKNOWN, [(None, None)]),
            (TrialState.FAILED, [(FAILED, -9), (FAILED, 1)]),
            (TrialState.REQUEUED, [(PREEMPTED, 75), (PREEMPTED, -15)]),
            (TrialState.CANCELLED, [(PREEMPTED, -15)]),
            (TrialState.CANCELLED, [("silent",)]),
        ]
    ):
        name = f"{number:05d}-aaaa"
        states[name] = state
        if attempts is None:
            add_trial(sweep, name, {}, {"loss": 1})
            continue
        made = []
        for n, (outcome, *code) in enumerate(attempts, start=1):
            if outcome == "silent":
                made.append(claim(name, n, wall_s=3600.0))
            elif outcome is None:
                made.append(claim(name, n))
            else:
                made.append(ended(name, n, outcome, exit_code=code[0]))
        add_trial(sweep, name, {}, attempts=made)
    rate = measure_loss_rate(scan_trials(sweep), states, NOW_S)
    # 2 silent, 1 out of memory, 1 without a checkpoint; 9 hours ended, 2 x 2 running or unknown.
    assert rate.losses == 4
    assert rate.observed_s == 13 * 3600


def test_measure_loss_rate_counts_each_node(sweep):
    add_trial(sweep, "00001-aaaa", {}, attempts=[
        ended("00001-aaaa", 1, PREEMPTED, exit_code=75, resources={**RESOURCES, "nodes": 4})
    ])  # fmt: skip
    rate = measure_loss_rate(scan_trials(sweep), {}, NOW_S)
    assert (rate.losses, rate.observed_s) == (0, 4 * 3600)


def test_publish_loss_rate_writes_only_what_changed(sweep):
    add_trial(sweep, "00001-aaaa", {}, {"loss": 1})
    trials = scan_trials(sweep)
    publish_loss_rate(sweep, trials, {}, NOW_S)
    with open(sweep.loss_rate) as file:
        assert json.load(file) == {"losses": 0, "observed_s": 3600}
    before = os.stat(sweep.loss_rate)
    publish_loss_rate(sweep, trials, {}, NOW_S + 5)
    assert os.stat(sweep.loss_rate) == before
    add_trial(sweep, "00002-aaaa", {}, {"loss": 1})
    publish_loss_rate(sweep, scan_trials(sweep), {}, NOW_S)
    with open(sweep.loss_rate) as file:
        assert json.load(file)["observed_s"] == 7200


def test_publish_loss_rate_corrupt_one_is_replaced_and_a_full_disk_survived(sweep, monkeypatch):
    with open(sweep.loss_rate, "w") as file:
        file.write("{")
    publish_loss_rate(sweep, [], {}, NOW_S)
    with open(sweep.loss_rate) as file:
        assert json.load(file) == {"losses": 0, "observed_s": 0}
    os.unlink(sweep.loss_rate)
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "full")))
    publish_loss_rate(sweep, [], {}, NOW_S)
    assert not os.path.exists(sweep.loss_rate)

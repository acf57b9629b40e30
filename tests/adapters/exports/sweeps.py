"""A small sweep with everything that an export has to get right, on disk."""

from __future__ import annotations

import json
import os

from orchestrator.adapters.exports.source import ExportSource
from orchestrator.adapters.trial_dir import scan_trials
from orchestrator.contract.records import FAILED, PREEMPTED
from orchestrator.contract.states import TrialState
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from tests.trial_writer import add_trial, claim, ended, make_sweep, write

DONE, WORSE, BROKEN, RUNS, WAITS = (f"{i:05d}-aaaa{i}" for i in range(5))
EVIL = "=cmd|' /C calc'!A0 <script> \\write18{rm} $x$ 100% #1 a_b ^ ~ & \"q\"\n\x1b[31m\u202e\x07"
EVIL_METRIC = "a<b>|c\\d\n\u202e"
STATES = {
    DONE: TrialState.DONE,
    WORSE: TrialState.DONE,
    BROKEN: TrialState.FAILED,
    RUNS: TrialState.RUNNING,
    WAITS: TrialState.PENDING,
}


def make_source(root: str, metric: str = "loss") -> ExportSource:
    """Write a sweep of five trials, one in each state, and collect it."""
    sweep = make_sweep(root, parameters=("lr", "text", "only"))
    os.chmod(sweep.root, 0o700)
    twice = [ended(DONE, 1, PREEMPTED), ended(DONE, 2)]
    params = {"lr": 0.1, "text": EVIL, "only": None, "n": 3, "flag": True}
    trial = add_trial(sweep, DONE, params, {metric: 0.25, EVIL_METRIC: 1.5, "odd": "nan"}, twice)
    # Of a resumed trial: step 1 was reported twice.
    lines = [{"step": 0, metric: 2.0}, {"step": 1, metric: 9.0}, {"step": 1, metric: 1.0}]
    write(trial.metrics, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    add_trial(sweep, WORSE, {"lr": 0.2, "text": "plain", "n": 3, "flag": True}, {metric: 0.5})
    add_trial(
        sweep, BROKEN, {"lr": 0.3, "text": "x", "n": 3, "flag": True},
        attempts=[ended(BROKEN, 1, FAILED, exit_code=1, cause="boom")],
    )  # fmt: skip
    add_trial(sweep, RUNS, {"lr": 0.4, "text": "y", "n": 3, "flag": True}, attempts=[claim(RUNS)])
    add_trial(sweep, WAITS, {"lr": 0.5, "text": "z", "n": 3, "flag": True})
    trials = scan_trials(sweep)
    summary = SweepSummary(sweep.name, metric, "minimize", ("lr", "text", "only"))
    board = rank_trials(trials, STATES, {BROKEN: "exit code 1: boom"}, summary, 1767262000.0)
    return ExportSource(sweep, board, trials)

"""A small sweep with everything that an export has to get right, on disk."""

from __future__ import annotations

import json
import os

from orchestrator.adapters.exports.source import ExportSource
from orchestrator.adapters.trial_dir import scan_trials
from orchestrator.contract.records import FAILED, PREEMPTED
from orchestrator.contract.states import TrialState
from orchestrator.domain.confirmed_board import add_confirmed
from orchestrator.domain.fresh_trials import Confirmation, FreshTrial
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trials import trial_id
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


def make_confirmed_source(root: str) -> tuple[ExportSource, list[str]]:
    """Write a sweep of two configurations on two seeds each, the first confirmed on two more.

    The luckiest run of all is a fresh one.

    Returns:
        The sweep, and its trials' names in number order; the last two are fresh.
    """
    sweep = make_sweep(root, parameters=("lr", "seed"), seeded=True)
    fresh = [{"lr": 0.1, "seed": seed} for seed in (10000, 10001)]
    params = [*({"lr": lr, "seed": seed} for lr in (0.1, 0.2) for seed in (0, 1)), *fresh]
    names = [f"{number:05d}-{trial_id(each)}" for number, each in enumerate(params)]
    for name, each, loss in zip(names, params, (0.5, 0.6, 1.0, 1.2, 0.25, 0.75), strict=True):
        add_trial(sweep, name, each, {"loss": loss})
    trials = scan_trials(sweep)
    asked = tuple(FreshTrial(names[0], each["seed"], each) for each in fresh)
    confirmation = Confirmation(seeds=(10000, 10001), top=1, trials=asked)
    summary = SweepSummary(sweep.name, "loss", "minimize", ("lr", "seed"), seeded=True)
    board = rank_trials(trials, {}, {}, summary, 1767262000.0, fresh=confirmation.by_id)
    return ExportSource(sweep, add_confirmed(board, confirmation, trials, {}), trials), names

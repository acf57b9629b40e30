"""The founding example, 162 real trainings in one array.

Learning rate x batch size x weight decay x warm-up x AdamW/LAMB: a part of the grid in each run of
the tests, the whole of it with ``make test-all``.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from tests.cluster.user import User, count_sbatch_calls

pytestmark = [pytest.mark.cluster, pytest.mark.train]

SPEC = "sweeps/deepseek-sft.yaml"


def submit_grid(user: User, *overrides: str) -> dict[str, object]:
    """Submit from the checkout, as a person would, into the user's own results folder."""
    done = user.cluster.run_as_user(
        [*user.installation.orchestrator, "submit", SPEC, "--json"]
        + ["--results", str(user.folder / "results"), *overrides],
        cwd=user.installation.project,
        env=user.env,
        check=True,
    )
    report: dict[str, object] = json.loads(done.stdout)
    return report


def check_board(user: User, n_trials: int) -> None:
    rows = user.board("deepseek-sft")
    perplexities = [float(row["eval_perplexity"]) for row in rows]
    assert len(rows) == n_trials
    assert {row["state"] for row in rows} == {"done"}
    assert perplexities == sorted(perplexities)
    assert all(math.isfinite(value) and value > 1 for value in perplexities)
    assert len(set(perplexities)) > n_trials * 0.9, "the trials really differ"
    for name in ("eval_loss", "tokens_per_second", "run_time_s", "peak_memory_gb"):
        assert all(float(row[name]) > 0 for row in rows), name


@pytest.mark.timeout(1800)
def test_part_of_the_founding_grid_ranks_real_trainings(user: User) -> None:
    calls = count_sbatch_calls(user)
    part = ("learning_rate=1e-5,5e-5", "batch_size=16", "weight_decay=0.01", "warmup_steps=100,500")
    report = submit_grid(user, *part, "max_concurrent=2", "resources.cpus=1")
    assert (report["submitted"], calls()) == (8, 1)
    user.await_states({"done": 8}, timeout_s=400, name="deepseek-sft")
    check_board(user, 8)
    assert submit_grid(user, *part)["submitted"] == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whole_founding_grid_with_a_preemption(user: User) -> None:
    calls = count_sbatch_calls(user)
    report = submit_grid(user, "max_concurrent=3", "resources.cpus=1")
    arrays = report["arrays"]
    assert isinstance(arrays, list)
    assert (report["submitted"], len(arrays), calls()) == (162, 1, 1)
    trials = user.folder / "results/deepseek-sft/trials"
    # A trial that trains (it reported a step) is on the node that the other job takes.
    user.cluster.wait_until(lambda: list(trials.glob("*/metrics.jsonl")), 60, user.explain)
    user.cluster.run_as_user(
        ["sbatch", "-p", "ondemand", "-N4", "--exclusive", "-t1", "-o", "/dev/null"]
        + ["--wrap", "exec sleep 20"],
        cwd=user.folder,
        check=True,
    )
    user.await_states({"done": 162}, timeout_s=3000, name="deepseek-sft")
    check_board(user, 162)
    preempted = [row for row in user.board("deepseek-sft") if row["attempts"] != "1"]
    assert preempted, "a preempted trial shows its attempts"
    for row in preempted:
        result = json.loads(Path(trials, row["trial"], "result.json").read_text())
        assert [attempt["outcome"] for attempt in result["attempts"]][-1] == "committed"
        steps = [
            json.loads(line).get("step")
            for line in Path(trials, row["trial"], "metrics.jsonl").read_text().splitlines()
        ]
        curve = [step for step in steps if step is not None]
        assert curve == sorted(curve), "no step was done again"
    assert submit_grid(user)["submitted"] == 0
    assert os.path.exists(user.folder / "results/deepseek-sft/leaderboard.md")

"""The commands of the README: every one of them is run by a test, or said why not."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def commands() -> list[str]:
    """Commands of the README's bash blocks in order, without their comments."""
    found: list[str] = []
    for block in re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            command = re.sub(r"\s+#\s.*$", "", line).strip()
            if command:
                found.append(command)
    return found


# Typed in this order, by the ordinary user of the test cluster, in a checkout.
ON_SLURM = [
    "make setup",
    "make setup-train",
    "make plan SWEEP=sweeps/deepseek-sft.yaml",
    "make submit SWEEP=sweeps/deepseek-sft.yaml",
    "make supervise",
    "make watch",
    "make status",
    "make collect",
    "make submit SWEEP=sweeps/deepseek-sft.yaml ARGS='learning_rate=1e-5,3e-5 partition=ondemand'",
]
# The gate is open there: nothing waits, and a budget is new.
RELEASE = ["make release", "make release ARGS='budget.cost=3000'"]
# These last as long as the sweep; the tests let them hold one round, and look once.
SUPERVISE = "make supervise"
WATCH = "make watch"
# Of a sweep under way.
FAILURES = "make failures"
LOGS = "make logs TRIAL=3"
PLAN = "make plan SWEEP=sweeps/deepseek-sft.yaml ARGS='resources.gpus=8 resources.time=4:00:00'"
EXPLAIN = "make explain TRIAL=3"
# Of the demo: its numbers are the same again.
REPRODUCE = "make reproduce TRIAL=3"
REPORT = "make report"
# Of a sweep whose trials left answers; the sheet lies in its folder.
RATINGS = [
    "make ratings",
    "make collect RATINGS=results/deepseek-sft/rating-sheet.csv",
]
COSTS = "make costs"
IMPORTS = [
    "make collect FROM=study.log",
    "make collect FROM=wandb.csv ARGS='--param lr --objective val/loss:minimize'",
    "make collect FROM=~/old-runs ARGS='--objective loss:minimize'",
]
# Of a sweep that has these columns.
LEADERBOARD = [
    'make collect ARGS="--objective eval_loss:minimize --objective eval_accuracy:maximize"',
    'make collect ARGS="--where \'gpu_hours < 5 and optimizer == \\"adamw\\"\' --top 5"',
]
# Of a sweep that has ended.
CONFIRM = [
    "make confirm ARGS=--dry-run",
    "make confirm",
    "make confirm ARGS='--top 5 --seeds 10'",
]
# Of any sweep; each format has tests of its own.
EXPORT = ["make export ARGS='--to latex parquet optuna'"]
DOCTOR = "make doctor"
# The guide for sysadmins, typed in this order where Slurm has a new partition.
PARTITION = [
    "make new-partition NAME=h100",
    "${EDITOR:-vi} templates/partitions.yaml",
    "make lint",
    "make submit SWEEP=sweeps/bash.yaml ARGS='partition=h100 name=try-h100'",
]
CLUSTER = ["make cluster-up", "make cluster-down"]
DEMO = "make demo"
TRIAL = 'echo \'{"loss": 1.2}\' >> "$TRIAL_METRICS"'
# What runs this very test.
TEST = "make test"

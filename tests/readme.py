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
    "make status",
    "make collect",
    "make submit SWEEP=sweeps/deepseek-sft.yaml ARGS='learning_rate=1e-5,3e-5 partition=ondemand'",
]
# The gate is open there: nothing waits, and a budget is new.
RELEASE = ["make release", "make release ARGS='budget.cost=3000'"]
# Lasts as long as the sweep; the test lets it hold one round.
SUPERVISE = "make supervise"
PLAN = "make plan SWEEP=sweeps/deepseek-sft.yaml ARGS='resources.gpus=8 resources.time=4:00:00'"
EXPLAIN = "make explain TRIAL=3"
# Of the demo: its numbers are the same again.
REPRODUCE = "make reproduce TRIAL=3"
# Of a sweep whose trials left answers; the sheet lies in its folder.
RATINGS = [
    "make ratings",
    "make collect RATINGS=results/deepseek-sft/rating-sheet.csv",
]
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

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
    "make submit SWEEP=sweeps/deepseek-sft.yaml ARGS=--dry-run",
    "make submit SWEEP=sweeps/deepseek-sft.yaml",
    "make supervise",
    "make status",
    "make collect",
    "make submit SWEEP=sweeps/deepseek-sft.yaml ARGS='learning_rate=1e-5,3e-5 partition=ondemand'",
]
# Lasts as long as the sweep; the test lets it hold one round.
SUPERVISE = "make supervise"
EXPLAIN = "make explain TRIAL=3"
DOCTOR = "make doctor"
CLUSTER = ["make cluster-up", "make cluster-down"]
DEMO = "make demo"
TRIAL = 'echo \'{"loss": 1.2}\' >> "$TRIAL_METRICS"'
# What runs this very test.
TEST = "make test"

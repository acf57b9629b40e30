"""The cluster's ordinary user at a prompt, in a folder with a spec and a program that counts."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.installation import Installation

COUNTER = """\
#!/bin/bash
# Counts to $STEPS, one step in 0.2 s; each step is noted in `done`, so that a repeated one shows.
state="$TRIAL_CHECKPOINT_DIR/step"
step=$(cat "$state" 2>/dev/null || echo 0)
stop=0
trap 'stop=1' TERM USR2
while [ "$step" -lt "${STEPS:-30}" ]; do
  sleep 0.2 & wait $!
  step=$((step + 1))
  echo "$TRIAL_ATTEMPT $step" >> "$TRIAL_DIR/done"
  echo "{\\"step\\": $step, \\"loss\\": $((100 - step))}" >> "$TRIAL_METRICS"
  if [ "$stop" = 1 ]; then
    echo "$step" > "$state.new" && mv "$state.new" "$state"
    exit 75
  fi
done
echo '{"steps_done": '"$step"'}' >> "$TRIAL_METRICS"
"""


class User:
    """The ordinary user at a prompt, in a folder with a spec."""

    def __init__(self, cluster: Cluster, folder: Path, installation: Installation):
        self.cluster, self.folder, self.installation = cluster, folder, installation
        self.env: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def type(self, *words: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        return self.cluster.run_as_user(
            [*self.installation.orchestrator, *words],
            cwd=self.folder,
            env=self.env,
            timeout_s=timeout_s,
        )

    def submit(self, *words: str) -> dict[str, Any]:
        done = self.type("submit", "sweep.yaml", "--json", "--cluster", "slurm", *words)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def states(self, name: str = "sweep") -> dict[str, int]:
        """Counts of the trials of a sweep, by state."""
        done = self.type("status", name, "--json")
        assert done.returncode in (0, 1), done.stderr
        counts: dict[str, int] = json.loads(done.stdout)["counts"]
        return counts

    def await_states(
        self, wanted: dict[str, int], timeout_s: float = 90, name: str = "sweep"
    ) -> None:
        """Wait until the trials stand so."""
        self.cluster.wait_until(
            lambda: self.states(name) == wanted, timeout_s, self.explain, interval_s=0.5
        )

    def explain(self) -> str:
        return self.type("status").stdout + str(self.cluster.squeue())

    def trials(self) -> list[Path]:
        return sorted((self.folder / "results/sweep/trials").iterdir())

    def board(self, name: str = "sweep") -> list[dict[str, str]]:
        """Collect, and read the leaderboard's CSV."""
        done = self.type("collect", name, "--json")
        assert done.returncode in (0, 1), done.stderr
        assert json.loads(done.stdout)["problems"] == []
        with open(self.folder / "results" / name / "leaderboard.csv", newline="") as file:
            return list(csv.DictReader(file))


def spec(parameters: str, **keys: object) -> str:
    lines = [
        "program: count.sh",
        "metric: {name: loss, goal: minimize}",
        *(f"{key}: {json.dumps(value)}" for key, value in keys.items()),
    ]
    if "method" not in keys:
        lines.append("method: grid")
    if "partition" not in keys:
        lines.append("partition: spot")
    if "resources" not in keys:
        lines.append("resources: {gpus: 1, cpus: 1, mem_gb: 0.1, time: 10}")
    return "\n".join([*lines, "parameters:", parameters, ""])


def count_sbatch_calls(user: User, then: str = "") -> Callable[[], int]:
    """Put an sbatch first on the user's PATH that notes its calls, then does as the real one."""
    folder = user.folder / "bin"
    folder.mkdir()
    real = shutil.which("sbatch")
    wrapper = folder / "sbatch"
    wrapper.write_text(
        "#!/bin/bash\n"
        f'if [ "$1" != --version ]; then echo call >> {user.folder}/calls; fi\n'
        + (then or 'exec REAL "$@"').replace("REAL", str(real))
        + "\n"
    )
    wrapper.chmod(0o755)
    folder.chmod(0o755)
    (user.folder / "calls").touch()
    (user.folder / "calls").chmod(0o666)
    user.env["PATH"] = f"{folder}:/usr/local/bin:/usr/bin:/bin"
    return lambda: len((user.folder / "calls").read_text().split())


def journal(user: User) -> list[dict[str, Any]]:
    text = (user.folder / "results/sweep/journal.jsonl").read_text()
    whole = text[: text.rfind("\n") + 1]  # somebody may be writing the last line
    entries = [json.loads(line) for line in whole.splitlines()]
    return [entry for entry in entries if entry["kind"] != "code"]

"""Where the time of a sweep went, on a real Slurm: our accounts beside those of sacct."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from orchestrator.runtime.program import descendants
from tests.cluster.user import User, journal, spec

pytestmark = pytest.mark.cluster

# Counts as `count.sh` does, and saves once.
SAVER = """\
#!/bin/bash
state="$TRIAL_CHECKPOINT_DIR/step"
step=$(cat "$state" 2>/dev/null || echo 0)
stop=0
trap 'stop=1' TERM USR2
save() { echo "$step" > "$state.tmp" && mv "$state.tmp" "$state"; }
while [ "$step" -lt 120 ]; do
  sleep 0.2 & wait $!
  step=$((step + 1))
  echo "{\\"step\\": $step, \\"loss\\": $((100 - step))}" >> "$TRIAL_METRICS"
  if [ "$stop" = 1 ]; then save; exit 75; fi
  if [ "$step" = 40 ]; then save; fi
done
"""


def reported(trial: Path) -> int:
    path = trial / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def kill_without_a_word(trial: Path) -> None:
    """Kill an attempt and all its kin, as a node that fails does."""
    pid = json.loads((trial / "attempts/1.json").read_text())["pid"]
    for victim in (pid, *descendants(pid)):
        os.kill(victim, signal.SIGKILL)


def slurm_elapsed_s(user: User) -> int:
    """Seconds of all runs of all array tasks of the sweep, requeued ones too, as Slurm has them."""
    tokens = ",".join(entry["token"] for entry in journal(user) if entry["kind"] == "intent")
    done = user.cluster.run_as_user(
        ["sacct", "-X", "-D", "-P", "-n", "--name", tokens, "-S", "now-1hour", "-o", "ElapsedRaw"],
        cwd=user.folder,
        check=True,
    )
    return sum(int(line) for line in done.stdout.split())


def costs_agree_with_sacct(user: User, sacct_s: int) -> None:
    """Compare `costs` with what collect and sacct say: each attempt holds one GPU at 0.9 CNY."""
    done = user.type("costs", "--json")
    assert done.returncode == 0, done.stderr
    costs = json.loads(done.stdout)
    assert (costs["schema"], costs["so_far"], costs["attempts"]) == (
        "orchestrator.costs/1",
        False,
        4,
    )
    total = costs["total"]
    money = sum(part["cost_nano"].get("CNY", 0) for part in costs["parts"].values())
    assert money == total["cost_nano"]["CNY"]
    assert sum(part["device_ms"] for part in costs["parts"].values()) == total["device_ms"]
    collected = json.loads(user.type("collect", "--json").stdout)
    assert money / 1e9 == pytest.approx(collected["cost"]["CNY"], abs=1e-6)
    # sacct has whole seconds of each run, and the seconds before an attempt claims its trial.
    assert 0.6 * sacct_s * 0.9 / 3600 <= money / 1e9 <= (sacct_s + 4) * 0.9 / 3600
    ways = costs["ways"]
    assert ways["as_run"]["trials_at_once"] == 2
    assert ways["on_demand"]["cost"]["CNY"] == pytest.approx(ways["on_demand"]["device_h"] * 6)
    assert ways["on_demand"]["device_h"] < ways["as_run"]["device_h"]
    assert ways["on_demand"]["wall_s"] < ways["in_series"]["wall_s"]
    shown = user.type("costs")
    assert "killed or node failed, not saved" in shown.stdout


@pytest.mark.cluster_options(user_signal=True)
def test_goodput_of_a_preempted_and_a_killed_attempt_agrees_with_sacct(user: User) -> None:
    user.write("count.sh", SAVER)
    env = {"ORCHESTRATOR_HEARTBEAT_S": "1"}
    user.write("sweep.yaml", spec("  a: [1, 2]", env=env))
    user.submit()
    user.cluster.wait_until(
        lambda: [reported(trial) > 50 for trial in user.trials()] == [True, True], 60, user.explain
    )
    killed, preempted = user.trials()
    kill_without_a_word(killed)
    last_beat_s = (killed / "attempts/1.json").stat().st_mtime
    saved_s = (killed / "checkpoints/step").stat().st_mtime
    blocker = user.cluster.run_as_user(
        ["sbatch", "--parsable", "-p", "ondemand", "-N4", "--exclusive", "-t1"]
        + ["--wrap", "exec sleep 60"],
        cwd=user.folder,
        check=True,
    ).stdout.strip()
    user.cluster.wait_until(
        lambda: "outcome" in json.loads((preempted / "attempts/1.json").read_text()),
        60,
        user.explain,
    )
    user.cluster.run_as_user(["scancel", blocker], cwd=user.folder)
    user.cluster.wait_until(
        lambda: user.submit() and all((t / "attempts/2.json").exists() for t in user.trials()),
        90,
        user.explain,
        interval_s=1,
    )
    user.await_states({"done": 2})

    done = user.type("collect", "--json")
    goodput = json.loads(done.stdout)["goodput"]
    parts = goodput["parts_device_ms"]
    ours_s, sacct_s = sum(parts.values()) / 1000, slurm_elapsed_s(user)
    print(f"allocated: ours {ours_s:.1f} s, sacct {sacct_s} s; {parts}")
    assert goodput["unit"] == "GPU-hours"
    assert goodput["allocated_h"] == pytest.approx(ours_s / 3600)
    assert 0.6 * sacct_s <= ours_s <= sacct_s + 4, (ours_s, sacct_s)
    # It lived until its last heartbeat, as far as we know.
    lost_ms = (last_beat_s - saved_s) * 1000
    assert lost_ms > 0
    assert parts["killed"] == pytest.approx(lost_ms, abs=500), parts
    assert parts["preempted"] <= 12_000, parts
    assert parts["results"] + parts["start_up"] >= 0.5 * sum(parts.values()), parts
    assert parts["unfinished"] == parts["duplicate"] == parts["abandoned"] == 0, parts
    assert goodput["resume_s"]["n"] == 2
    claim = json.loads((killed / "attempts/2.json").read_text())
    assert 0 < claim["resumes_from"]["age_s"] < 120

    costs_agree_with_sacct(user, sacct_s)
    shown = user.type("collect").stdout
    assert "GPU-hours is in results." in shown
    assert "killed or node failed, not saved" in shown
    rate = json.loads((user.folder / "results/sweep/loss_rate.json").read_text())
    assert rate["losses"] == 1

"""Nodes that die and nodes that Slurm only believes dead: what is lost, and what runs twice."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import processes
from tests.cluster.preemption_matrix import (
    CHECKPOINT_EVERY,
    STEPS_SH,
    read_ledger,
    read_records,
    read_steps,
)
from tests.cluster.processes import Process
from tests.cluster.user import User, journal, spec

# A node is given up after some seconds of silence, so that the tests are short.
pytestmark = [pytest.mark.cluster, pytest.mark.cluster_options(slurmd_timeout_s=8)]


def start(user: User, heartbeat_s: int = 1, **keys: object) -> Path:
    """Submit one trial, and wait until it is past its first checkpoint; see ``finish``."""
    user.env |= {"ORCHESTRATOR_HEARTBEAT_S": str(heartbeat_s)}
    condition = 'while [ ! -e "$TRIAL_DIR/finish" ] && '
    user.write("steps.sh", STEPS_SH.replace("while ", condition, 1))
    env = {"STEPS": "9999", "EVERY": str(CHECKPOINT_EVERY)}
    user.write("sweep.yaml", spec("  a: [0]", env=env, **keys).replace("count.sh", "steps.sh"))
    user.submit()
    user.cluster.wait_until(
        lambda: user.trials() and len(read_steps(user.trials()[0])) > CHECKPOINT_EVERY + 1,
        60,
        user.explain,
    )
    return user.trials()[0]


def step_daemons(found: list[Process]) -> list[Process]:
    """Those that watch over a job, not the job itself."""
    return [
        process
        for process in found
        if Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"slurmstepd")
    ]


def read_steps_of(trial: Path, attempt: int) -> list[str]:
    """The lines of one attempt's ledger; empty before it starts."""
    lines: list[str] = []
    for path in (trial / "ledger").glob(f"{attempt}.*"):
        lines += [line for line in path.read_text().splitlines() if " step " in line]
    return lines


def finish(user: User, trial: Path) -> int:
    """Let the second attempt get somewhere and end; returns how many steps there were."""
    user.cluster.wait_until(
        lambda: len(read_steps_of(trial, 2)) > CHECKPOINT_EVERY, 60, user.explain
    )
    (trial / "finish").touch()
    user.await_states({"done": 1})
    return max(read_steps(trial))


def await_second_attempt(user: User, trial: Path) -> None:
    """Submit, which lifts Slurm's hold of 121 s, until the trial runs again."""
    user.cluster.wait_until(
        lambda: not user.submit()["submitted"] and len(read_records(trial)) > 1,
        120,
        user.explain,
        interval_s=1,
    )


def test_c01_node_dies_and_the_trial_goes_on_elsewhere(user: User) -> None:
    trial = start(user)
    node = read_records(trial)[0]["node"]
    dead = processes.find_node_processes(user.cluster.slurm_conf, node)
    assert step_daemons(dead)
    user.cluster.kill(f"slurmd-{node}")
    processes.kill(dead)
    await_second_attempt(user, trial)
    n_steps = finish(user, trial)
    first, second = read_records(trial)
    assert ("outcome" not in first, second["outcome"]) == (True, "committed")
    assert (first["token"], first["restart_count"]) == (second["token"], 0)
    assert second["restart_count"] == 1
    steps = read_steps(trial)
    assert set(steps) == set(range(1, n_steps + 1))
    assert len(steps) - n_steps <= CHECKPOINT_EVERY, "more than a checkpoint's interval was lost"
    assert user.board()[0]["attempts"] == "2"


@pytest.mark.slow
def test_c01_node_dies_where_slurm_may_not_requeue_and_submit_takes_it_up(user: User) -> None:
    trial = start(user, requeue=False)
    node = read_records(trial)[0]["node"]
    dead = processes.find_node_processes(user.cluster.slurm_conf, node)
    user.cluster.kill(f"slurmd-{node}")
    processes.kill(dead)
    assert user.submit()["submitted"] == 0, "nobody knows yet that it is gone"
    user.cluster.wait_until(lambda: user.states() == {"lost": 1}, 90, user.explain, interval_s=1)
    assert user.submit()["submitted"] == 1
    n_steps = finish(user, trial)
    first, second = read_records(trial)
    assert first["token"] != second["token"]
    steps = read_steps(trial)
    assert set(steps) == set(range(1, n_steps + 1))
    assert len(steps) - n_steps <= CHECKPOINT_EVERY


def test_c02_node_does_not_answer_but_the_trial_lives_and_commits_once(user: User) -> None:
    """Slurm starts a second copy elsewhere; the first sees its claim at a heartbeat and stops."""
    # The second gives the first one and a half heartbeats to show up: more than a busy node takes.
    trial = start(user, heartbeat_s=5)
    node = read_records(trial)[0]["node"]
    daemons = step_daemons(processes.find_node_processes(user.cluster.slurm_conf, node))
    assert daemons
    user.cluster.freeze(f"slurmd-{node}")
    for daemon in daemons:
        daemon.send(signal.SIGSTOP)
    try:
        await_second_attempt(user, trial)
        user.cluster.wait_until(
            lambda: read_records(trial)[0].get("outcome") == "superseded", 60, user.explain
        )
        n_steps = finish(user, trial)
    finally:
        for daemon in daemons:
            daemon.send(signal.SIGCONT)
    first, second = read_records(trial)
    assert (first["outcome"], second["outcome"]) == ("superseded", "committed")
    assert first["node"] != second["node"]
    starts = [time_s for time_s, word, _ in read_ledger(trial) if word == "start"]
    (ledger,) = (trial / "ledger").glob("1.*")
    last_of_first = float(ledger.read_text().splitlines()[-1].split()[0])
    assert last_of_first <= max(starts), "the first had stopped before the second began"
    assert set(read_steps(trial)) == set(range(1, n_steps + 1))
    row = user.board()[0]
    assert (row["attempts"], row["loss"]) == ("2", str(1000 - n_steps))


def kill_node(user: User, node: str) -> None:
    """End a node's daemon and all of its jobs' processes, as its death does."""
    dead = processes.find_node_processes(user.cluster.slurm_conf, node)
    user.cluster.kill(f"slurmd-{node}")
    processes.kill(dead)


def await_claim(user: User, trial: Path, number: int) -> dict[str, Any]:
    """Wait until an attempt has claimed its trial and shown a sign of life after that."""

    def has_beaten() -> bool:
        path = trial / f"attempts/{number}.json"
        return (
            path.exists()
            and path.stat().st_mtime > read_records(trial)[number - 1]["claimed_unix"] + 0.9
        )

    user.cluster.wait_until(
        lambda: not user.submit()["submitted"] and has_beaten(), 120, user.explain, interval_s=0.2
    )
    return read_records(trial)[number - 1]


def runs_of_sacct(user: User) -> list[tuple[float, float, str]]:
    """Start, end and state of each run of the sweep's only task, oldest first."""
    token = next(entry["token"] for entry in journal(user) if entry["kind"] == "intent")
    argv = ["sacct", "-X", "-D", "-P", "-n", "--name", token, "-S", "now-1hour"]
    done = user.cluster.run_as_user(
        [*argv, "-o", "Start,End,State"],
        cwd=user.folder,
        env={"SLURM_TIME_FORMAT": "%s"},
        check=True,
    )
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return sorted((float(start), float(end), state) for start, end, state in rows)


@pytest.mark.slow
def test_c01_nodes_that_die_within_seconds_cost_what_is_known_and_say_so(user: User) -> None:
    """Once as the program runs, once as the next attempt waits for the first to show up."""
    hold = 'until [ -e "$TRIAL_DIR/go" ]; do sleep 0.2; done\n'
    user.write("hold.sh", "#!/bin/bash\n" + hold + 'echo \'{"loss": 1}\' >> "$TRIAL_METRICS"\n')
    user.write("sweep.yaml", spec("  a: [0]").replace("count.sh", "hold.sh"))
    user.submit()
    trial = user.cluster.wait_until(lambda: next(iter(user.trials()), None), 60, user.explain)
    first = await_claim(user, trial, 1)
    kill_node(user, first["node"])
    second = await_claim(user, trial, 2)
    assert "outcome" not in second
    kill_node(user, second["node"])
    await_claim(user, trial, 3)
    (trial / "go").touch()
    user.await_states({"done": 1}, timeout_s=240)

    costs = json.loads(user.type("costs", "--json").stdout)
    killed = costs["parts"]["killed"]
    assert (costs["attempts"], killed["attempts"], costs["attempts_without_end"]) == (3, 2, 2)
    runs = runs_of_sacct(user)
    ended_s = [end - start for start, end, state in runs if state == "NODE_FAIL"]
    print(f"sacct {runs}; ours {killed}, at most {costs['beyond_at_most_device_ms']} ms more")
    assert len(ended_s) == 2, runs
    # sacct has whole seconds, and counts a dead node until Slurm notices; we from the claim on.
    at_most_s = (killed["device_ms"] + costs["beyond_at_most_device_ms"]) / 1000
    before_claims_s = sum(
        max(0.0, record["claimed_unix"] - start)
        for record, (start, _, _) in zip(read_records(trial)[:2], runs, strict=False)
    )
    assert 1.8 <= killed["device_ms"] / 1000 <= sum(ended_s) + 4
    assert sum(ended_s) <= at_most_s + before_claims_s + 4
    collected = json.loads(user.type("collect", "--json").stdout)
    assert collected["goodput"]["parts_device_ms"]["killed"] == killed["device_ms"]
    assert collected["goodput"]["attempts_without_end"] == 2
    money = sum(part["cost_nano"].get("CNY", 0) for part in costs["parts"].values())
    assert collected["cost"]["CNY"] == pytest.approx(money / 1e9, abs=1e-6)
    shown = user.type("costs").stdout
    assert "≥: 2 attempts ended without a word" in shown
    print(shown)

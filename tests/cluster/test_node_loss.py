"""Nodes that die and nodes that Slurm only believes dead: what is lost, and what runs twice."""

from __future__ import annotations

import signal
from pathlib import Path

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
from tests.cluster.user import User, spec

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

"""Several partitions in one sweep, and ceilings over all its arrays, on a real Slurm."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.cluster.user import COUNTER, User, journal, spec

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_options(grace_s=0)]

# A trial with g=0 ends at once.
PROGRAM = COUNTER.replace("stop=0", 'stop=0; [ "$1" = --g=0 ] && STEPS=1', 1)
RESOURCES = {"gpus": "g", "cpus": 1, "mem_gb": 0.1, "time": 10}


def block(user: User, partition: str) -> str:
    """Ask for all nodes in a partition; the job's id."""
    words = ["sbatch", "--parsable", "-p", partition, "-N4", "--exclusive", "-t5"]
    done = user.cluster.run_as_user(
        [*words, "-J", "blocker", "-o", "/dev/null", "--wrap", "exec sleep 300"],
        cwd=user.folder,
        check=True,
    )
    return done.stdout.strip()


def await_running(user: User, job_id: str) -> None:
    user.cluster.wait_until(
        lambda: any(
            job.job_id == job_id and job.state == "RUNNING" for job in user.cluster.squeue()
        ),
        120,
        user.explain,
    )


def partitions_of_attempts(user: User) -> list[list[str]]:
    records = [
        [json.loads(path.read_text()) for path in sorted((trial / "attempts").glob("*.json"))]
        for trial in user.trials()
    ]
    return [[record["resources"]["partition"] for record in found] for found in records]


def moves(user: User) -> list[tuple[str, str, str]]:
    found = [entry for entry in journal(user) if entry["kind"] == "moved"]
    return [(entry["trial"][:5], entry["from"], entry["partition"]) for entry in found]


def test_shapes_go_where_they_fit_and_the_preempted_move_on(user: User) -> None:
    user.write("count.sh", PROGRAM)
    order = {"order": ["cpu", "spot", "ondemand"], "after_preemptions": 1}
    text = spec("  g: [0, 1, 2]", partition=order, resources=RESOURCES, env={"STEPS": "60"})
    user.write("sweep.yaml", text)
    report = user.submit()
    assert report["by_partition"] == {"cpu": 1, "spot": 2}
    assert [array["partition"] for array in report["arrays"]] == ["cpu", "spot", "spot"]
    user.cluster.wait_until(
        lambda: (
            user.states() == {"done": 1, "running": 2}
            and all((trial / "done").exists() for trial in user.trials())
        ),
        90,
        user.explain,
        interval_s=0.5,
    )
    blocker = block(user, "ondemand")
    await_running(user, blocker)
    # Slurm requeued both; they wait, and the next submission moves them.
    user.cluster.wait_until(
        lambda: user.submit()["by_partition"] or len(moves(user)) == 2, 90, user.explain, 1
    )
    user.cluster.wait_until(
        lambda: not user.submit()["submitted"] and len(moves(user)) == 2, 60, user.explain, 1
    )
    assert sorted(moves(user)) == [("00001", "spot", "ondemand"), ("00002", "spot", "ondemand")]
    shown = json.loads(user.type("status", "--json").stdout)
    assert {t["trial"][:5]: t["partition"] for t in shown["trials"]} == {
        "00000": "cpu",
        "00001": "ondemand",
        "00002": "ondemand",
    }
    user.cluster.run_as_user(["scancel", blocker], cwd=user.folder)
    user.await_states({"done": 3})
    assert partitions_of_attempts(user) == [["cpu"], ["spot", "ondemand"], ["spot", "ondemand"]]
    told = user.type("explain", "sweep", "--trial", "1").stdout
    assert "moves to partition ondemand: preempted 1 time on spot: goes on on ondemand" in told


def test_waiting_too_long_moves_a_trial(user: User) -> None:
    user.write("count.sh", PROGRAM)
    blocker = block(user, "spot")
    await_running(user, blocker)
    order = {"order": ["spot", "ondemand"], "after_waiting_min": 0.03}
    user.write("sweep.yaml", spec("  g: [1]", partition=order, resources=RESOURCES))
    assert user.submit()["by_partition"] == {"spot": 1}
    user.cluster.wait_until(
        lambda: user.submit()["by_partition"] == {"ondemand": 1}, 60, user.explain, 1
    )
    user.cluster.run_as_user(["scancel", blocker], cwd=user.folder)
    user.await_states({"done": 1})
    assert partitions_of_attempts(user) == [["ondemand"]]


def test_gpus_at_once_stay_under_the_ceiling_with_nobody_there(user: User) -> None:
    user.write("count.sh", COUNTER)
    text = spec(
        "  g: [1, 2]\n  a: [1, 2, 3]",
        resources=RESOURCES,
        partition=["spot", "ondemand"],
        max_gpus=2,
        env={"STEPS": "4"},
    )
    user.write("sweep.yaml", text)
    arrays = user.submit()["arrays"]
    assert len(arrays) == 2
    assert sum(bool(array["after"]) for array in arrays) == 1, "one behind the other"
    gpus = {array["job_id"]: 0 for array in arrays}
    for entry in journal(user):
        if entry["kind"] == "submitted":
            intents = [e for e in journal(user) if e["kind"] == "intent"]
            gpus[entry["job_id"]] = next(e for e in intents if e["token"] == entry["token"])["gpus"]
    most = Counter[str]()

    def is_done() -> bool:
        running = [job for job in user.cluster.squeue() if job.state == "RUNNING"]
        most["gpus"] = max(most["gpus"], sum(gpus[job.job_id.partition("_")[0]] for job in running))
        return not user.cluster.squeue()

    user.cluster.wait_until(is_done, 120, user.explain)
    assert user.states() == {"done": 6}
    assert most["gpus"] <= 2


def test_rounds_give_the_room_of_a_drained_array_to_another(user: User) -> None:
    user.write("count.sh", PROGRAM)
    resources = {**RESOURCES, "gpus": 1, "mem_gb": "0.1 if g == 0 else 0.2"}
    text = spec(
        "  g: [0, 1]\n  a: [1, 2]", resources=resources, max_concurrent=2, env={"STEPS": "600"}
    )
    user.write("sweep.yaml", text)
    assert [a["array"] for a in user.submit()["arrays"]] == ["0-1%1", "0-1%1"]
    user.await_states({"done": 2, "running": 1, "pending": 1})
    assert user.submit()["submitted"] == 0
    user.await_states({"done": 2, "running": 2})
    (entry, sure) = [e for e in journal(user) if e["kind"] == "throttled"]
    assert (entry["throttle"], entry["sure"], sure["sure"]) == (2, False, True)

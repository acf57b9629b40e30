"""The canary on a real Slurm: one trial first, the rest held, and let go from its node."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.cluster.submitting import kill_at
from tests.cluster.user import User, spec
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster

MANY = "  x: {min: 1, max: 162, step: 1}"
SMALL = {"gpus": 0, "cpus": 1, "mem_gb": 0.1, "time": 10}
# Programs that look for a file that the test writes beside them later.
LIVE = {"code": "live", "resources": SMALL}
BROKEN = """\
#!/bin/bash
python3 -c 'raise RuntimeError("no such data set")'
"""
# Reports, is told to stop once, goes on from its checkpoint; as the other trials it ends soon.
MENDED = """\
#!/bin/bash
state="$TRIAL_CHECKPOINT_DIR/step"
step=$(cat "$state" 2>/dev/null || echo 0)
trap 'echo "$step" > "$state"; exit 75' TERM
step=$((step + 1))
echo "{\\"step\\": $step, \\"loss\\": $((100 - step))}" >> "$TRIAL_METRICS"
if [ "$TRIAL_NUMBER" = 0 ] && [ "$step" -lt 2 ]; then sleep 60 & wait $!; fi
"""


def queue(user: User) -> list[Any]:
    return user.cluster.squeue()


def n_pending(user: User) -> int:
    return sum(job.state == "PENDING" for job in queue(user))


def type_json(user: User, *words: str) -> dict[str, Any]:
    done = user.type(*words, "--json")
    assert done.returncode in (0, 1), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.timeout(420)
def test_broken_program_costs_one_trial_and_release_runs_all_162(user: User) -> None:
    user.write("count.sh", BROKEN)
    user.write("sweep.yaml", spec(MANY, canary=1, resources=SMALL, layout="batch"))
    report = user.submit()
    assert (report["submitted"], [a["n_trials"] for a in report["arrays"]]) == (162, [1, 161])
    assert "goes first" in report["canary"]
    user.await_states({"failed": 1, "pending": 161})
    trials = user.trials()
    assert [trial.name for trial in trials if (trial / "attempts").exists()] == [trials[0].name]

    said = user.type("status").stdout
    assert f"canary {trials[0].name} failed" in said
    assert "RuntimeError: no such data set" in said
    assert "make release" in said
    again = user.submit()
    assert (again["submitted"], n_pending(user)) == (0, 161)
    assert "RuntimeError" in again["paused"]
    done = user.type("supervise", "--rounds", "3", "--interval", "1")
    assert "RuntimeError" in done.stdout

    user.write("count.sh", MENDED)
    released = type_json(user, "release")
    assert released["submitted"] == 1
    user.await_states({"done": 162}, timeout_s=300)
    verdict = json.loads(
        (user.folder / f"results/sweep/gate/canary/{trials[0].name}.json").read_text()
    )
    assert (verdict["passed"], verdict["reason"]) == (True, "it saved, resumed and reported")
    log = (trials[0] / "log").read_text()
    assert "released the rest" in log, "from the canary's own node"
    assert user.submit()["submitted"] == 0


@pytest.mark.timeout(300)
def test_canary_that_goes_again_does_not_wait_for_what_waits_for_it(user: User) -> None:
    user.write("count.sh", BROKEN)
    keys = {"canary": 1, "max_concurrent": 1, "resources": SMALL, "layout": "batch"}
    user.write("sweep.yaml", spec("  x: [1, 2, 3]", **keys))
    user.submit()
    user.await_states({"failed": 1, "pending": 2})
    user.write("count.sh", MENDED)
    assert type_json(user, "release")["submitted"] == 1
    user.await_states({"done": 3})
    times = [
        [(a["started_at"], a["ended_at"]) for a in json.loads(path.read_text())["attempts"]]
        for path in (trial / "result.json" for trial in user.trials())
    ]
    spans = sorted((min(a for a, _ in trial), max(b for _, b in trial)) for trial in times)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), "one at a time"


@pytest.mark.timeout(300)
def test_next_canary_does_not_wait_for_arrays_that_wait_for_it(user: User) -> None:
    user.write("count.sh", MENDED.replace("\n", "\nuntil [ -f go_on ]; do sleep 0.5; done\n", 1))
    keys = {"canary": {"each_shape": True}, "max_concurrent": 1, "layout": "batch", "code": "live"}
    shapes = {"gpus": 0, "cpus": "1 + (x > 2)", "mem_gb": 0.1, "time": 10}
    user.write("sweep.yaml", spec("  x: [1, 2, 3, 4, 5]", resources=shapes, **keys))
    arrays = user.submit()["arrays"]
    assert [array["n_trials"] for array in arrays] == [1, 1, 1, 2]
    user.await_states({"running": 1, "pending": 4})
    # The canary of the second shape: the next one stands behind the rest of the first shape.
    second = arrays[1]["job_id"]
    user.cluster.run_as_user(["scancel", second], cwd=user.folder, check=True)
    user.await_states({"running": 1, "pending": 3, "cancelled": 1})
    user.submit()
    rules = json.loads((user.folder / "results/sweep/gate/rules.json").read_text())
    assert rules["canary"]["trials"] == [user.trials()[n].name for n in (0, 3)]
    user.write("go_on", "")
    user.await_states({"done": 4, "cancelled": 1})


WAITING = """\
#!/bin/bash
state="$TRIAL_CHECKPOINT_DIR/step"
step=$(cat "$state" 2>/dev/null || echo 0)
stop=0
trap 'stop=1' TERM USR2
while [ "$step" -lt 1000 ]; do
  step=$((step + 1))
  echo "{\\"step\\": $step, \\"loss\\": $((1000 - step))}" >> "$TRIAL_METRICS"
  [ "$TRIAL_NUMBER" = 0 ] && [ ! -f go_on ] || exit 0
  sleep 0.5 & wait $!
  if [ "$stop" = 1 ]; then echo "$step" > "$state"; exit 75; fi
done
"""


@pytest.mark.timeout(300)
def test_rest_is_let_go_while_the_canary_runs_on(user: User) -> None:
    user.write("count.sh", WAITING)
    user.write("sweep.yaml", spec("  x: [1, 2, 3]", **LIVE))
    report = user.submit("canary=1")
    assert [array["n_trials"] for array in report["arrays"]] == [1, 2]
    user.await_states({"running": 1, "done": 2})
    first = user.trials()[0]
    attempts = [json.loads((first / f"attempts/{n}.json").read_text()) for n in (1, 2)]
    assert attempts[0]["outcome"] == "preempted"
    assert attempts[0]["job_id"] == attempts[1]["job_id"]
    user.write("go_on", "")
    user.await_states({"done": 3})
    steps = [json.loads(line)["step"] for line in (first / "metrics.jsonl").open()]
    assert steps == [*range(1, len(steps) + 1)], "nothing was lost to the check"


@pytest.mark.timeout(300)
def test_cancelled_canary_is_followed_by_another_and_canary_0_lets_all_go(user: User) -> None:
    asleep = '[ -f go_on ] || { touch "asleep-$TRIAL_NUMBER"; exec sleep 300; }\n'
    user.write("count.sh", MENDED.replace("\n", f"\n{asleep}", 1))
    user.write("sweep.yaml", spec("  x: [1, 2, 3]", canary=1, layout="batch", **LIVE))
    user.submit()
    user.await_states({"running": 1, "pending": 2})
    said = user.type("status")
    assert "goes first; the rest is held" in said.stdout
    assert "will not start" not in said.stdout, "held by us, not blocked"
    watched = user.type("supervise", "--rounds", "1", "--interval", "1").stdout
    assert ("goes first" in watched, "held by a person" in watched) == (True, False), watched
    job = next(job for job in queue(user) if job.state == "RUNNING")
    user.cluster.run_as_user(["scancel", job.job_id], cwd=user.folder, check=True)
    user.await_states({"cancelled": 1, "pending": 2})
    assert "is cancelled; go on with: make submit" in user.type("status").stdout
    report = user.submit()
    assert (report["submitted"], user.trials()[1].name in report["canary"]) == (0, True)
    user.await_states({"cancelled": 1, "running": 1, "pending": 1})
    asleep_1 = user.folder / "asleep-1"  # before that it would see go_on, end, and let all go
    wait_until(asleep_1.exists, on_timeout=lambda: "the second canary did not fall asleep")
    user.write("go_on", "")
    report = user.submit("canary=0")
    assert (report["canary"], len(report["released"])) == (None, 1), "says what it lets go"
    user.await_states({"cancelled": 1, "running": 1, "done": 1})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["sbatch.after:1", "sbatch.before:2", "sbatch.after:2"])
def test_submitter_killed_between_canary_and_rest_is_followed_up(user: User, point: str) -> None:
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    user.write("count.sh", MENDED)
    user.write("sweep.yaml", spec("  x: [1, 2, 3]", canary=1, resources=SMALL, layout="batch"))
    kill_at(user, point)
    user.submit()
    user.await_states({"done": 3})
    started = [json.loads((t / "attempts/1.json").read_text())["token"] for t in user.trials()]
    assert started[0] != started[1] == started[2]
    user.submit()
    assert not list((user.folder / "results/sweep/gate/held").glob("canary-*"))

"""The gate on a real Slurm, with nobody logged in: equal failures, a spent budget, and release."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cluster.cluster import USER
from tests.cluster.user import User, journal, spec

pytestmark = pytest.mark.cluster

HELD = {"JobHeldUser", "job requeued in held state"}
BROKEN = """\
#!/bin/bash
echo 'Traceback (most recent call last):' >&2
echo '  File "model.py", line 3, in <module>' >&2
echo 'ValueError: no such layer' >&2
exit 1
"""
WORKS = '#!/bin/bash\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n'


def await_closed(user: User) -> None:
    """Wait until the gate is closed and nothing runs; asks only squeue, as nobody is logged in."""
    closed = user.folder / "results/sweep/gate/closed.json"
    user.cluster.wait_until(
        lambda: closed.exists() and {job.reason for job in user.cluster.squeue()} <= HELD,
        120,
        user.explain,
        interval_s=0.5,
    )


def logs(user: User) -> str:
    return "".join(
        (trial / "log").read_text() for trial in user.trials() if (trial / "log").exists()
    )


def release(user: User, *words: str) -> dict[str, object]:
    done = user.type("release", *words, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def test_equal_failures_hold_the_rest_with_nobody_there_and_release_goes_on(user: User) -> None:
    user.write("count.sh", BROKEN)
    user.write("sweep.yaml", spec("  a: {min: 1, max: 12, step: 1}", max_concurrent=2))
    user.submit()
    await_closed(user)
    n_failed = user.states()["failed"]
    # k trials and those that ran already; a few more while all failures are of one node.
    assert 3 <= n_failed <= 8, user.explain() + logs(user)
    n_held = len(user.cluster.squeue())
    assert n_held >= 3, user.explain() + logs(user)
    status = user.type("status")
    assert status.stdout.count("ValueError: no such layer") >= 1
    assert status.stdout.count('File "model.py", line 3') == 1, "the shared traceback, once"
    assert "then: make release" in status.stdout
    assert user.submit()["submitted"] == 0
    user.write("count.sh", WORKS)
    report = release(user)
    assert "trials failed the same way" in str(report["opened"])
    assert report["submitted"] == 12 - n_held, "the failed ones, forgiven"
    user.await_states({"done": 12}, timeout_s=120)
    again = release(user)
    assert (again["opened"], again["released"], again["submitted"]) == (None, [], 0)
    kinds = [entry["kind"] for entry in journal(user)]
    assert (kinds.count("paused"), kinds.count("opened"), kinds.count("resumed")) == (1, 1, 1)


def test_budget_of_half_the_sweep_stops_it_within_one_trial(user: User) -> None:
    user.write("count.sh", '#!/bin/bash\nsleep 3\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n')
    budget = {"gpu_hours": 4 * 3.5 / 3600}
    parameters = "  a: {min: 1, max: 8, step: 1}"
    user.write("sweep.yaml", spec(parameters, max_concurrent=1, budget=budget))
    user.submit()
    await_closed(user)
    rows = [row for row in user.board() if float(row["gpu_hours"] or 0) > 0]
    costs = [float(row["gpu_hours"]) for row in rows]
    assert abs(sum(costs) - budget["gpu_hours"]) <= 1.01 * max(costs)
    closed = json.loads((user.folder / "results/sweep/gate/closed.json").read_text())
    assert closed["kind"] == "budget"
    assert closed["detail"]["spent"]["gpu_hours"] == pytest.approx(sum(costs), abs=1e-5)
    status = user.type("status").stdout
    assert "GPU-hours are spent" in status
    refused = user.type("release", "budget.gpu_hours=0.000001")
    assert (refused.returncode, "are spent" in refused.stderr) == (2, True), refused
    report = release(user, "budget.gpu_hours=100")
    assert report["opened"] == closed["reason"]
    user.await_states({"done": 8}, timeout_s=120)


def test_resubmit_mode_what_left_at_the_gate_is_submitted_again(user: User) -> None:
    # A task that starts at the closed gate cannot be held there: it ends, and is not lost.
    user.write("count.sh", WORKS.replace("bash\n", "bash\nsleep 4\n"))
    parameters = "  a: {min: 1, max: 4, step: 1}"
    user.write("sweep.yaml", spec(parameters, requeue=False, max_concurrent=1))
    user.submit()
    folder = user.folder / "results/sweep/gate"
    user.cluster.wait_until(
        lambda: any((trial / "attempts/1.json").exists() for trial in user.trials()),
        60,
        user.explain,
    )
    new = folder / "new"
    new.write_text('{"kind": "budget", "reason": "enough", "by": "submit", "detail": {}}\n')
    shutil.chown(new, USER, USER)
    new.rename(folder / "closed.json")
    user.cluster.wait_until(lambda: (folder / "left").exists(), 60, user.explain)
    await_closed(user)
    user.await_states({"done": 1, "interrupted": 1, "pending": 2})
    assert "1 interrupted: waits behind the gate" in user.type("status").stdout
    assert release(user)["submitted"] == 1
    user.await_states({"done": 4}, timeout_s=120)
    assert {row["attempts"] for row in user.board()} == {"1"}, "nobody noticed"

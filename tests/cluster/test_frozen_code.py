"""Trials run the code as it was at their submission, whatever becomes of it while they wait."""

from __future__ import annotations

import json

import pytest

from tests.cluster.user import User, spec

pytestmark = pytest.mark.cluster

TRAIN = """\
import json, os, time
import steps

deadline = time.monotonic() + 100
while not os.path.exists(os.environ["GO"]) and time.monotonic() < deadline:
    time.sleep(0.1)
with open(os.environ["TRIAL_METRICS"], "a") as file:
    file.write(json.dumps({"loss": steps.LOSS, "run_time_s": time.time()}) + "\\n")
"""


def losses(user: User) -> list[float]:
    results = [json.loads((trial / "result.json").read_text()) for trial in user.trials()]
    return [result["metrics"]["loss"] for result in results]


def test_code_edited_while_trials_are_queued_changes_nothing_for_them(user: User) -> None:
    user.write("train.py", TRAIN)
    user.write("steps.py", "LOSS = 0.1 + 0.2\n")
    env = {"GO": f"{user.folder}/go"}
    text = spec("  a: [1, 2, 3, 4]", env=env, max_concurrent=2).replace("count.sh", "train.py")
    user.write("sweep.yaml", text)
    assert user.submit()["warnings"] == []
    user.cluster.wait_until(
        lambda: user.states().get("running", 0) == 2, 90, user.explain, interval_s=0.5
    )
    user.write("train.py", "raise SystemExit('edited while trials were queued')\n")
    user.write("steps.py", "LOSS = 'nonsense'\n")
    user.write("go", "")
    user.await_states({"done": 4})
    assert losses(user) == [0.1 + 0.2] * 4

    # New trials run the code as it is now; a round of supervise would not have taken it.
    user.write("train.py", TRAIN)
    user.write("steps.py", "LOSS = 0.5\n")
    user.write("sweep.yaml", text.replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 5]"))
    (warning,) = user.submit()["warnings"]
    assert warning == "the code changed since the last submission: 2 files (go, steps.py)"
    user.await_states({"done": 5})
    assert losses(user) == [0.1 + 0.2] * 4 + [0.5]

    done = user.type("reproduce", "--trial", "0", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["equal"], told["notes"]) == (True, [])
    assert [(row["name"], row["verdict"]) for row in told["metrics"]] == [
        ("loss", "equal"),
        ("run_time_s", "not counted"),
    ]

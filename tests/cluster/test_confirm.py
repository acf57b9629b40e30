"""Confirming the first place on a real Slurm: fresh seeds are trials like any other."""

from __future__ import annotations

import json

import pytest

from tests.cluster.submitting import KILLED, arrays
from tests.cluster.user import User, count_sbatch_calls, journal, spec

pytestmark = pytest.mark.cluster

# loss = a and some noise of the seed; on the sweep's own seeds 3 is lucky, and comes first.
NOISY = """\
#!/bin/bash
for word in "$@"; do
  case "$word" in --a=*) a=${word#*=} ;; --seed=*) seed=${word#*=} ;; esac
done
luck=0
[ "$a" = 3 ] && [ "$seed" -lt 1000 ] && luck=3
echo "{\\"loss\\": $((100 * (a - luck) + (a * 7 + seed * 13) % 10))}" >> "$TRIAL_METRICS"
"""


def test_confirmed_under_supervision_and_nothing_is_added_twice(user: User) -> None:
    calls = count_sbatch_calls(user)
    user.write("noisy.sh", NOISY)
    text = spec("  a: [1, 2, 3]", seeds=2).replace("count.sh", "noisy.sh")
    user.write("sweep.yaml", text)
    user.submit()
    user.await_states({"done": 6})
    before = [(row["rank"], row["a"]) for row in user.board()]
    assert before[0] == ("1", "3")
    user.env["ORCHESTRATOR_FAILPOINT"] = "confirmation.write.after:1"
    assert user.type("confirm", "--seeds", "2").returncode in KILLED
    del user.env["ORCHESTRATOR_FAILPOINT"]
    done = user.type("confirm", "--json", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["added"], found["submitted"], calls()) == (0, 6, 2), "asked for before the kill"
    again = user.type("confirm", "--json", "--seeds", "2")
    assert json.loads(again.stdout)["submitted"] == 0, "it is queued or done"
    done = user.type("supervise", "--interval", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    user.await_states({"done": 12})
    rows = user.board()
    assert [(row["rank"], row["a"]) for row in rows if row["rank"]] == before
    found = json.loads(user.type("confirm", "--json", "--seeds", "2").stdout)
    assert (found["added"], found["submitted"]) == (0, 0)
    assert found["standing"]["certainty"] == "overturned", found["standing"]
    report = user.submit()
    assert (report["submitted"], report["states_before"], calls()) == (0, {"done": 12}, 2)
    user.write("sweep.yaml", text.replace("1, 2, 3]", "1, 2, 3, 4]"))
    report = user.submit()
    assert (report["submitted"], report["states_before"]) == (2, {"new": 2, "done": 12})
    user.await_states({"done": 14})
    assert not {"cancelled", "stopped", "retried"} & {entry["kind"] for entry in journal(user)}
    assert len({trial.name.partition("-")[2] for trial in user.trials()}) == 14
    assert len(arrays(user)) == 3

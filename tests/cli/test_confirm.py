"""Confirming the first place on a machine without Slurm, as a person types it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
program: noisy.sh
method: grid
metric: {name: loss, goal: minimize}
partition: cpu
cluster: local
seeds: 3
parameters:
  a: [1, 2, 3, 4]
"""
# loss = a, plus noise of the seed; what looks best by the sweep's own seeds is 4, by its luck.
NOISY = """\
#!/bin/bash
for word in "$@"; do
  case "$word" in --a=*) a=${word#*=} ;; --seed=* | --rng=*) seed=${word#*=} ;; esac
done
[ -z "$KILL_AT" ] || [ "$KILL_AT" != "$a-$seed" ] || kill -9 $$
[ -z "$FAIL_AT" ] || [ "$FAIL_AT" != "$a-$seed" ] || exit 3
luck=0
[ "$a" = 4 ] && [ "$seed" -lt 1000 ] && luck=4
loss=$((100 * (a - luck) + (a * 7 + seed * 13) % 10))
echo "{\\"loss\\": $loss, \\"seed_seen\\": ${TRIAL_SEED:--1}}" >> "$TRIAL_METRICS"
"""


class Desk:
    """A person's folder without Slurm."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.env = dict(os.environ)
        self.write(SPEC)
        (folder / "noisy.sh").write_text(NOISY)

    def write(self, spec: str) -> None:
        (self.folder / "sweep.yaml").write_text(spec)

    def type(self, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def confirm(self, *words: str) -> dict[str, Any]:
        code, out, err = self.type("confirm", "--json", *words)
        assert code in (0, 1), err
        found: dict[str, Any] = json.loads(out)
        return found

    def refused(self, *words: str) -> str:
        code, out, err = self.type(*words)
        assert (code, out) == (2, ""), err
        return err

    def rows(self) -> list[dict[str, str]]:
        assert self.type("collect")[0] in (0, 1)
        with open(self.folder / "results/sweep/leaderboard.csv", newline="") as file:
            return list(csv.DictReader(file))

    def trials(self) -> list[str]:
        return sorted(os.listdir(self.folder / "results/sweep/trials"))

    def journal(self) -> list[dict[str, Any]]:
        text = (self.folder / "results/sweep/journal.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_first_place_that_luck_gave_is_overturned(desk: Desk) -> None:
    assert desk.type("submit", "sweep.yaml")[0] == 0
    before = [(row["rank"], row["a"]) for row in desk.rows()]
    assert before[0] == ("1", "4")
    dry = desk.confirm("--dry-run")
    assert (dry["added"], dry["submitted"], dry["expected"]["measured_trials"]) == (15, 0, 9)
    assert len(desk.trials()) == 12
    found = desk.confirm()
    assert found["schema"] == "orchestrator.confirm/1"
    assert (found["added"], found["submitted"]) == (15, 15)
    assert found["seeds"] == [10000, 10001, 10002, 10003, 10004]
    assert found["standing"]["certainty"] == "overturned"
    assert "00000 is best" in found["standing"]["words"]
    assert [own["rank"] for own in found["configurations"]] == [3, 1, 2]
    rows = desk.rows()
    ranked = [(row["rank"], row["a"]) for row in rows if row["rank"]]
    assert ranked == before, "what chose the first place keeps its ranks"
    chosen = {row["a"]: row for row in rows if row["rank"]}
    assert [chosen[a]["confirmed_rank"] for a in "1234"] == ["1", "2", "", "3"] or (
        [chosen[a]["confirmed_rank"] for a in "1234"] == ["1", "2", "3", ""]
    )
    fresh = [row for row in rows if not row["rank"]]
    assert {row["seed"] for row in fresh} == {str(seed) for seed in found["seeds"]}
    assert all(row["seed_seen"] == row["seed"] for row in fresh), "TRIAL_SEED is the fresh one"
    values = [float(row["loss"]) for row in fresh if row["a"] == "1"]
    assert float(chosen["1"]["confirmed_mean"]) == sum(values) / 5
    assert {row["repeats"] for row in rows if row["rank"]} == {"3"}


def test_confirm_again_and_submit_again_add_nothing_and_again_adds_seeds(desk: Desk) -> None:
    desk.type("submit", "sweep.yaml")
    desk.confirm("--seeds", "2")
    trials, entries = desk.trials(), len(desk.journal())
    again = desk.confirm()
    assert (again["added"], again["submitted"], len(desk.journal())) == (0, 0, entries)
    assert "ran: 0" in desk.type("submit", "sweep.yaml")[1]
    assert desk.trials() == trials
    more = desk.confirm("--again", "--seeds", "2")
    assert (more["added"], more["seeds"]) == (6, [10000, 10001, 10002, 10003])
    assert {own["n"] for own in more["configurations"]} == {4}
    assert desk.confirm("--top", "4", "--seeds", "2")["added"] == 4, "the newcomer gets all seeds"


@pytest.mark.slow
def test_widened_or_narrowed_spec_keeps_the_fresh_trials_apart(desk: Desk) -> None:
    desk.type("submit", "sweep.yaml")
    desk.confirm("--seeds", "2")
    kept = desk.trials()
    desk.write(SPEC.replace("seeds: 3", "seeds: [0, 1, 2, 3, 10000]").replace("3, 4]", "3, 4, 0]"))
    code, out, err = desk.type("submit", "sweep.yaml")
    assert code == 0, err
    # 5 x 5 combinations; 12 ran, and 3 more as fresh trials on seed 10000.
    assert ("ran: 10" in out, desk.trials()[: len(kept)] == kept) == (True, True), out
    rows = desk.rows()
    by_seed = {(row["a"], row["seed"]): row for row in rows}
    assert by_seed["1", "10000"]["rank"] == "", "fresh for good: it never chooses"
    assert (by_seed["0", "10000"]["rank"], by_seed["0", "0"]["rank"]) != ("", "")
    found = desk.confirm("--dry-run", "--seeds", "2")
    words = found["standing"]["words"]
    assert "make confirm adds it" in words or found["standing"]["certainty"] != "confirmed", words
    assert found["added"] >= 2, "the newcomer"
    # One that lost what a fresh trial needs is submitted all the same.
    kept = desk.trials()
    desk.write(
        SPEC.replace("seeds: 3", "seeds: 3\nresources: {mem_gb: 'b / 10'}").replace(
            "a: [1, 2, 3, 4]", "a: [1]\n  b: [1]"
        )
    )
    code, out, err = desk.type("submit", "sweep.yaml")
    assert (code, "ran: 3" in out) == (0, True), err
    assert "6 trials on fresh seeds have no place in the spec as it is now" in err
    assert desk.trials()[: len(kept)] == kept


def test_failed_fresh_run_leaves_its_configuration_unranked(desk: Desk) -> None:
    desk.type("submit", "sweep.yaml")
    desk.env["FAIL_AT"] = "4-10001"
    code, out, err = desk.type("confirm", "--seeds", "2")
    assert code == 1, err
    assert "only 1 of 2 runs of 00009 on fresh seeds have a value (failed)" in out
    assert "1 failed: make status" in out
    del desk.env["FAIL_AT"]
    assert desk.type("submit", "sweep.yaml", "--retry-failed")[0] == 0
    assert {own["n"] for own in desk.confirm()["configurations"]} == {2}


def test_failed_trials_of_the_sweep_do_not_go_again_unasked(desk: Desk) -> None:
    desk.env["KILL_AT"] = "3-1"
    assert desk.type("submit", "sweep.yaml")[0] == 1
    dry = desk.confirm("--seeds", "2", "--dry-run")
    assert (dry["added"], dry["left_failed"]) == (6, 1)
    del desk.env["KILL_AT"]
    code, out, err = desk.type("confirm", "--seeds", "2")
    assert (code, "ran: 6\n" in out) == (0, True), f"{out}{err}"
    assert "1 failed trial of the sweep left alone: make status" in out
    (failed,) = [row for row in desk.rows() if row["state"] == "failed"]
    assert (failed["a"], failed["seed"]) == ("3", "1")
    assert "ran: 1\n" in desk.type("submit", "sweep.yaml")[1], "its retry: lets it go again"


def test_sweep_with_a_constant_seed_or_one_of_another_name(desk: Desk) -> None:
    desk.write(SPEC.replace("seeds: 3\n", "").replace("4]", "4]\n  seed: 1"))
    desk.type("submit", "sweep.yaml")
    found = desk.confirm("--seeds", "2", "--top", "2")
    assert (found["added"], found["seed_parameter"]) == (4, "seed")
    assert {row["seed"] for row in desk.rows()} == {"1", "10000", "10001"}
    desk.write(SPEC.replace("seeds: 3\n", "name: other\n"))
    desk.type("submit", "sweep.yaml")
    assert "ARGS='--seed-parameter NAME'" in desk.refused("confirm")
    found = desk.confirm("--seed-parameter", "rng", "--seeds", "2", "--top", "2")
    assert (found["added"], found["seed_parameter"]) == (4, "rng")
    assert desk.confirm()["seed_parameter"] == "rng", "it is known from then on"


def test_choice_that_may_change_is_refused_unless_asked_for(desk: Desk) -> None:
    desk.env["FAIL_AT"] = "4-1"
    desk.type("submit", "sweep.yaml")
    desk.write(SPEC.replace("3, 4]", "3, 4, 5]"))
    assert desk.confirm("--dry-run")["added"] == 15, "the spec as submitted; failed is an end"
    trial = next(name for name in desk.trials() if name.startswith("00003"))
    folder = desk.folder / "results/sweep/trials" / trial
    (folder / "result.json").unlink()
    assert "1 of 12 trials have not ended" in desk.refused("confirm")
    assert desk.confirm("--now", "--dry-run")["added"] == 15


def test_mistakes_are_one_line(desk: Desk) -> None:
    desk.write(SPEC.replace("1, 2, 3, 4", "1").replace("seeds: 3", "seeds: 1"))
    desk.type("submit", "sweep.yaml")
    for words, mistake in (
        (["--seeds", "1"], "one run tells nothing about noise"),
        (["--top", "0"], "use a number from 1"),
        (["a=3"], "confirm takes no overrides"),
        (["--seed-parameter", "rng"], "seeds: of sweep.yaml passes the parameter seed"),
    ):
        found = desk.refused("confirm", *words)
        assert (mistake in found, found.count("\n")) == (True, 1), found


def test_record_that_cannot_be_read_stops_everything_that_would_mix_trials(desk: Desk) -> None:
    desk.type("submit", "sweep.yaml")
    assert desk.confirm("--seeds", "2", "--top", "1")["added"] == 2
    (desk.folder / "results/sweep/confirmation.json").write_text("{}")
    for command in (["submit", "sweep.yaml"], ["collect"], ["confirm"]):
        assert "restore it from a copy" in desk.refused(*command)


@pytest.mark.slow
def test_killed_anywhere_it_is_finished_by_typing_it_again(desk: Desk) -> None:
    desk.type("submit", "sweep.yaml")
    log = desk.folder / "points"
    desk.env["ORCHESTRATOR_FAILPOINT_LOG"] = str(log)
    desk.confirm("--dry-run")
    assert not log.exists() or "confirmation" not in log.read_text(), "nothing was written"
    for point in (
        "confirmation.write.before",
        "confirmation.write.after",
        "trial.mkdir.after:2",
        "journal.write.half:1",
        "journal.fsync.after:1",
    ):
        desk.env["ORCHESTRATOR_FAILPOINT"] = point if ":" in point else f"{point}:1"
        assert desk.type("confirm", "--seeds", "2")[0] == -signal.SIGKILL, point
        del desk.env["ORCHESTRATOR_FAILPOINT"]
    found = desk.confirm("--seeds", "2")
    assert (found["added"], {own["n"] for own in found["configurations"]}) == (0, {2})
    trials = desk.trials()
    assert len({name.partition("-")[2] for name in trials}) == len(trials) == 12 + 6

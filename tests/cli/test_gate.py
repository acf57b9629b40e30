"""The gate on a machine without Slurm: equal failures, a budget, and a release killed anywhere."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
program: run.sh
method: grid
metric: {name: loss, goal: minimize}
partition: cpu
cluster: local
max_concurrent: 1
parameters:
  a: [1, 2, 3, 4, 5, 6]
"""
# Until there is a file `mended`, all trials fail alike.
BROKEN = """\
[ -e mended ] || { echo "ValueError: no such layer $RANDOM" >&2; exit 1; }
echo '{"loss": 1}' >> "$TRIAL_METRICS"
"""
SLEEPS = 'sleep 0.5; echo \'{"loss": 1}\' >> "$TRIAL_METRICS"\n'
POINTS = ["gate.open.before", "gate.forgive.after", "gate.open.after", "gate.release.after"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sweep.yaml").write_text(SPEC)
    (tmp_path / "run.sh").write_text(BROKEN)
    return tmp_path


def type_(folder: Path, *words: str, **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def states(folder: Path) -> Any:
    return json.loads(type_(folder, "status", "--json")[1])["counts"]


def closed(folder: Path) -> Any:
    path = folder / "results/sweep/gate/closed.json"
    return json.loads(path.read_text()) if path.exists() else None


def journal(folder: Path) -> list[str]:
    lines = (folder / "results/sweep/journal.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


def test_equal_failures_stop_the_queue_and_release_goes_on(folder: Path) -> None:
    code, out, err = type_(folder, "submit", "sweep.yaml")
    assert (code, "ran: 3, failed: 3" in out, "then: make release" in out) == (1, True, True), out
    assert "the gate is closed: nothing more is started" in err
    assert states(folder) == {"failed": 3, "interrupted": 3}
    out = type_(folder, "status")[1]
    assert "the gate is closed: 3 trials failed the same way" in out
    assert "3 failed: exit code 1: ValueError: no such layer" in out
    assert out.count("| ValueError: no such layer") == 1, "the shared log, once"
    assert "ran: 0" in type_(folder, "submit")[1]
    story = type_(folder, "explain", "--trial", "5")[1]
    assert "the sweep is paused: 3 trials failed the same way" in story
    assert "next: mend it, then: make release" in story
    (folder / "mended").touch()
    code, out, err = type_(folder, "release")
    assert (code, "submitted again or anew: 6" in out) == (0, True), out + err
    assert states(folder) == {"done": 6}
    assert closed(folder) is None
    assert (folder / "results/sweep/gate/opened-1.json").exists()
    out = type_(folder, "release", "a=1,7")[1]
    assert "submitted again or anew: 1, 1 of them new" in out


def test_equal_failures_go_again_with_retry_failed_as_well(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    (folder / "mended").touch()
    code, out, err = type_(folder, "submit", "--retry-failed")
    assert (code, closed(folder)) == (0, None), err
    assert "the gate is open again; it was closed: 3 trials failed the same way" in out
    assert states(folder) == {"done": 6}


def test_gate_that_a_canary_closed_opens_with_release_alone_and_submit_says_so(
    folder: Path,
) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "canary: {checkpoint: false}\n")
    assert type_(folder, "submit", "sweep.yaml")[0] == 1
    for words in (["--retry-failed"], ["--retry-failed", "--dry-run"]):
        out = type_(folder, "submit", *words)[1]
        assert "paused: canary" in out
        assert "--retry-failed opens a gate only where equal failures closed it, not this" in out
        assert "ARGS=--retry-failed" not in out
    assert closed(folder)["kind"] == "canary"
    (folder / "mended").touch()
    assert type_(folder, "release")[0] == 0
    assert states(folder) == {"done": 6}


def test_submit_tells_which_failed_trials_need_its_option(folder: Path) -> None:
    """Trial 1 fails after a report, so that a plain submit takes it up; 2 and 3 at once."""
    (folder / "run.sh").write_text(
        'report() { echo "$1" >> "$TRIAL_METRICS"; }\n'
        'grep -q ": [456][,}]" "$TRIAL_PARAMS" && { report \'{"loss": 1}\'; exit; }\n'
        'grep -q ": 1[,}]" "$TRIAL_PARAMS" && report \'{"step": 1}\'\n'
        "exit 3\n"
    )
    out = type_(folder, "submit", "sweep.yaml")[1]
    assert "ran: 6, failed: 3" in out
    assert "  1 failed: make submit or make supervise decides whether\n    it goes again\n" in out
    assert "  the other 2 go again with: make submit ARGS=--retry-failed\n" in out
    out = type_(folder, "submit", "--dry-run")[1]
    assert "would submit: 1 (dry run" in out
    assert "  the other 2 go again with: make submit ARGS=--retry-failed\n" in out


def test_equal_failures_close_it_again_when_nothing_was_mended(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    code, out, _ = type_(folder, "release")
    assert (code, "closed again: 3 trials failed the same way" in out) == (1, True), out
    assert states(folder)["interrupted"] == 3, "again three, and not one more"


def test_failures_after_a_success_close_nothing(folder: Path) -> None:
    (folder / "run.sh").write_text(
        'grep -q ": 1[,}]" "$TRIAL_PARAMS" || exit 1\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n'
    )
    assert type_(folder, "submit", "sweep.yaml")[0] == 1
    assert (closed(folder), states(folder)) == (None, {"done": 1, "failed": 5})
    out = type_(folder, "status")[1]
    assert "failed trials go again with: make submit ARGS=--retry-failed" in out


def test_same_failure_0_is_no_rule(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "retry: {same_failure: 0}\n")
    type_(folder, "submit", "sweep.yaml")
    assert states(folder) == {"failed": 6}
    assert not (folder / "results/sweep/gate").exists()


@pytest.mark.parametrize("point", POINTS)
def test_release_killed_anywhere_is_finished_by_the_next(folder: Path, point: str) -> None:
    type_(folder, "submit", "sweep.yaml")
    (folder / "mended").touch()
    code, _, _ = type_(folder, "release", ORCHESTRATOR_FAILPOINT=f"{point}:1")
    assert code == -9, f"{point} was not reached"
    code, out, err = type_(folder, "release")
    assert code == 0, out + err
    assert states(folder) == {"done": 6}
    assert closed(folder) is None


@pytest.mark.parametrize("point", ["gate.close.before", "gate.close.after"])
def test_submit_killed_as_it_closes_the_gate_closes_it_the_next_time(
    folder: Path, point: str
) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "retry: {same_failure: 0}\n")
    type_(folder, "submit", "sweep.yaml")
    code, _, _ = type_(
        folder, "submit", "retry.same_failure=3", ORCHESTRATOR_FAILPOINT=f"{point}:1"
    )
    assert code == -9
    assert "paused: 6 trials failed" in type_(folder, "submit", "retry.same_failure=3")[1]
    assert closed(folder)["kind"] == "failures"
    assert journal(folder).count("paused") == 1


def test_budget_stops_within_one_trial_and_agrees_with_the_leaderboard(folder: Path) -> None:
    (folder / "run.sh").write_text(SLEEPS)
    templates = folder / "templates"
    subprocess.run(
        ["cp", "-r", str(Path(__file__).parents[2] / "templates"), templates], check=True
    )
    prices = (templates / "partitions.yaml").read_text()
    prices = re.sub(r"(?m)^( +price_per_cpu_hour:).*$", r"\1 3600", prices)
    (templates / "partitions.yaml").write_text(prices)
    # One CPU costs 1 CNY a second, and a trial takes half a second or more.
    text = SPEC + "resources: {cpus: 1, time: 1}\nbudget: {cost: 2, currency: CNY}\n"
    (folder / "sweep.yaml").write_text(text)
    code, out, err = type_(folder, "submit", "sweep.yaml")
    assert code == 0, err
    assert "may take 360.00 CNY" in err
    assert re.search(r"of 2\.0+ CNY are spent", out)
    type_(folder, "collect")
    with open(folder / "results/sweep/leaderboard.csv", newline="") as file:
        costs = [float(row["cost"]) for row in csv.DictReader(file) if row["cost"]]
    assert 0 < abs(sum(costs) - 2) <= 1.01 * max(costs)
    assert closed(folder)["detail"]["spent"]["cost"] == pytest.approx(sum(costs), abs=0.01)
    out = type_(folder, "status")[1]
    assert "make release ARGS='budget.cost=...'" in out
    assert re.search(r"budget: [0-9.]+ of 2\.0+ CNY spent", out)
    code, _, err = type_(folder, "release", "budget.cost=0.1")
    assert (code, "allow more to go on" in err) == (2, True), err
    code, _, err = type_(folder, "release", "budget.cost=1000")
    assert (code, states(folder)) == (0, {"done": 6}), err


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("{cost: 10, currency: EUR}", "sweep.yaml:9: budget.currency: 'EUR', and the prices of"),
        ("{gpu_hours: 10}", "sweep.yaml:9: budget.gpu_hours: no trial uses a GPU"),
        ("{cost: -1}", "sweep.yaml:9: budget.cost: -1 is not allowed"),
        ("{kill: true}", "sweep.yaml:9: budget: limits nothing"),
        ("{currency: CNY, gpu_hours: 1}", "sweep.yaml:9: budget.currency: has no cost beside it"),
        ("{coast: 1}", "sweep.yaml:9: budget.coast: unknown key"),
    ],
)
def test_budget_that_cannot_be_kept_is_refused(folder: Path, budget: str, message: str) -> None:
    (folder / "sweep.yaml").write_text(SPEC + f"budget: {budget}\n")
    code, _, err = type_(folder, "submit", "sweep.yaml")
    assert (code, message in err) == (2, True), err
    assert not (folder / "results/sweep/journal.jsonl").exists()

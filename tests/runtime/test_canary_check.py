"""A canary's attempt as a process: what it has to show, and what becomes of the gate."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.records import STOPPED_BY_CANARY
from orchestrator.runtime import canary, durable, gate
from orchestrator.runtime.canary_check import Reports
from tests.runtime.test_attempt import finish, make_trial, record, start
from tests.waiting import wait_until

NAME = "00000-abcdef0123"
# Attempt $ENDLESS counts until it is told to stop, however late that is; the others three steps.
COUNT = """
state=$TRIAL_CHECKPOINT_DIR/step; step=0; stop=0
{resume}
trap 'stop=1' TERM
last=$((step + 3))
while [ "$TRIAL_ATTEMPT" = "${{ENDLESS:-1}}" ] || [ $step -lt $last ]; do
  step=$((step + 1))
  echo "{{\\"step\\": $step, \\"{metric}\\": $((100 - step))}}" >> "$TRIAL_METRICS"
  sleep 0.2 & wait $!
  if [ $stop = 1 ]; then {on_stop}; fi
done
"""
RESUME = '[ -f "$state" ] && step=$(cat "$state")'
SAVE = 'echo $step > "$state"; exit 75'


def program(resume: str = RESUME, on_stop: str = SAVE, metric: str = "loss") -> str:
    return COUNT.format(resume=resume, on_stop=on_stop, metric=metric)


def make_canary(tmp_path: Path, checkpoint: str = "on_signal", metric: str | None = "loss") -> Path:
    rule = {"trials": [NAME], "checkpoint": checkpoint, "metric": metric}
    gate.write_rules(str(tmp_path), {canary.RULE: rule})
    return make_trial(tmp_path, NAME)


def run(trial: Path, script: str, **env: str) -> tuple[int, str]:
    return finish(start(trial, "bash", "-c", script, **env))


def verdict(tmp_path: Path) -> dict[str, Any]:
    return canary.read_verdicts(str(tmp_path))[NAME]


def steps(trial: Path) -> list[int]:
    lines = (trial / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_canary_that_saves_and_resumes_passes_and_commits_in_one_job(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    code, output = run(trial, program())
    assert (code, (trial / "result.json").exists()) == (0, True), output
    first, second = record(trial, 1), record(trial, 2)
    assert (first["outcome"], first["cause"]) == ("preempted", STOPPED_BY_CANARY)
    assert (first["exit_code"], first["signal"]) == (75, "SIGTERM")
    assert (second["outcome"], second["pid"]) == ("committed", first["pid"])
    assert second["resumes_from"] is not None
    assert steps(trial) == [*range(1, 1 + len(steps(trial)))], "nothing lost or done twice"
    found = verdict(tmp_path)
    assert (found["passed"], found["attempt"], found["notes"]) == (True, 2, [])
    assert gate.read_closed(str(tmp_path)) is None


def test_trial_that_is_no_canary_is_not_told_to_stop(tmp_path: Path) -> None:
    make_canary(tmp_path)
    trial = make_trial(tmp_path, "00001-abcdef0123")
    assert run(trial, program(), ENDLESS="0")[0] == 0
    assert [path.name for path in (trial / "attempts").iterdir()] == ["1.json"]
    assert canary.read_verdicts(str(tmp_path)) == {}


def test_canary_that_passed_before_is_not_told_to_stop_again(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    canary.publish_verdict(str(tmp_path), NAME, 1, True, "it has a result")
    assert run(trial, program(), ENDLESS="0")[0] == 0
    assert record(trial, 1)["outcome"] == "committed"


def test_canary_that_raises_closes_the_gate_with_its_last_words(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    (trial / "log").write_bytes(b"")
    with open(trial / "log", "ab") as log:
        process = start(trial, "bash", "-c", "exec python3 -c 'raise RuntimeError(\"no data\")'")
        log.write(finish(process)[1].encode())
    found, closed = verdict(tmp_path), gate.read_closed(str(tmp_path))
    assert not found["passed"]
    assert closed is not None
    assert (closed["kind"], closed["by"]) == ("canary", NAME)
    assert closed["reason"].startswith(f"canary {NAME} failed: ")


def test_canary_without_a_checkpoint_fails_with_a_remedy(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    code, output = run(trial, program(on_stop="exit 75"))
    assert code == 1, output
    assert record(trial, 1)["outcome"] == "failed"
    reason = verdict(tmp_path)["reason"]
    assert "left nothing in $TRIAL_CHECKPOINT_DIR" in reason
    assert "canary: {checkpoint: periodic}" in reason
    assert gate.read_closed(str(tmp_path)) is not None


def test_canary_that_starts_again_from_the_first_step_fails_and_keeps_its_result(
    tmp_path: Path,
) -> None:
    trial = make_canary(tmp_path)
    code, output = run(trial, program(resume=""))
    assert (code, (trial / "result.json").exists()) == (0, True), output
    assert verdict(tmp_path)["reason"] == (
        "with a checkpoint in $TRIAL_CHECKPOINT_DIR, attempt 2 started again from step 1: "
        "it did not resume"
    )
    assert gate.read_closed(str(tmp_path)) is not None


def test_canary_that_never_reports_the_objective_fails_at_its_end(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    code, output = run(trial, program(metric="los"))
    assert code == 0, output
    assert verdict(tmp_path)["reason"] == "it ended well and never reported loss, but los"


def test_canary_of_a_sweep_without_objective_passes_with_any_report(tmp_path: Path) -> None:
    trial = make_canary(tmp_path, metric=None)
    assert run(trial, program(metric="anything"))[0] == 0
    assert verdict(tmp_path)["passed"]


def test_canary_that_reports_once_at_its_end_is_not_stopped(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    code, output = run(trial, "echo '{\"loss\": 1}' >> $TRIAL_METRICS; sleep 1.5")
    assert code == 0, output
    found = verdict(tmp_path)
    assert (found["passed"], found["notes"]) == (True, ["too short to try how it resumes"])
    assert record(trial, 1)["outcome"] == "committed"


def test_canary_that_saves_nothing_by_its_spec_passes_with_its_first_report(tmp_path: Path) -> None:
    trial = make_canary(tmp_path, checkpoint="none")
    process = start(trial, "bash", "-c", program())
    try:
        wait_until(lambda: canary.read_verdicts(str(tmp_path)), timeout_s=60)
        assert verdict(tmp_path)["passed"]
        assert process.poll() is None, "it goes on"
    finally:
        process.send_signal(signal.SIGTERM)
        finish(process)


def test_periodic_canary_is_stopped_only_once_it_saved_by_itself(tmp_path: Path) -> None:
    trial = make_canary(tmp_path, checkpoint="periodic")
    save = '[ $step = 4 ] && echo 4 > "$state"; sleep'
    code, output = run(trial, program(on_stop="exit 143").replace("sleep", save, 1))
    assert code == 0, output
    assert record(trial, 1)["cause"] == STOPPED_BY_CANARY
    assert verdict(tmp_path)["passed"]
    assert steps(trial)[:4] == [1, 2, 3, 4]


def test_canary_that_ignores_the_signal_is_ended_and_fails(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    ignoring = program().replace("trap 'stop=1' TERM", "trap '' TERM")
    code, output = run(trial, ignoring, ORCHESTRATOR_CANARY_STOP_S="0.5")
    assert code != 0, output
    assert "SIGKILL" in verdict(tmp_path)["reason"]


def test_canary_that_is_preempted_itself_has_no_verdict_and_goes_on(tmp_path: Path) -> None:
    trial = make_canary(tmp_path)
    slow = "trap 'exit 75' TERM; echo ready; sleep 60 & wait $!"
    process = start(trial, "bash", "-c", slow)
    assert process.stdout.readline()
    wait_until(lambda: (trial / "checkpoints").exists(), timeout_s=60)
    for line in process.stdout:
        if line.strip() == "ready":
            break
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 75
    assert canary.read_verdicts(str(tmp_path)) == {}
    assert run(trial, program(), ENDLESS="2")[0] == 0
    assert verdict(tmp_path)["passed"]
    assert [record(trial, n)["outcome"] for n in (1, 2, 3)] == ["preempted"] * 2 + ["committed"]


def test_retired_verdict_makes_a_trial_a_canary_again(tmp_path: Path) -> None:
    root = str(tmp_path)
    make_canary(tmp_path)
    canary.publish_verdict(root, NAME, 1, False, "it raised")
    canary.publish_verdict(root, "00001-abcdef0123", 1, True, "it has a result")
    assert canary.retire_failures(root) == [NAME]
    assert set(canary.read_verdicts(root)) == {"00001-abcdef0123"}
    assert canary.former_canaries(root) == {NAME}
    assert canary.publish_verdict(root, NAME, 2, False, "it raised again")
    assert canary.retire_failures(root) == [NAME]
    names = sorted(os.listdir(gate.gate_of(root).canary))
    assert names == ["00000-abcdef0123.retired-1", "00000-abcdef0123.retired-2"] + [
        "00001-abcdef0123.json"
    ]


LINES = b'{"step": 1, "loss": 9}\n{"step": 2, "loss": 8}\n'


def test_reports_that_are_added_are_new(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + b'{"step": 3, "lo')
    reports = Reports(str(path))
    assert (reports.earlier_first_step, reports.n_new, reports.names) == (1, 0, {"loss"})
    with open(path, "ab") as file:
        file.write(b'ss": 7}\nnonsense\n{"step": 4, "acc": 1}\n{"step": 5')
    reports.look()
    assert (reports.first_step, reports.n_new, reports.names) == (3, 2, {"loss", "acc"})


def test_reports_that_a_rewind_kept_are_not_new(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + b'{"step": 3, "loss": 7}\n')
    reports = Reports(str(path))
    durable.replace(str(path), LINES + b'{"step": 3, "loss": 6.9}\n')
    reports.look()
    assert (reports.first_step, reports.n_new) == (3, 1)


@pytest.mark.parametrize("anew", ["cut", "removed", "rewound"])
def test_reports_that_start_anew_are_new_though_they_are_the_same(
    tmp_path: Path, anew: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES)
    reports = Reports(str(path))
    if anew == "cut":
        path.write_bytes(b"")
    elif anew == "removed":
        path.unlink()
    else:
        durable.replace(str(path), b"")
    reports.look()
    with open(path, "ab") as file:
        file.write(LINES)
    reports.look()
    assert (reports.first_step, reports.n_new) == (1, 2)


def test_reports_of_a_file_that_is_not_there_yet_are_new(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reports = Reports(str(path))
    path.write_bytes(LINES)
    reports.look()
    assert (reports.earlier_first_step, reports.first_step, reports.n_new) == (None, 1, 2)

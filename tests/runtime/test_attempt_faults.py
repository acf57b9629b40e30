"""What ends attempts on bad days: signals at the wrong time, kills, nodes that come back.

Each attempt is a process; Slurm is played by its variables, signals and a few scripts.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.paths import TrialPaths
from orchestrator.contract.records import PREEMPTED_BY_SLURM
from orchestrator.runtime import job
from orchestrator.runtime.claim import Claim, previous_ends
from orchestrator.runtime.commit import commit_result
from orchestrator.runtime.heartbeat import Times
from tests.runtime.test_attempt import CHECKPOINTER, finish, make_trial, record, start
from tests.waiting import await_file, await_pid, await_stop, wait_until

TASK = {"SLURM_JOB_ID": "124", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "4"}
# The copy that Slurm starts when it has given the first one's node up.
AGAIN = {**TASK, "SLURM_RESTART_COUNT": "1"}
# Looks for a successor at its end alone.
SILENT = {"ORCHESTRATOR_HEARTBEAT_S": "1000", "ORCHESTRATOR_FIRST_BEAT_S": "1000"}
# Counts in metrics until it is told to stop or finds `finish`, naming its attempt in each line.
TALKER = """
trap 'exit 75' USR2 TERM
touch "$TRIAL_DIR/ready.$TRIAL_ATTEMPT"
until [ -e "$TRIAL_DIR/finish" ]; do
  echo "{\\"attempt\\": $TRIAL_ATTEMPT}" >> "$TRIAL_METRICS"
  sleep 0.02
done
"""


def kill_all(trial: Path, process: Any) -> None:
    """Kill an attempt and its program, as a node's death does."""
    program = await_pid(trial / "ready", process)
    process.kill()
    process.wait(120)
    os.kill(program, signal.SIGKILL)


def foreign_claim(trial: Path, **fields: Any) -> None:
    """The claim of an attempt that lives, for all we know, on another host."""
    (trial / "attempts").mkdir()
    claim = {
        "trial": trial.name,
        "attempt": 1,
        **job.describe_process(),
        "host": "elsewhere",
        "node": "n7",
        "started_unix": time.time(),
        "progress_before": [0, 0, 0],
        **fields,
    }
    (trial / "attempts" / "1.json").write_text(json.dumps(claim))


# --- signals at the wrong time -------------------------------------------------------------------


@pytest.mark.parametrize("words", ["Job is pending execution", "presently disabled"])
def test_b09_refused_requeue_leaves_the_trial_preempted_not_failed(
    tmp_path: Path, words: str
) -> None:
    trial = make_trial(tmp_path)
    for name, line in (("squeue", "echo 0 RUNNING"), ("scontrol", f"echo {words} >&2; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    process = start(trial, "bash", "-c", CHECKPOINTER, options=("--requeue",), PATH=path, **TASK)
    await_file(trial / "ready", process)
    process.send_signal(signal.SIGUSR2)
    code, _ = finish(process)
    end = record(trial, 1)
    assert (code, end["outcome"], end["requeue"]) == (75, "preempted", f"refused: {words}")


@pytest.mark.parametrize("is_spent", [False, True])
def test_b09_told_to_stop_and_not_requeued_asks_why_once_its_end_is_on_disk(
    tmp_path: Path, is_spent: bool
) -> None:
    """That Slurm preempts it; not where it knows why: the sweep's budget is spent."""
    trial = make_trial(tmp_path)
    (tmp_path / "squeue").write_text(
        f"#!/bin/sh\ngrep -o preempted {trial}/attempts/1.json >> {tmp_path}/seen\n"
        "echo 2026-01-02T03:04:05 RUNNING\n"
    )
    (tmp_path / "squeue").chmod(0o755)
    guard = "from orchestrator.runtime.guard import Guard"
    spent = f"{guard}; Guard.is_spent = property(lambda self: True, lambda self, value: None)"
    path = f"{tmp_path}:{os.environ['PATH']}"
    change = spent if is_spent else ""
    process = start(trial, "bash", "-c", CHECKPOINTER, change=change, PATH=path, **TASK)
    await_file(trial / "ready", process)
    process.send_signal(signal.SIGUSR2)
    assert finish(process)[0] == 75
    end = record(trial, 1)
    assert end["outcome"] == "preempted"
    assert end["requeue"] == (None if is_spent else PREEMPTED_BY_SLURM)
    assert (tmp_path / "seen").exists() is not is_spent
    assert is_spent or (tmp_path / "seen").read_text() == "preempted\n"


def test_b12_killed_in_mid_save_goes_on_from_the_checkpoint_before(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = """
        step=$(cat $TRIAL_CHECKPOINT_DIR/step || echo 0)
        if [ $TRIAL_ATTEMPT = 2 ]; then echo "{\\"from\\": $step}" >> $TRIAL_METRICS; exit; fi
        echo 5 > $TRIAL_CHECKPOINT_DIR/step
        echo half > $TRIAL_CHECKPOINT_DIR/step.tmp
        echo $$ > $TRIAL_DIR/ready
        exec sleep 60
    """
    process = start(trial, "bash", "-c", script)
    await_file(trial / "ready", process)
    kill_all(trial, process)
    assert finish(start(trial, "bash", "-c", script))[0] == 0
    result = json.loads((trial / "result.json").read_text())
    assert result["metrics"] == {"from": 5}
    assert record(trial, 2)["progress_before"][1] == 1, "half a checkpoint is none"


def test_b13_save_longer_than_the_grace_keeps_the_one_before_and_tells_the_time(
    tmp_path: Path,
) -> None:
    trial = make_trial(tmp_path)
    slow = CHECKPOINTER.replace("echo saved", "sleep 60; echo saved")
    (trial / "checkpoints").mkdir()
    (trial / "checkpoints" / "before").write_text("whole")
    process = start(trial, "bash", "-c", slow)
    await_file(trial / "ready", process)
    process.send_signal(signal.SIGTERM)
    claim = trial / "attempts" / "1.json"
    wait_until(lambda: "signal" in record(trial, 1), on_timeout=process.poll)
    told = claim.stat().st_mtime
    wait_until(lambda: claim.stat().st_mtime > told + 2, on_timeout=process.poll)
    kill_all(trial, process)
    code, output = finish(start(trial, "true"))
    assert code == 0
    words = r"attempt 1 was killed \d+ s after SIGTERM, while its program was still running"
    assert re.search(words, output), output
    assert "a longer GraceTime, signal_before_end_s" in output
    first = json.loads((trial / "result.json").read_text())["attempts"][0]
    assert (first["outcome"], first["signal"]) == (None, "SIGTERM")
    assert first["stopping_s"] >= 2
    assert (trial / "checkpoints" / "before").read_text() == "whole"


def test_b13_save_within_the_grace_records_its_time(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", CHECKPOINTER.replace("echo saved", "sleep 1; echo saved"))
    await_file(trial / "ready", process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert record(trial, 1)["stopping_s"] >= 1


def test_b14_second_signal_is_not_handed_on(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = """
        trap 'echo told >> $TRIAL_DIR/told' USR2 TERM
        touch $TRIAL_DIR/ready
        until [ -e $TRIAL_DIR/finish ]; do sleep 0.05; done
        exit 75
    """
    process = start(trial, "bash", "-c", script)
    await_file(trial / "ready", process)
    process.send_signal(signal.SIGUSR2)
    await_file(trial / "told", process)
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM):
        process.send_signal(number)
    (trial / "finish").touch()
    assert finish(process)[0] == 75
    assert (trial / "told").read_text() == "told\n"
    assert record(trial, 1)["cause"] == "stopped by SIGUSR2; checkpointed"


def test_b15_signal_before_the_program_started_starts_it_not(tmp_path: Path) -> None:
    """In a step Slurm signals what is there: a program started later would never hear of it."""
    trial = make_trial(tmp_path)
    foreign_claim(trial)
    process = start(trial, "touch", str(trial / "ran"), options=("--layout", "step"))
    line = ""
    while "watching it" not in line:
        line = process.stdout.readline()
        assert line
    process.send_signal(signal.SIGTERM)
    first = {**record(trial, 1), "outcome": "preempted"}
    (tmp_path / "first").write_text(json.dumps(first))
    (tmp_path / "first").rename(trial / "attempts" / "1.json")
    assert finish(process)[0] == 75
    end = record(trial, 2)
    assert end["cause"] == "stopped by SIGTERM before its program was started"
    assert (end["outcome"], end["exit_code"], end["signal"]) == ("preempted", None, "SIGTERM")
    assert not (trial / "ran").exists()


def test_b15_signal_while_the_program_imports_loses_nothing(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    (trial / "late.py").write_text(
        "import os, pathlib, time\n"
        "trial = pathlib.Path(os.environ['TRIAL_DIR'])\n"
        "if os.environ['TRIAL_ATTEMPT'] == '1':\n"
        "    (trial / 'ready').touch()\n"
        "    time.sleep(60)\n"
        "from orchestrator.runtime import session\n"
        "session.install_signal_handlers()\n"
        "session.report(step=1, loss=1.0)\n"
    )
    process = start(trial, sys.executable, str(trial / "late.py"))
    await_file(trial / "ready", process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 75
    assert record(trial, 1)["outcome"] == "preempted"
    assert finish(start(trial, sys.executable, str(trial / "late.py")))[0] == 0
    assert json.loads((trial / "result.json").read_text())["metrics"] == {"loss": 1.0}


def test_b15_signal_that_reached_the_program_first_still_explains_its_end(tmp_path: Path) -> None:
    """Slurm signals the processes of a step one by one; a quick program is gone before."""
    trial = make_trial(tmp_path)
    script = "kill -TERM $PPID; exit 75"
    late = "(sleep 0.2; kill -TERM $PPID) > /dev/null 2>&1 & exit 75"
    # How long it is waited for: here for as long as the signal may take on a busy machine.
    patient = "attempt.SETTLE_S = 60"
    for number, command in enumerate((script, script.replace("75", "143"), late), start=1):
        step = ("--layout", "step")
        process = start(trial, "bash", "-c", command, options=step, change=patient)
        assert finish(process)[0] == 75
        end = record(trial, number)
        assert (end["outcome"], end["signal"]) == ("preempted", "SIGTERM"), end


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 10, 20, 40])
def test_b16_signal_at_the_commit_counts_the_trial_once(tmp_path: Path, delay_ms: int) -> None:
    trial = make_trial(tmp_path)
    script = "trap '' TERM; echo '{\"loss\": 1}' > $TRIAL_METRICS; touch $TRIAL_DIR/ready"
    process = start(trial, "bash", "-c", script)
    await_file(trial / "ready", process)
    time.sleep(delay_ms / 1000)  # the point is to hit any instant; every one must do
    process.send_signal(signal.SIGTERM)
    finish(process)
    committed = (trial / "result.json").exists()
    before = (trial / "result.json").read_bytes() if committed else b""
    assert finish(start(trial, "bash", "-c", script))[0] == 0
    outcomes = [end["outcome"] for end in previous_ends(TrialPaths(str(trial)), 99)]
    assert outcomes.count("committed") == 1
    assert not committed or (trial / "result.json").read_bytes() == before


def test_b18_frozen_attempt_goes_on_where_it_was(tmp_path: Path) -> None:
    """For longer than a heartbeat may be old; nobody else claimed the trial meanwhile."""
    trial = make_trial(tmp_path)
    process = start(
        trial, "bash", "-c", TALKER, ORCHESTRATOR_HEARTBEAT_S="0.2", ORCHESTRATOR_STALE_S="0.6"
    )
    await_file(trial / "ready.1", process)
    claim = trial / "attempts" / "1.json"
    process.send_signal(signal.SIGSTOP)
    await_stop(process.pid)
    frozen = claim.stat().st_mtime
    wait_until(lambda: time.time() > frozen + 1.5)
    assert claim.stat().st_mtime == frozen
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: claim.stat().st_mtime > frozen, on_timeout=process.poll)
    (trial / "finish").touch()
    assert finish(process)[0] == 0
    assert record(trial, 1)["outcome"] == "committed"


# --- two copies ----------------------------------------------------------------------------------


def test_c02_copy_on_a_lost_node_stops_before_the_new_one_starts(tmp_path: Path) -> None:
    """Slurm gave the node up and restarted the task, while the first copy runs on."""
    trial = make_trial(tmp_path)
    metrics = trial / "metrics.jsonl"
    metrics.touch()
    # The second gives the first its heartbeat's time to show up: here as long as it may take.
    first = start(trial, "bash", "-c", TALKER, **TASK, ORCHESTRATOR_HEARTBEAT_S="0.5")
    wait_until(lambda: '"attempt": 1' in metrics.read_text(), on_timeout=first.poll)
    second = start(trial, "bash", "-c", TALKER, **AGAIN, ORCHESTRATOR_HEARTBEAT_S="60")
    assert finish(first)[0] == 1
    wait_until(lambda: '"attempt": 2' in metrics.read_text(), on_timeout=second.poll)
    (trial / "finish").touch()
    code, output = finish(second)
    assert code == 0
    assert "attempt 1 on" in output
    assert [end["outcome"] for end in previous_ends(TrialPaths(str(trial)), 9)] == [
        "superseded",
        "committed",
    ]
    who = [json.loads(line)["attempt"] for line in metrics.open()]
    assert who == sorted(who), "never two at once, though no line of bash looks at claims"
    assert set(who) == {1, 2}


def test_c02_copy_that_is_dead_is_not_waited_for_long(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))
    began = time.monotonic()
    code, output = finish(start(trial, "true", **AGAIN, ORCHESTRATOR_HEARTBEAT_S="1"))
    assert code == 0
    assert time.monotonic() - began < 80, "less than what makes a heartbeat old"
    assert "attempt 1 on n7 has no end; giving it 1 s to show up" in output


def test_c02_late_result_of_a_superseded_copy_is_refused(tmp_path: Path) -> None:
    """It finished between two heartbeats: its metrics file may hold lines of the other."""
    trial = make_trial(tmp_path)
    first = start(trial, "bash", "-c", TALKER, **TASK, **SILENT)
    await_file(trial / "ready.1", first)
    (trial / "attempts" / "2.json").write_text("{}")
    (trial / "finish").touch()
    assert finish(first)[0] == 1
    assert not (trial / "result.json").exists()
    end = record(trial, 1)
    assert (end["outcome"], end["exit_code"]) == ("superseded", 0)
    assert end["cause"] == (
        "it finished, but a newer attempt holds the trial: its result is not counted"
    )


def test_c02_superseded_copy_does_not_requeue_the_new_one(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 0 RUNNING\n")
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path}/requeued\n")
    for name in ("squeue", "scontrol"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    first = start(trial, "bash", "-c", CHECKPOINTER, options=("--requeue",), PATH=path, **TASK)
    await_file(trial / "ready", first)
    (trial / "attempts" / "2.json").write_text("{}")
    first.send_signal(signal.SIGTERM)
    assert finish(first)[0] == 1
    assert record(trial, 1)["outcome"] == "superseded"
    assert not (tmp_path / "requeued").exists()


def test_c03_copies_that_commit_at_the_same_moment_commit_once(tmp_path: Path) -> None:
    """Both pass every check before; link(2) decides. Many rounds, in processes."""
    context = multiprocessing.get_context("fork")
    for number in range(30):
        root = make_trial(tmp_path, f"{number:05d}-abcdef0123")
        (root / "attempts").mkdir()
        barrier, answers = context.Barrier(3), context.SimpleQueue()

        def commit(attempt: int, root: Path, barrier: Any, answers: Any) -> None:
            claim = Claim(TrialPaths(str(root)), attempt, {"attempt": attempt}, Times())
            barrier.wait(120)
            answers.put((attempt, commit_result(claim, {"attempt": attempt})))

        copies = [
            context.Process(target=commit, args=(attempt, root, barrier, answers))
            for attempt in (1, 2, 3)
        ]
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join(120)
            assert copy.exitcode == 0
        said = [answers.get() for _ in copies]
        winners = [attempt for attempt, is_first in said if is_first]
        assert len(winners) == 1
        assert json.loads((root / "result.json").read_text())["attempt"] == winners[0]
        assert sorted(os.listdir(root)) == ["attempts", "params.json", "result.json"]


def test_c05_sigkill_of_the_program_alone_is_a_failure_with_its_cause(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", "echo $$ > $TRIAL_DIR/ready; exec sleep 60")
    os.kill(await_pid(trial / "ready", process), signal.SIGKILL)
    assert finish(process)[0] == 137
    end = record(trial, 1)
    assert (end["outcome"], end["kind"], end["exit_code"]) == ("failed", "killed", -9)
    assert (end["cause"], end.get("signal")) == ("SIGKILL", None)


def test_c09_superseded_program_writes_no_more_metrics(tmp_path: Path) -> None:
    """Its supervisor does not look for a successor for long: the program's own report does."""
    trial = make_trial(tmp_path)
    (trial / "report.py").write_text(
        "import os, pathlib, time\n"
        "from orchestrator.runtime import session\n"
        "trial = pathlib.Path(os.environ['TRIAL_DIR'])\n"
        "for step in range(1000):\n"
        "    session.report(step=step, loss=1.0)\n"
        "    (trial / 'ready').touch()\n"
        "    while step == 3 and not (trial / 'go').exists():\n"
        "        time.sleep(0.02)\n"
    )
    argv = (sys.executable, str(trial / "report.py"))
    process = start(trial, *argv, **SILENT)
    wait_until(
        lambda: (
            (trial / "metrics.jsonl").exists()
            and (trial / "metrics.jsonl").read_text().count("\n") == 4
        ),
        on_timeout=process.poll,
    )
    (trial / "attempts" / "2.json").write_text("{}")
    (trial / "go").touch()
    code, output = finish(process)
    assert code == 1
    assert "a newer attempt holds this trial; leaving" in output
    assert (trial / "metrics.jsonl").read_text().count("\n") == 4
    assert record(trial, 1)["outcome"] == "superseded"


@pytest.mark.parametrize(
    "changes",
    [
        {"pid_start": 1},  # another process has its pid now
        {"boot_id": "another-boot"},  # and the host was started anew since
        {"pid": 2**22 + 1},
    ],
)
def test_c11_pid_or_boot_used_again_is_not_the_old_attempt(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, host=os.uname().nodename, **changes)
    code, output = finish(start(trial, "true"))
    assert code == 0
    assert "watching" not in output
    assert record(trial, 2)["outcome"] == "committed"


def test_c11_same_pid_and_boot_of_another_host_proves_nothing(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial)
    # Written by a server whose clock is ahead: not old, however long this process takes to start.
    os.utime(trial / "attempts" / "1.json", (time.time() + 3600,) * 2)
    quick = {"ORCHESTRATOR_STALE_S": "1", "ORCHESTRATOR_HEARTBEAT_S": "0.2"}
    code, output = finish(start(trial, "true", **quick))
    assert code == 0
    assert "has no end and its heartbeat is 0 s old; watching it" in output

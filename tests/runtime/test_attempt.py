"""The attempt as a process: what it leaves on disk for each way a program can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until


def make_trial(tmp_path: Path, name: str = "00007-abcdef0123") -> Path:
    trial = tmp_path / "trials" / name
    trial.mkdir(parents=True)
    (trial / "params.json").write_text('{"x": 1}')
    return trial


def start(trial: Path, *command: str, options: tuple[str, ...] = (), **env: str) -> Any:
    argv = [sys.executable, "-m", "orchestrator.runtime.attempt", "--trial-dir", str(trial)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return subprocess.Popen(
        [*argv, *options, "--", *command],
        env={**environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: Any) -> tuple[int, str]:
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


def record(trial: Path, number: int) -> dict[str, Any]:
    return json.loads((trial / "attempts" / f"{number}.json").read_text())


def test_attempt_success_commits_last_value_of_each_metric(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = (
        'echo \'{"loss": 2.0, "step": 1}\' >> "$TRIAL_METRICS";'
        'echo \'{"loss": 1.5, "step": 2, "acc": NaN}\' >> "$TRIAL_METRICS"'
    )
    code, _ = finish(start(trial, "bash", "-c", script))
    result = json.loads((trial / "result.json").read_text())
    assert code == 0
    assert result["metrics"] == {"loss": 1.5, "acc": "nan"}
    assert (result["attempt"], result["last_step"], result["n_reports"]) == (1, 2, 2)
    assert record(trial, 1)["outcome"] == "committed"
    assert result["attempts"] == [record(trial, 1)]


def test_attempt_environment_names_the_trial(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    code, output = finish(
        start(trial, "bash", "-c", "env | grep ^TRIAL_ | sort", options=("--seed", "5"))
    )
    lines = [line for line in output.splitlines() if line.startswith("TRIAL_")]
    assert code == 0
    assert lines == [
        "TRIAL_ATTEMPT=1",
        f"TRIAL_CHECKPOINT_DIR={trial}/checkpoints",
        f"TRIAL_DIR={trial}",
        f"TRIAL_METRICS={trial}/metrics.jsonl",
        "TRIAL_MTBF_S=86400",
        "TRIAL_NUMBER=7",
        f"TRIAL_PARAMS={trial}/params.json",
        "TRIAL_SEED=5",
    ]


@pytest.mark.parametrize(
    ("command", "code", "cause"),
    [
        (("bash", "-c", "exit 3"), 3, "exit code 3"),
        (("bash", "-c", "kill -KILL $$"), 137, "SIGKILL"),
        (("no-such-program",), 127, "cannot start 'no-such-program': No such file or directory"),
    ],
)
def test_attempt_failure_records_cause(
    tmp_path: Path, command: tuple[str, ...], code: int, cause: str
) -> None:
    trial = make_trial(tmp_path)
    assert finish(start(trial, *command))[0] == code
    end = record(trial, 1)
    assert (end["outcome"], end["cause"]) == ("failed", cause)
    assert not (trial / "result.json").exists()


def test_attempt_failure_cause_holds_last_words_of_log(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    words = "Traceback\nValueError: \x1b[31mbad lr\x1b[0m\n[orchestrator] x\n"
    finish(start(trial, "bash", "-c", f"printf '{words}' >> $TRIAL_DIR/log; exit 1"))
    assert record(trial, 1)["cause"] == "exit code 1: ValueError: [31mbad lr[0m"


def test_attempt_failure_in_silence_has_no_words_of_an_earlier_attempt(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    (trial / "log").write_text("CUDA out of memory\n")
    finish(start(trial, "bash", "-c", "exit 1"))
    assert (record(trial, 1)["cause"], record(trial, 1)["kind"]) == ("exit code 1", "error")


def test_attempt_failure_has_kind_fingerprint_and_progress(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = (
        "echo '{\"loss\": 1}' >> $TRIAL_METRICS;"
        'printf \'Traceback (most recent call last):\n  File "a"\n'
        "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB\n' >> $TRIAL_DIR/log; exit 1"
    )
    finish(start(trial, "bash", "-c", script))
    end = record(trial, 1)
    assert (end["kind"], len(end["fingerprint"])) == ("cuda_oom", 12)
    assert (end["progress_before"], end["progress"]) == ([0, 0, 0], [12, 0, 0])


def test_b17_attempt_after_three_without_progress_ends_as_stuck(tmp_path: Path) -> None:
    """Whatever ended them: here a kill without a word, a signal and a kill again."""
    trial = make_trial(tmp_path)
    idle = CHECKPOINTER.replace('echo saved > "$TRIAL_CHECKPOINT_DIR/c"; ', "")
    for number in (1, 2, 3):
        process = start(trial, "bash", "-c", idle)
        wait_until((trial / "ready").exists, on_timeout=process.poll)
        process.send_signal(signal.SIGTERM if number == 2 else signal.SIGKILL)
        process.communicate(timeout=30) if number == 2 else process.wait(30)
        if number != 2:
            os.kill(int((trial / "ready").read_text()), signal.SIGKILL)  # the orphan
        (trial / "ready").unlink()
        os.utime(trial / "attempts" / f"{number}.json", (time.time() + 70,) * 2)
    end = record(trial, 2)
    (trial / "attempts" / "2.json").write_text(json.dumps({**end, "wall_s": 70.0}))
    code, output = finish(start(trial, "touch", str(trial / "ran")))
    stuck = record(trial, 4)
    assert (code, stuck["outcome"], stuck["kind"]) == (1, "failed", "stuck")
    assert stuck["cause"] == (
        "stuck: the last 3 attempts ended without a new metric or checkpoint; "
        "save more often, or give it more time, then retry it"
    )
    assert "failed (stuck)" in output
    assert not (trial / "ran").exists()
    assert finish(start(trial, "touch", str(trial / "ran")))[0] == 0
    assert (trial / "ran").exists(), "asked for again, it runs again"


def test_attempt_committed_trial_runs_nothing(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    finish(start(trial, "true"))
    before = (trial / "result.json").read_bytes()
    code, output = finish(start(trial, "bash", "-c", "touch $TRIAL_DIR/ran"))
    assert code == 0
    assert "is committed; nothing to do" in output
    assert not (trial / "ran").exists()
    assert (trial / "result.json").read_bytes() == before
    assert os.listdir(trial / "attempts") == ["1.json"]


CHECKPOINTER = """
trap 'echo saved > "$TRIAL_CHECKPOINT_DIR/c"; exit 75' USR2 TERM
echo $$ > "$TRIAL_DIR/ready"
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_attempt_signal_is_handed_on_and_recorded(tmp_path: Path, number: int) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", CHECKPOINTER)
    wait_until((trial / "ready").exists, on_timeout=lambda: process.poll())
    process.send_signal(number)
    code, _ = finish(process)
    end = record(trial, 1)
    assert code == 75
    assert (end["outcome"], end["exit_code"]) == ("preempted", 75)
    assert end["cause"] == f"stopped by {signal.Signals(number).name}; checkpointed"
    assert (trial / "checkpoints" / "c").read_text() == "saved\n"


def test_attempt_step_layout_does_not_hand_signals_on(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = CHECKPOINTER.replace("while :;", "for i in {1..10};")
    process = start(trial, "bash", "-c", script, options=("--layout", "step"))
    wait_until((trial / "ready").exists, on_timeout=lambda: process.poll())
    process.send_signal(signal.SIGUSR2)
    code, _ = finish(process)
    assert code == 0, "Slurm signals the processes of a step itself; twice would disturb a save"
    assert not (trial / "checkpoints" / "c").exists()


def test_attempt_program_without_handler_is_preempted_not_failed(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", "touch $TRIAL_DIR/ready; sleep 30 > /dev/null 2>&1 & wait")
    wait_until((trial / "ready").exists, on_timeout=lambda: process.poll())
    process.send_signal(signal.SIGUSR2)
    finish(process)
    assert record(trial, 1)["outcome"] == "preempted"
    assert record(trial, 1)["cause"] == "stopped by SIGUSR2; ended with SIGUSR2"


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_attempt_waits_for_what_a_shell_script_had_started(tmp_path: Path, number: int) -> None:
    """A script without a trap dies of the signal at once; the program in it saves for a while."""
    trial = make_trial(tmp_path)
    (trial / "save.py").write_text(
        "import os, time\n"
        "from orchestrator.runtime import session\n"
        "session.install_signal_handlers()\n"
        "open(os.environ['TRIAL_DIR'] + '/ready', 'w').close()\n"
        "while not session.should_stop():\n    time.sleep(0.05)\n"
        "time.sleep(3)\n"
        "open(os.environ['TRIAL_CHECKPOINT_DIR'] + '/saved', 'w').close()\n"
        "session.exit_for_requeue()\n"
    )
    process = start(trial, "bash", "-c", f"{sys.executable} $TRIAL_DIR/save.py; exit 0")
    wait_until((trial / "ready").exists, on_timeout=process.poll)
    process.send_signal(number)
    code, output = finish(process)
    assert code == 75
    assert (trial / "checkpoints/saved").exists()
    assert record(trial, 1)["outcome"] == "preempted"
    assert "left behind" not in output


def test_attempt_exit_75_without_signal_asks_to_run_again(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    assert finish(start(trial, "bash", "-c", "exit 75"))[0] == 75
    assert record(trial, 1)["cause"] == "stopped by its own wish; checkpointed"


def test_attempt_asking_again_for_ever_without_work_fails(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    codes = [finish(start(trial, "bash", "-c", "exit 75"))[0] for _ in range(3)]
    assert codes == [75, 75, 1]
    assert [record(trial, n)["outcome"] for n in (1, 2, 3)] == ["preempted", "preempted", "failed"]
    assert record(trial, 3)["cause"] == (
        "asked to be run again 3 times in a row, and wrote no metric and no checkpoint in between"
    )
    assert record(trial, 3)["kind"] == "stuck"


def test_attempt_asking_again_after_work_goes_on(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    work = "echo '{\"x\": 1}' >> $TRIAL_METRICS; exit 75"
    for _ in range(5):
        finish(start(trial, "bash", "-c", work))
    assert [record(trial, n)["outcome"] for n in range(1, 6)] == ["preempted"] * 5


def test_attempt_second_attempt_keeps_checkpoints_and_history(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    finish(start(trial, "bash", "-c", "echo 5 > $TRIAL_CHECKPOINT_DIR/step; exit 75"))
    code, _ = finish(
        start(
            trial,
            "bash",
            "-c",
            'echo "{\\"resumed_at\\": $(cat $TRIAL_CHECKPOINT_DIR/step)}" >> $TRIAL_METRICS;'
            'test "$TRIAL_ATTEMPT" = 2',
        )
    )
    result = json.loads((trial / "result.json").read_text())
    assert code == 0
    assert result["metrics"] == {"resumed_at": 5}
    assert [attempt["outcome"] for attempt in result["attempts"]] == ["preempted", "committed"]


def test_attempt_while_another_lives_leaves(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    first = start(trial, "bash", "-c", CHECKPOINTER)
    wait_until((trial / "ready").exists, on_timeout=lambda: first.poll())
    code, output = finish(start(trial, "touch", str(trial / "ran")))
    first.terminate()
    finish(first)
    assert code == 0
    assert "attempt 1 on" in output
    assert "this copy leaves" in output
    assert not (trial / "ran").exists()


def test_attempt_after_sigkill_takes_over_at_once(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    first = start(trial, "bash", "-c", CHECKPOINTER)
    wait_until((trial / "ready").exists, on_timeout=lambda: first.poll())
    first.kill()
    first.wait()
    began = time.monotonic()
    code, _ = finish(start(trial, "true"))
    result = json.loads((trial / "result.json").read_text())
    assert code == 0
    assert time.monotonic() - began < 20, "a dead process of this host needs no watching"
    assert [attempt["outcome"] for attempt in result["attempts"]] == [None, "committed"]
    assert result["attempts"][0]["cause"] == "killed without a word"
    os.kill(int((trial / "ready").read_text()), signal.SIGKILL)  # the orphan of the first


def superseded(trial: Path, how: Callable[[Path], None]) -> tuple[int, str]:
    process = start(trial, "bash", "-c", CHECKPOINTER, ORCHESTRATOR_HEARTBEAT_S="0.1")
    wait_until((trial / "ready").exists, on_timeout=lambda: process.poll())
    how(trial)
    return finish(process)


def test_attempt_superseded_stops_itself_and_commits_nothing(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    code, _ = superseded(trial, lambda t: (t / "attempts" / "2.json").write_text("{}") and None)
    assert code == 1
    assert record(trial, 1)["outcome"] == "superseded"
    assert not (trial / "result.json").exists()


def test_attempt_trial_directory_removed_stops_and_creates_nothing(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    code, output = superseded(trial, lambda t: (t.rename(tmp_path / "moved"), None)[1])
    assert code == 1
    assert "the trial's directory is gone" in output
    assert not trial.exists()


def test_attempt_late_result_is_refused(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    code, output = finish(start(trial, "bash", "-c", 'echo "{}" > $TRIAL_DIR/result.json'))
    assert code == 0
    assert "another attempt committed first" in output
    assert record(trial, 1)["outcome"] == "refused"
    assert (trial / "result.json").read_text() == "{}\n"


def test_attempt_orphan_of_local_executor_stops(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", CHECKPOINTER, ORCHESTRATOR_PARENT_PID="1")
    code, _ = finish(process)
    assert code == 75
    assert record(trial, 1)["outcome"] == "preempted"


@pytest.mark.parametrize(
    "argv", [("--",), ("--trial-dir",), ("--nonsense", "x", "--", "true"), ("--", "true")]
)
def test_attempt_wrong_call_exits_2(argv: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "orchestrator.runtime.attempt", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("[orchestrator]")


def test_attempt_ends_what_the_program_left_behind(tmp_path: Path) -> None:
    """A forgotten child would keep the job, and its GPU, after the commit."""
    trial = make_trial(tmp_path)
    script = "sleep 300 > /dev/null 2>&1 & echo $! > $TRIAL_DIR/child"
    code, output = finish(start(trial, "bash", "-c", script))
    child = Path("/proc", (trial / "child").read_text().strip(), "stat")
    assert code == 0
    assert "ended processes that the program had left behind" in output
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_claim_tells_what_the_attempt_before_had_saved(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    (trial / "checkpoints").mkdir()
    newest = trial / "checkpoints/checkpoint-20"
    for name, age_s in (("checkpoint-10", 900), ("checkpoint-20", 600), (".tmp-checkpoint-30", 5),
                        ("plain.json.tmp", 1)):  # fmt: skip
        path = trial / "checkpoints" / name
        path.write_text("x")
        os.utime(path, (time.time() - age_s,) * 2)
    finish(start(trial, "true"))
    claim = record(trial, 1)
    assert claim["resumes_from"]["mtime"] == pytest.approx(newest.stat().st_mtime, abs=0.002)
    age_s = claim["claimed_unix"] - claim["resumes_from"]["mtime"]
    assert claim["resumes_from"]["age_s"] == pytest.approx(age_s, abs=0.002)
    assert 599 < age_s < 660
    assert json.loads((trial / "result.json").read_text())["attempts"] == [claim]


def test_claim_without_checkpoints_resumes_from_nothing(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    finish(start(trial, "true"))
    claim = record(trial, 1)
    assert claim["resumes_from"] is None
    assert claim["claimed_unix"] == pytest.approx(claim["started_unix"], abs=1)
    assert claim["start_up_s"] is None


def test_attempt_with_a_curve_tells_its_start_up(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    curve = 'for n in $(seq 20); do echo "{\\"step\\": $n}" >> "$TRIAL_METRICS"; sleep 0.05; done'
    finish(start(trial, "bash", "-c", f"sleep 1; {curve}"))
    assert 0.3 < record(trial, 1)["start_up_s"] < 5


def test_attempt_tells_its_program_how_often_the_sweep_is_lost(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    (tmp_path / "loss_rate.json").write_text('{"losses": 9, "observed_s": 0}')
    os.utime(tmp_path / "loss_rate.json", (time.time() - 100,) * 2)
    program = ("bash", "-c", "echo $TRIAL_MTBF_S; kill -KILL $$")
    two_nodes = ("--resources", '{"nodes": 2}')
    assert "\n4320\n" in finish(start(trial, *program, options=two_nodes))[1]
    # The first attempt was killed: one loss more, on two nodes.
    assert "\n3927\n" in finish(start(trial, *program, options=two_nodes))[1]

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

from tests.waiting import await_file, await_pid, is_running, wait_until


def make_trial(tmp_path: Path, name: str = "00007-abcdef0123") -> Path:
    trial = tmp_path / "trials" / name
    trial.mkdir(parents=True)
    (trial / "params.json").write_text('{"x": 1}')
    return trial


def start(
    trial: Path, *command: str, options: tuple[str, ...] = (), change: str = "", **env: str
) -> Any:
    """Start an attempt; ``change`` is what to do to its module first."""
    program = ["-m", "orchestrator.runtime.attempt"]
    if change:
        main = "sys.exit(attempt.main(sys.argv[1:]))"
        program = ["-c", f"import sys; from orchestrator.runtime import attempt; {change}; {main}"]
    argv = [sys.executable, *program, "--trial-dir", str(trial)]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return subprocess.Popen(
        [*argv, *options, "--", *command],
        env={**environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: Any) -> tuple[int, str]:
    output, _ = process.communicate(timeout=120)
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
        program = await_pid(trial / "ready", process)
        process.send_signal(signal.SIGTERM if number == 2 else signal.SIGKILL)
        process.communicate(timeout=120) if number == 2 else process.wait(120)
        if number != 2:
            os.kill(program, signal.SIGKILL)  # the orphan
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
    await_file(trial / "ready", process)
    process.send_signal(number)
    code, _ = finish(process)
    end = record(trial, 1)
    assert code == 75
    assert (end["outcome"], end["exit_code"]) == ("preempted", 75)
    assert end["cause"] == f"stopped by {signal.Signals(number).name}; checkpointed"
    assert (trial / "checkpoints" / "c").read_text() == "saved\n"


def test_attempt_step_layout_does_not_hand_signals_on(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = CHECKPOINTER.replace("while :;", 'until [ -e "$TRIAL_DIR/finish" ];')
    step = ("--layout", "step")
    process = start(trial, "bash", "-c", script, options=step, ORCHESTRATOR_HEARTBEAT_S="0.1")
    await_file(trial / "ready", process)
    claim = trial / "attempts" / "1.json"
    claimed = claim.stat().st_mtime_ns
    # A signal of before its first heartbeat may have missed the program: that one it hands on.
    wait_until(lambda: claim.stat().st_mtime_ns > claimed, on_timeout=process.poll)
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "signal" in record(trial, 1), on_timeout=process.poll)
    (trial / "finish").touch()
    code, _ = finish(process)
    assert code == 0, "Slurm signals the processes of a step itself; twice would disturb a save"
    assert not (trial / "checkpoints" / "c").exists()


def test_attempt_program_without_handler_is_preempted_not_failed(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", "touch $TRIAL_DIR/ready; sleep 30 > /dev/null 2>&1 & wait")
    await_file(trial / "ready", process)
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
    await_file(trial / "ready", process)
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
    await_file(trial / "ready", first)
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
    program = await_pid(trial / "ready", first)
    first.kill()
    first.wait()
    code, output = finish(start(trial, "true"))
    result = json.loads((trial / "result.json").read_text())
    assert code == 0
    assert "watching" not in output, "a dead process of this host needs none"
    assert [attempt["outcome"] for attempt in result["attempts"]] == [None, "committed"]
    assert result["attempts"][0]["cause"] == "killed without a word"
    os.kill(program, signal.SIGKILL)  # the orphan of the first


def superseded(trial: Path, how: Callable[[Path], None]) -> tuple[int, str]:
    process = start(trial, "bash", "-c", CHECKPOINTER, ORCHESTRATOR_HEARTBEAT_S="0.1")
    await_file(trial / "ready", process)
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("[orchestrator]")


def test_attempt_ends_what_the_program_left_behind(tmp_path: Path) -> None:
    """A forgotten child would keep the job, and its GPU, after the commit."""
    trial = make_trial(tmp_path)
    script = "sleep 300 > /dev/null 2>&1 & echo $! > $TRIAL_DIR/child"
    code, output = finish(start(trial, "bash", "-c", script))
    child = int((trial / "child").read_text())
    assert code == 0
    assert "ended processes that the program had left behind" in output
    wait_until(lambda: not is_running(child), on_timeout=lambda: child)


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
    began = time.time()
    finish(start(trial, "true"))
    ended = time.time()
    claim = record(trial, 1)
    assert claim["resumes_from"] is None
    for key in ("claimed_unix", "started_unix"):
        assert began - 0.1 < claim[key] < ended + 0.1, "a file's times are some ms behind"
    assert claim["start_up_s"] is None


def test_attempt_with_a_curve_tells_its_start_up(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = """
        sleep 1
        echo '{"step": 1}' >> "$TRIAL_METRICS"
        until [ -e "$TRIAL_DIR/go" ]; do sleep 0.05; done
        for n in {1..200}; do echo '{"step": 2}'; done >> "$TRIAL_METRICS"
    """
    began = time.time()
    process = start(trial, "bash", "-c", script, ORCHESTRATOR_HEARTBEAT_S="0.1")
    await_file(trial / "metrics.jsonl", process)
    claim = trial / "attempts" / "1.json"
    # Looks are up to a fifth of the time apart, and there is one between two heartbeats then.
    look_s = time.time() + 0.25 + (time.time() - began) / 5
    wait_until(lambda: claim.stat().st_mtime > look_s, on_timeout=process.poll)
    beat_s = claim.stat().st_mtime
    wait_until(lambda: claim.stat().st_mtime > beat_s, on_timeout=process.poll)
    seen_s = time.time() - began
    (trial / "go").touch()
    assert finish(process)[0] == 0
    assert 0.3 < record(trial, 1)["start_up_s"] < seen_s


def test_attempt_tells_its_program_how_often_the_sweep_is_lost(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    (tmp_path / "loss_rate.json").write_text('{"losses": 9, "observed_s": 0}')
    os.utime(tmp_path / "loss_rate.json", (time.time() - 100,) * 2)
    program = ("bash", "-c", "echo $TRIAL_MTBF_S; kill -KILL $$")
    two_nodes = ("--resources", '{"nodes": 2}')
    assert "\n4320\n" in finish(start(trial, *program, options=two_nodes))[1]
    # The first attempt was killed: one loss more, and its time, on two nodes.
    mtbf_s = (86400 + 2 * record(trial, 1)["wall_s"]) / 11 / 2
    assert 3927 < mtbf_s < 4320
    assert f"\n{mtbf_s:.0f}\n" in finish(start(trial, *program, options=two_nodes))[1]

"""Heartbeats: soon after the claim, so that of an attempt that is killed its life is known."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime import job
from orchestrator.runtime.claim import previous_ends, take_claim
from orchestrator.runtime.heartbeat import Beats, Times, read_times
from tests.runtime.test_attempt import finish, make_trial, record, start
from tests.runtime.test_attempt_faults import AGAIN, TASK, foreign_claim, kill_all
from tests.waiting import await_pid, wait_until

# The lasting distance never comes; what beats are the early ones.
EARLY = {"ORCHESTRATOR_HEARTBEAT_S": "1000", "ORCHESTRATOR_FIRST_BEAT_S": "0.05"}
SLEEPER = 'echo $$ > "$TRIAL_DIR/ready"; exec sleep 300'


def await_beat(trial: Path, number: int, process: Any, after_s: float = 0.04) -> None:
    """Wait for a heartbeat that is later than the claim; the process is asked if none comes."""
    path = trial / "attempts" / f"{number}.json"

    def has_beaten() -> bool:
        return (
            path.exists() and path.stat().st_mtime > record(trial, number)["claimed_unix"] + after_s
        )

    wait_until(has_beaten, on_timeout=process.poll)


def test_beats_are_early_and_then_at_doubling_distances() -> None:
    beats = Beats(100.0, Times())
    due = []
    for _ in range(8):
        due.append((beats.next_at - 100.0, beats.is_settled))
        assert beats.looks(beats.next_at) is beats.is_settled
        beats.took_place(beats.next_at)
    assert due == [
        (1, False),
        (3, False),
        (7, False),
        (15, False),
        (31, True),
        (61, True),
        (91, True),
        (121, True),
    ]


def test_early_beat_that_comes_late_looks_for_a_successor() -> None:
    """The process was frozen: whoever waited for it has gone on after a heartbeat and a half."""
    beats = Beats(0.0, Times())
    assert [beats.looks(at) for at in (1.0, 29.5, 30.0, 45.0)] == [False, False, True, True]


@pytest.mark.parametrize("late_s", [0.0, 5.0, 10.0, 14.9, 20.0, 29.0, 44.0])
def test_beats_that_are_held_up_again_and_again_look_before_anybody_goes_on(late_s: float) -> None:
    """Whoever saw one of them move waits for two heartbeats, and for the program's end."""
    times = Times()
    beats = Beats(0.0, times)
    looked_at, gaps = 0.0, []
    for _ in range(12):
        at = beats.next_at + late_s
        if beats.looks(at):
            gaps.append(at - looked_at)
            looked_at = at
        beats.took_place(at)
    assert max(gaps) < 2 * times.heartbeat_s + 1.5 * times.end_grace_s


def test_beats_of_a_short_heartbeat_are_regular_at_once() -> None:
    beats = Beats(0.0, Times(heartbeat_s=0.5))
    assert (beats.next_at, beats.is_settled) == (0.5, True)


def test_times_come_from_the_environment_as_far_as_it_names_them() -> None:
    given = read_times({"ORCHESTRATOR_HEARTBEAT_S": "2", "ORCHESTRATOR_STALE_S": "7.5"})
    assert (given.heartbeat_s, given.first_beat_s, given.stale_s) == (2.0, 1.0, 7.5)
    usual = read_times({})
    assert (usual.heartbeat_s, usual.first_beat_s, usual.stale_s) == (30.0, 1.0, 100.0)


def test_attempt_killed_before_its_first_regular_heartbeat_is_known_to_have_lived(
    tmp_path: Path,
) -> None:
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", SLEEPER, **EARLY)
    await_beat(trial, 1, process)
    kill_all(trial, process)
    (end,) = previous_ends(TrialPaths(str(trial)), 99)
    assert end["estimated"] is True
    assert end["wall_s"] > 0.03


def test_early_beats_touch_the_claim_and_nothing_else(tmp_path: Path) -> None:
    """Looking for a successor touches the folder, and takes seven operations more."""
    trial = make_trial(tmp_path)
    process = start(trial, "bash", "-c", SLEEPER, **EARLY)
    program = await_pid(trial / "ready", process)
    folder = (trial / "attempts").stat().st_mtime_ns
    await_beat(trial, 1, process, after_s=0.3)
    assert (trial / "attempts").stat().st_mtime_ns == folder
    os.kill(program, 9)
    assert finish(process)[0] == 137


def test_early_beat_that_is_to_look_finds_the_newer_attempt(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    late = "from orchestrator.runtime.heartbeat import Beats; Beats.looks = lambda *_: True"
    process = start(trial, "bash", "-c", SLEEPER, change=late, **EARLY)
    await_pid(trial / "ready", process)
    (trial / "attempts" / "2.json").write_text("{}")
    assert finish(process)[0] == 1
    assert record(trial, 1)["outcome"] == "superseded"


def test_attempt_that_was_told_to_stop_looks_at_each_beat(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    early = "from orchestrator.runtime.heartbeat import Beats; Beats.looks = lambda *_: False"
    process = start(trial, "bash", "-c", f"trap '' USR2; {SLEEPER}", change=early, **EARLY)
    await_pid(trial / "ready", process)
    process.send_signal(signal.SIGUSR2)
    wait_until(lambda: "signal" in record(trial, 1), on_timeout=process.poll)
    (trial / "attempts" / "2.json").write_text("{}")
    assert finish(process)[0] == 1
    assert record(trial, 1)["outcome"] == "superseded"


def test_attempt_that_saw_an_earlier_one_live_waits_until_it_has_ended(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))

    def end() -> None:
        ended = {**record(trial, 1), "outcome": "superseded", "exit_code": 143}
        (trial / "attempts" / "new").write_text(json.dumps(ended))
        os.replace(trial / "attempts" / "new", trial / "attempts" / "1.json")

    timer = threading.Timer(1.0, end)

    def live(line: str) -> None:
        if "giving it" in line:
            os.utime(trial / "attempts" / "1.json", (1.0, 1.0))
        elif "lives" in line:
            timer.start()

    take_claim(TrialPaths(str(trial)), {}, AGAIN, Times(first_beat_s=30.0), live)
    try:
        assert "outcome" in record(trial, 1)
    finally:
        timer.join(60)


def test_attempt_that_waits_for_an_earlier_one_beats_and_its_time_counts(tmp_path: Path) -> None:
    """The earlier one, on a node that does not answer, gets a heartbeat's time to show up."""
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))
    process = start(trial, "bash", "-c", SLEEPER, **AGAIN, **EARLY)
    await_beat(trial, 2, process)
    assert not (trial / "ready").exists(), "its program waits"
    # The earlier one shows up in the end, and has ended.
    end = {**record(trial, 1), "outcome": "superseded", "wall_s": 1.0}
    (trial / "attempts" / "new").write_text(json.dumps(end))
    os.replace(trial / "attempts" / "new", trial / "attempts" / "1.json")
    program = await_pid(trial / "ready", process)
    os.kill(program, 9)
    assert finish(process)[0] == 137
    lived_s = (trial / "ready").stat().st_mtime - record(trial, 2)["claimed_unix"]
    assert record(trial, 2)["wall_s"] >= lived_s - 0.05, "from the claim on, the wait included"


def test_attempt_that_waits_starts_nothing_once_the_trial_is_anothers(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))
    process = start(trial, "bash", "-c", SLEEPER, **AGAIN, **EARLY)
    await_beat(trial, 2, process)
    (trial / "attempts" / "3.json").write_text("{}")
    assert finish(process)[0] == 1
    assert not (trial / "ready").exists()
    assert (record(trial, 2)["outcome"], record(trial, 2)["exit_code"]) == ("superseded", None)


def test_attempt_that_waits_says_so_when_the_sweep_is_moved(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))
    process = start(trial, "bash", "-c", SLEEPER, **AGAIN, **EARLY)
    await_beat(trial, 2, process)
    trial.rename(tmp_path / "moved")
    code, output = finish(process)
    assert code in (1, 73), "it found out by a heartbeat, or by what it could not read"
    assert "the sweep was moved or removed" in output
    assert "a newer attempt" not in output


def test_attempt_that_waits_sees_the_earlier_one_commit_between_two_beats(
    tmp_path: Path,
) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))

    def commit(line: str) -> None:
        assert "giving it" in line
        (trial / "result.json").write_text("{}")
        end = {**record(trial, 1), "outcome": "committed"}
        (trial / "attempts" / "1.json").write_text(json.dumps(end))

    claim = take_claim(TrialPaths(str(trial)), {}, AGAIN, Times(first_beat_s=1000.0), commit)
    assert claim.is_passed


@pytest.mark.parametrize("end", [{"outcome": "superseded", "exit_code": None}, {}])
def test_attempt_waits_for_the_one_that_its_predecessor_waited_for(
    tmp_path: Path, end: dict[str, Any]
) -> None:
    """The predecessor left, or was killed, while the one before it was on its silent node."""
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))
    gone = {**record(trial, 1), **job.describe_process(), **job.describe_job(AGAIN)}
    gone |= {"attempt": 2, "pid": 2**22 + 1, **end}
    (trial / "attempts" / "2.json").write_text(json.dumps(gone))
    again = {**AGAIN, "SLURM_RESTART_COUNT": "2"}
    process = start(trial, "bash", "-c", SLEEPER, **again, **EARLY)
    await_beat(trial, 3, process, after_s=0.3)
    assert not (trial / "ready").exists(), "its program waits"
    (trial / "attempts" / "4.json").write_text("{}")
    assert finish(process)[0] == 1
    assert not (trial / "ready").exists()


def test_wait_for_an_earlier_attempt_is_start_up(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    foreign_claim(trial, **job.describe_job(TASK))
    times = Times(heartbeat_s=0.1, worth_telling_s=0.1)
    claim = take_claim(TrialPaths(str(trial)), {}, AGAIN, times, lambda line: None)
    assert claim.waited_s >= 0.1
    assert claim.ended("committed")["wall_s"] >= round(claim.waited_s, 3) - 0.001


def test_claim_tells_when_the_attempt_before_reported_last(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    finish(start(trial, "bash", "-c", 'echo \'{"a": 1}\' > "$TRIAL_METRICS"; exit 3'))
    assert record(trial, 1)["reported_unix"] is None
    finish(start(trial, "true"))
    reported = round((trial / "metrics.jsonl").stat().st_mtime, 3)
    assert record(trial, 2)["reported_unix"] == reported
    assert record(trial, 1)["claimed_unix"] <= reported <= record(trial, 2)["claimed_unix"]

"""Requeue decisions, with Slurm's commands replaced: the real ones are in tests/cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator.contract.records import PREEMPTED_BY_SLURM
from orchestrator.runtime.requeue import find_preemption, requeue_task

TASK = {"SLURM_JOB_ID": "123", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "4"}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH in which ``squeue`` says the content of ``state``."""
    (tmp_path / "squeue").write_text(
        f"#!/bin/sh\n[ ! -s {tmp_path}/state ] || echo $RESTARTS $(cat {tmp_path}/state)\n"
    )
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    for name in ("squeue", "scontrol"):
        (tmp_path / name).chmod(0o755)
    (tmp_path / "calls").write_text("")
    monkeypatch.setenv("RESTARTS", "0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_requeue_running_task_asks_for_this_task_only(slurm: Path) -> None:
    (slurm / "state").write_text("RUNNING\n")
    assert requeue_task(TASK) == "requested"
    first = (slurm / "calls").read_text().splitlines()[0]
    assert first == "requeue Incomplete 123_4"


def test_requeue_job_that_is_no_array_uses_its_id(slurm: Path) -> None:
    (slurm / "state").write_text("RUNNING\n")
    assert requeue_task({"SLURM_JOB_ID": "9"}) == "requested"
    assert (slurm / "calls").read_text().splitlines()[0] == "requeue Incomplete 9"


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("PENDING\n", "by slurm"),
        ("COMPLETING\n", "refused: the job is COMPLETING"),
        ("CANCELLED\n", "refused: the job is CANCELLED"),
        ("", "refused: the job is gone"),
    ],
)
def test_requeue_task_that_does_not_run_is_left_alone(slurm: Path, state: str, answer: str) -> None:
    (slurm / "state").write_text(state)
    assert requeue_task(TASK) == answer
    assert (slurm / "calls").read_text() == ""


def test_requeue_failing_scontrol_is_told_not_raised(slurm: Path) -> None:
    (slurm / "state").write_text("RUNNING\n")
    (slurm / "scontrol").write_text(
        "#!/bin/sh\necho 'Requested operation is presently disabled' >&2\nexit 1\n"
    )
    assert requeue_task(TASK) == "refused: Requested operation is presently disabled"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("Job is pending execution", "refused: Job is pending execution"),
        ("Requested operation is presently disabled", "refused: Requested operation is"),
        ("Only preemptible jobs may be requeued", "refused: Only preemptible jobs"),
    ],
)
def test_b09_requeue_command_fails_is_told_with_its_words(
    slurm: Path, words: str, answer: str
) -> None:
    (slurm / "state").write_text("RUNNING\n")
    (slurm / "scontrol").write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    assert requeue_task(TASK).startswith(answer)


@pytest.mark.parametrize("command", ["squeue", "scontrol"])
def test_b09_requeue_command_that_hangs_is_given_up(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("orchestrator.runtime.requeue.TIMEOUT_S", 0.3)
    (slurm / "state").write_text("RUNNING\n")
    (slurm / command).write_text("#!/bin/sh\nexec sleep 60\n")
    assert requeue_task(TASK).startswith("refused: no answer in")


def test_requeue_task_that_runs_elsewhere_already_is_left_alone(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node was given up, and the copy there must not requeue the new one."""
    (slurm / "state").write_text("RUNNING\n")
    monkeypatch.setenv("RESTARTS", "2")
    assert requeue_task({**TASK, "SLURM_RESTART_COUNT": "1"}) == "by slurm"
    assert (slurm / "calls").read_text() == ""
    assert requeue_task({**TASK, "SLURM_RESTART_COUNT": "2"}) == "requested"


def test_requeue_command_survives_the_signals_of_the_job(slurm: Path) -> None:
    """Slurm repeats SIGTERM, and sends it to every process of the job."""
    (slurm / "state").write_text("RUNNING\n")
    for name in ("squeue", "scontrol"):
        text = (slurm / name).read_text().replace("#!/bin/sh\n", "#!/bin/sh\nkill -TERM $$\n")
        (slurm / name).write_text(text)
    before = signal.getsignal(signal.SIGTERM)
    assert requeue_task(TASK) == "requested"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("2026-01-02T03:04:05 RUNNING", PREEMPTED_BY_SLURM),
        ("2026-01-02T03:04:05 COMPLETING", PREEMPTED_BY_SLURM),
        ("N/A PREEMPTED", PREEMPTED_BY_SLURM),
        ("N/A RUNNING", None),  # a time limit's warning
        ("N/A CANCELLED", None),
        ("", None),
        ("squeue: error: Invalid job format specification: PreemptTime", None),
    ],
)
def test_preemption_of_a_job_that_is_not_requeued_is_known_if_slurm_says_so(
    slurm: Path, said: str, answer: str | None
) -> None:
    (slurm / "squeue").write_text(f"#!/bin/sh\necho {said}\n")
    assert find_preemption(TASK) == answer
    (slurm / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert find_preemption(TASK) is None


def test_slurm_is_asked_without_what_would_change_its_answer(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that the job's script loads may set such things; squeue obeys them all."""
    hindering = ("SLURM_TIME_FORMAT", "SLURM_CLUSTERS", "SQUEUE_PARTITION", "SQUEUE_STATES")
    for name in hindering:
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("SLURM_CONF", "/etc/there.conf")
    for name, answer in (("squeue", "2026-01-02T03:04:05 RUNNING"), ("scontrol", "")):
        (slurm / name).write_text(f"#!/bin/sh\nenv > {slurm}/{name}.env\necho {answer}\n")
    assert find_preemption(TASK) == PREEMPTED_BY_SLURM
    assert requeue_task({**TASK, "SLURM_RESTART_COUNT": "9999"}) == "requested"
    for name in ("squeue", "scontrol"):
        given = (slurm / f"{name}.env").read_text().splitlines()
        assert [line for line in given if line.partition("=")[0] in hindering] == []
        assert {"LC_ALL=C", "SLURM_CONF=/etc/there.conf"} <= set(given)


def test_requeue_without_slurm_commands_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert requeue_task(TASK).startswith("refused: ")

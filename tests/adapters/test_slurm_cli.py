"""Parsers, on output captured from real clusters (22.05.8 and 26.05.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.slurm_cli import ClusterLimits, TaskState
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.states import LIVENESS, SlurmState, parse_slurm_state


def test_parse_squeue_reads_array_tasks_and_passes_over_single_jobs() -> None:
    text = (
        "12|0|demo-1a|RUNNING|n1|None\n"
        "12|7|demo-1a|PENDING||BeginTime\n"
        "15|N/A|by-hand|RUNNING|n2|None\n"
        "9|N/A|demo-2b|CANCELLED||None\n"
    )
    assert slurm_cli.parse_squeue(text) == {
        ("demo-1a", 0): TaskState(SlurmState.RUNNING, "None", "n1", "12_0"),
        ("demo-1a", 7): TaskState(SlurmState.PENDING, "BeginTime", "", "12_7"),
        ("demo-2b", slurm_cli.NEVER_STARTED): TaskState(SlurmState.CANCELLED, "None"),
    }


def test_parse_sacct_newest_record_of_a_requeued_task_counts() -> None:
    text = (
        "12_0|2026-11-21T02:00:00|PREEMPTED|0:0|n1|demo-1a\n"
        "12_0|2026-11-21T02:03:00|COMPLETED|0:0|n2|demo-1a\n"
        "12_1|2026-11-21T02:00:00|CANCELLED by 1000|0:0|n1|demo-1a\n"
        "12_[2-3,7%3]|2026-11-21T02:00:00|CANCELLED by 1000|0:0|None assigned|demo-1a\n"
        "13|2026-11-21T02:00:00|COMPLETED|0:0|n1|by-hand\n"
    )
    assert slurm_cli.parse_sacct(text) == {
        ("demo-1a", 0): TaskState(SlurmState.COMPLETED, "0:0", "n2"),
        ("demo-1a", 1): TaskState(SlurmState.CANCELLED, "0:0", "n1"),
        ("demo-1a", 2): TaskState(SlurmState.CANCELLED, "0:0", "None assigned"),
        ("demo-1a", 3): TaskState(SlurmState.CANCELLED, "0:0", "None assigned"),
        ("demo-1a", 7): TaskState(SlurmState.CANCELLED, "0:0", "None assigned"),
    }


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (
            "Configuration data as of 2026-11-21T02:00:00\n"
            "ClusterName             = hpc2\n"
            "MaxArraySize            = 1001\n"
            "SchedulerParameters     = bf_interval=5,max_array_tasks=500\n"
            "SLURM_VERSION           = 22.05.8\n",
            ClusterLimits("22.05.8", 1001, 500, "hpc2"),
        ),
        ("MaxArraySize = 75001\nSLURM_VERSION = 26.05.3\n", ClusterLimits("26.05.3", 75001, None)),
        ("", ClusterLimits("unknown", 1001, None)),
    ],
)
def test_parse_config_reads_array_limits(text: str, limits: ClusterLimits) -> None:
    assert slurm_cli.parse_config(text) == limits


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 1000", SlurmState.CANCELLED),
        ("OUT_OF_ME+", SlurmState.OUT_OF_MEMORY),
        ("running", SlurmState.RUNNING),
        ("", SlurmState.UNKNOWN),
        ("SOMETHING_NEW", SlurmState.UNKNOWN),
        ("RE+", SlurmState.UNKNOWN),
    ],
)
def test_parse_slurm_state_reads_what_slurm_prints(text: str, state: SlurmState) -> None:
    assert parse_slurm_state(text) is state


def test_liveness_covers_every_state() -> None:
    assert set(LIVENESS) == set(SlurmState)


def test_query_failure_raises_and_is_never_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text(
        "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n"
    )
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + ":/usr/bin:/bin")
    with pytest.raises(ClusterUnreachable) as caught:
        slurm_cli.queued_tasks(["t"])
    assert str(caught.value) == (
        "squeue: slurm_load_jobs error: Unable to contact slurm controller"
    )


def test_query_missing_command_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm_cli.is_slurm_here()


def test_query_hanging_command_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + ":/usr/bin:/bin")
    with pytest.raises(ClusterUnreachable, match=r"squeue: no answer in 0 s"):
        slurm_cli.query(["squeue"], timeout_s=0.2)


def test_clean_environment_drops_what_changes_sbatch_and_keeps_slurm_conf() -> None:
    environ = {
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JOB_ID": "5",
        "SBATCH_PARTITION": "hi",
        "SQUEUE_FORMAT": "%i",
        "PATH": "/bin",
    }
    assert slurm_cli.clean_environment(environ) == {"SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin"}


def test_start_now_waits_before_it_lifts_the_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarted within the second of its end, a task is refused by slurmd and FAILED (22.05.8)."""
    events: list[object] = []
    monkeypatch.setattr(slurm_cli.time, "sleep", events.append)
    monkeypatch.setattr(slurm_cli, "query", lambda argv: events.append(argv[-2:]))
    slurm_cli.start_now([])
    assert events == []
    slurm_cli.start_now(["12_0", "12_7"])
    assert events == [
        2.0,
        ["JobId=12_0", "StartTime=now"],
        ["JobId=12_7", "StartTime=now"],
    ]

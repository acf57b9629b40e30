"""Settling by token, with Slurm's answers replaced; on a real one in tests/cluster.

Time is pretended: it passes while the code under test sleeps, whatever the machine does meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.adapters import journal
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.contract.paths import SweepPaths
from orchestrator.runtime import job
from orchestrator.usecases import settle as settle_module
from orchestrator.usecases.settle import _find_clients as find_clients
from orchestrator.usecases.settle import settle_submission


class Time:
    """The module `time` with a clock of its own, which moves while somebody sleeps."""

    time, strftime, localtime, strptime = time.time, time.strftime, time.localtime, time.strptime
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    pretended = Time()
    monkeypatch.setattr(settle_module, "time", pretended)
    return pretended


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Time) -> Path:
    """A folder first on PATH with a squeue and a sacct that print what their files say."""
    for name in ("squeue", "sacct"):
        (tmp_path / name).write_text(
            f"#!/bin/sh\ntest -e {tmp_path}/{name}.fails && exit 1\ncat {tmp_path}/{name}.says\n"
        )
        (tmp_path / name).chmod(0o755)
        (tmp_path / f"{name}.says").write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ORCHESTRATOR_SETTLE_S", "0")
    return tmp_path


def intent(folder: Path, by: dict[str, object] | None = None, age_s: float = 0) -> Path:
    """Write the intent of token-1, as a process that is dead by now."""
    journal_file = folder / "journal.jsonl"
    fields = {"token": "token-1", "executor": "slurm", "trials": ["00000-a"]}
    with journal.lock(SweepPaths(str(folder))) as writer:
        writer.write("intent", **fields)
    entry = json.loads(journal_file.read_text())
    # A pid above the kernel's limit: nobody has it.
    entry["by"] = {**job.describe_process(), "pid": 2**22 + 1} if by is None else by
    journal_file.write_text(json.dumps(entry) + "\n")
    then = time.time() - age_s
    os.utime(journal_file, (then, then))
    return journal_file


def settle(folder: Path, *, ours: bool = False, cluster: str = "") -> tuple[str | None, list[str]]:
    """Settle token-1: our own submission, or that of the intent in the journal."""
    sweep = SweepPaths(str(folder))
    before = journal.read_journal(sweep).submissions.get("token-1")
    at, by = ("2026-01-01T00:00:00Z", {}) if before is None else (before.at, before.by)
    with journal.lock(sweep) as writer:
        job_id = settle_submission("token-1", None if ours else at, writer, cluster, by)
    lines = Path(sweep.journal).read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    return job_id, [kind for kind in kinds if kind != "intent"]


def test_settle_job_in_the_queue_is_adopted(slurm: Path) -> None:
    (slurm / "squeue.says").write_text("77\n77\n")
    assert settle(slurm, ours=True) == ("77", ["adopted"])


def test_settle_job_that_left_the_queue_is_found_in_accounting(slurm: Path) -> None:
    (slurm / "sacct.says").write_text("78_0\n78_1\n")
    assert settle(slurm, ours=True) == ("78", ["adopted"])


def test_settle_absent_from_both_is_abandoned(slurm: Path) -> None:
    assert settle(slurm, ours=True) == (None, ["abandoned"])


def test_settle_without_accounting_the_queue_decides(slurm: Path) -> None:
    (slurm / "sacct.fails").touch()
    assert settle(slurm, ours=True) == (None, ["abandoned"])


def test_settle_controller_away_concludes_nothing(slurm: Path) -> None:
    (slurm / "squeue.fails").touch()
    with pytest.raises(ClusterUnreachable):
        settle(slurm, ours=True)
    assert (slurm / "journal.jsonl").read_text() == ""


def test_settle_on_another_cluster_concludes_nothing(slurm: Path) -> None:
    (slurm / "scontrol").write_text("#!/bin/sh\necho ClusterName = there\n")
    (slurm / "scontrol").chmod(0o755)
    with pytest.raises(ClusterUnreachable) as caught:
        settle(slurm, ours=True, cluster="here")
    assert str(caught.value) == (
        "an array was submitted to the cluster 'here', this is 'there'; submit where it was begun"
    )


def squeue_shows(slurm: Path, condition: str) -> None:
    """Let squeue show job 79 once a shell condition holds; each look is noted in `looks`."""
    (slurm / "squeue").write_text(
        f"#!/bin/sh\necho x >> {slurm}/looks\nif {condition}; then echo 79; fi\n"
    )


def n_looks(slurm: Path) -> int:
    return len((slurm / "looks").read_text().split())


def up_to(line: str) -> tuple[str, int]:
    """Split what is said while waiting from its seconds, which depend on the journal's age."""
    found = re.fullmatch(r"(.*); up to (\d+) s", line)
    assert found, line
    return found[1], int(found[2])


@pytest.fixture
def patient(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settle time that no test reaches, and many looks a second."""
    monkeypatch.setenv("ORCHESTRATOR_SETTLE_S", "30")
    monkeypatch.setattr(settle_module, "POLL_S", 0.05)
    return slurm


@pytest.mark.parametrize("ours", [True, False])
def test_settle_waits_for_a_request_under_way(patient: Path, ours: bool) -> None:
    intent(patient)
    squeue_shows(patient, f"test $(wc -l < {patient}/looks) -ge 3")
    assert settle(patient, ours=ours) == ("79", ["adopted"])


def test_settle_old_intent_gets_a_second_look(
    patient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller may have been away until now, with the request at its door."""
    monkeypatch.setattr(settle_module, "CONFIRM_S", 0.5)
    intent(patient, age_s=86_400)
    squeue_shows(patient, f"test $(wc -l < {patient}/looks) -ge 3")
    assert settle(patient) == ("79", ["adopted"])


def test_settle_old_intent_is_not_waited_for_long(
    patient: Path, monkeypatch: pytest.MonkeyPatch, clock: Time
) -> None:
    monkeypatch.setattr(settle_module, "CONFIRM_S", 0.2)
    intent(patient, age_s=86_400)
    squeue_shows(patient, "false")
    began = clock.now
    assert settle(patient) == (None, ["abandoned"])
    assert 0.2 <= clock.now - began < 1
    assert n_looks(patient) > 1


def test_settle_age_is_taken_on_the_file_servers_clock(
    patient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other login node's clock is a day behind: its intent is of this moment all the same."""
    monkeypatch.setattr(settle_module, "CONFIRM_S", 0.0)
    path = intent(patient)
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "at": "2020-01-01T00:00:00.000Z"}) + "\n")
    squeue_shows(patient, f"test $(wc -l < {patient}/looks) -ge 3")
    assert settle(patient) == ("79", ["adopted"])


@pytest.fixture
def sbatch(slurm: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An sbatch that outlived its submitter, asleep until the queue has room."""
    script = slurm / "arrays/token-1/array.sbatch"
    program = "import sys, time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program, "--parsable", str(script)]) as process:
        yield process
        process.kill()


def test_settle_sbatch_that_outlived_its_submitter_is_waited_for(
    slurm: Path,
    sbatch: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SETTLE_S", "0.5")
    monkeypatch.setattr(settle_module, "POLL_S", 0.05)
    intent(slurm)
    # Thirty looks take longer than the settle time; then sbatch hands the job in and ends.
    squeue_shows(
        slurm,
        f"test $(wc -l < {slurm}/looks) -ge 30 && {{ kill {sbatch.pid} 2>/dev/null; "
        f"test $(wc -l < {slurm}/looks) -ge 32; }}",
    )
    assert settle(slurm) == ("79", ["adopted"])
    (record,) = caplog.records
    said, left_s = up_to(record.getMessage())
    assert said == (
        "orchestrator: an earlier submit was cut short; looking whether Slurm took array token-1: "
        f"its sbatch is still at work (process {sbatch.pid})"
    )
    assert 100 < left_s <= 211


def test_settle_sbatch_that_never_ends_stays_open(
    slurm: Path, sbatch: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle_module, "POLL_S", 0.05)
    intent(slurm, age_s=86_400)
    with pytest.raises(ClusterUnreachable, match=rf"does not end \(process {sbatch.pid}\)"):
        settle(slurm)


@pytest.mark.parametrize("by", [{}, {"host": "login2", "boot_id": "another", "pid": 1}])
def test_settle_intent_of_another_host_waits_for_the_longest_living_sbatch(
    slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody here can see whether an sbatch lives there; the settle time alone is 0 here."""
    monkeypatch.setattr(settle_module, "POLL_S", 0.05)
    intent(slurm, by, age_s=100)
    squeue_shows(slurm, f"test $(wc -l < {slurm}/looks) -ge 5")
    assert settle(slurm) == ("79", ["adopted"])
    (record,) = caplog.records
    said, left_s = up_to(record.getMessage())
    assert said.endswith(f"its sbatch may still be at work on {by.get('host', 'another host')}")
    assert 10 < left_s <= 110


def test_settle_intent_of_another_host_is_given_up_after_the_longest_living_sbatch(
    slurm: Path,
) -> None:
    intent(slurm, {"host": "login2", "boot_id": "another", "pid": 1}, age_s=211)
    assert settle(slurm) == (None, ["abandoned"])


def test_settle_intent_from_before_this_boot_has_no_sbatch(slurm: Path) -> None:
    intent(slurm, {**job.describe_process(), "boot_id": "an earlier one"})
    assert settle(slurm) == (None, ["abandoned"])


def test_settle_intent_of_another_container_may_have_an_sbatch(slurm: Path) -> None:
    by = {**job.describe_process(), "pid_namespace": "pid:[1]"}
    assert find_clients("token-1", by) is None


def test_settle_asks_for_this_users_jobs_alone(slurm: Path) -> None:
    """Another user's job may have the same name."""
    for name in ("squeue", "sacct"):
        (slurm / name).write_text(f'#!/bin/sh\necho "$@" >> {slurm}/asked\n')
    settle(slurm, ours=True)
    asked = (slurm / "asked").read_text().splitlines()
    assert len(asked) == 2
    assert all(f"--user={os.getuid()}" in line.split() for line in asked)

"""Submission through submitit: what sbatch's answers mean."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters.executors import slurm
from orchestrator.adapters.executors.slurm import ScriptExecutor
from orchestrator.contract.errors import AmbiguousSubmission, ClusterFull, ClusterRefused
from orchestrator.contract.paths import ArrayPaths
from orchestrator.runtime import durable
from tests.waiting import is_running, wait_until


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on PATH whose sbatch does what its file `says` says."""
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "srun"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\n. {tmp_path}/says "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


def submit(folder: Path, says: str) -> str:
    (folder / "says").write_text(says + "\n")
    return ScriptExecutor(ArrayPaths(str(folder))).submit_text("#!/bin/bash\n")


@pytest.mark.parametrize(
    ("says", "job_id"),
    [
        ("echo 77", "77"),
        ("echo '77;cluster'", "77"),
        ("echo Welcome; echo '4711 jobs'; echo '77;x'; echo Bye", "77"),
    ],
)
def test_a06_id_is_read_among_banners(sbatch: Path, says: str, job_id: str) -> None:
    assert submit(sbatch, says) == job_id


@pytest.mark.parametrize(
    "says",
    [
        "echo Thank you",
        "echo Submitted batch job 77 on cluster X",
        "true",
        "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1",
        "exit 1",
        "kill -9 $$",
    ],
)
def test_a03_a06_no_id_leaves_it_open(sbatch: Path, says: str) -> None:
    with pytest.raises(AmbiguousSubmission):
        submit(sbatch, says)


def test_a05_own_timeout_leaves_it_open(sbatch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_SUBMIT_TIMEOUT_S", "1")
    with pytest.raises(AmbiguousSubmission, match="sbatch gave no answer in 1 s"):
        submit(sbatch, "exec sleep 60")


@pytest.mark.parametrize(
    "limit", ["AssocMaxSubmitJobLimit", "QOSMaxSubmitJobPerUserLimit", "AssocGrpSubmitJobsLimit"]
)
def test_a14_limit_on_queued_jobs_asks_to_submit_again_later(sbatch: Path, limit: str) -> None:
    policy = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    with pytest.raises(ClusterFull) as caught:
        submit(
            sbatch,
            f'echo "sbatch: error: {limit}" >&2; echo "sbatch: error: Batch job '
            f'submission failed: {policy}" >&2; exit 1',
        )
    assert caught.value.exit_code == 3
    assert f"is reached ({limit}): submit again when some have ended" in str(caught.value)


@pytest.mark.parametrize(
    "words",
    ["Invalid account or account/partition combination specified", "AssocMaxCpuPerJobLimit"],
)
def test_a15_refusal_that_stays_is_the_users_to_mend(sbatch: Path, words: str) -> None:
    with pytest.raises(ClusterRefused) as caught:
        submit(sbatch, f"echo 'sbatch: error: {words}' >&2; exit 1")
    assert (type(caught.value), caught.value.exit_code) == (ClusterRefused, 2)


def test_misspelt_option_names_the_command_that_finds_it(sbatch: Path) -> None:
    words = "sbatch: unrecognized option '--qoss=5'\nTry \"sbatch --help\" for more information"
    with pytest.raises(ClusterRefused) as caught:
        submit(sbatch, f"cat >&2 <<'EOF'\n{words}\nEOF\nexit 1")
    assert str(caught.value) == (
        "sbatch: unrecognized option '--qoss=5'; Try \"sbatch --help\" for more information; "
        "make lint shows where it stands"
    )


def test_a17_script_that_cannot_be_written_is_a_refusal(
    sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(durable, "replace", full)
    with pytest.raises(ClusterRefused, match=r"No space left on device; sbatch was not called"):
        submit(sbatch, f"touch {sbatch}/called; echo 77")
    assert not (sbatch / "called").exists()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv here")
def test_a05_sbatch_that_waits_for_room_dies_with_its_submitter(sbatch: Path) -> None:
    (sbatch / "says").write_text(
        f"echo $$ > {sbatch}/new; mv {sbatch}/new {sbatch}/pid\nexec sleep 600\n"
    )
    program = (
        "import sys\n"
        "from orchestrator.adapters.executors.slurm import ScriptExecutor\n"
        "from orchestrator.contract.paths import ArrayPaths\n"
        "ScriptExecutor(ArrayPaths(sys.argv[1])).submit_text('#!/bin/sh')\n"
    )
    submitter = subprocess.Popen([sys.executable, "-c", program, str(sbatch)])
    wait_until((sbatch / "pid").exists, on_timeout=submitter.poll)
    pid = int((sbatch / "pid").read_text())
    submitter.kill()
    submitter.wait()
    wait_until(lambda: not is_running(pid), on_timeout=lambda: pid)


def test_system_without_setpriv_submits_all_the_same(
    sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_old(argv: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(argv, 1)

    slurm._has_setpriv.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", too_old)
        assert not slurm._has_setpriv()
    assert submit(sbatch, "echo 77") == "77"
    slurm._has_setpriv.cache_clear()

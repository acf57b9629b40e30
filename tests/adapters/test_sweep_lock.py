"""The lock of a sweep, with record locks and without."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters import sweep_lock
from orchestrator.contract.errors import SweepLocked
from orchestrator.contract.paths import SweepPaths
from orchestrator.runtime import job
from tests.waiting import wait_until

HOLDER = """
import sys
from orchestrator.adapters import sweep_lock
from orchestrator.contract.paths import SweepPaths
with sweep_lock.hold(SweepPaths(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
# Takes the lock again and again; what it does there goes wrong if two do it at once.
RIVAL = """
import errno, fcntl, os, sys
from orchestrator.adapters import sweep_lock
from orchestrator.contract.errors import SweepLocked
from orchestrator.contract.paths import SweepPaths
from orchestrator.runtime import failpoint

def unsupported(fd, how):
    raise OSError(errno.ENOLCK, "No locks available")

fcntl.lockf = unsupported
sweep_lock.POLL_S = 0.001
root, n_turns = sys.argv[1], int(sys.argv[2])
for turn in range(n_turns):
    pid = os.fork()
    if pid == 0:
        # Each third dies with the lock, so that most locks are taken over from the dead.
        with sweep_lock.hold(SweepPaths(root), 280):
            os.close(os.open(root + "/alone", os.O_CREAT | os.O_EXCL))
            os.unlink(root + "/alone")
            if turn % 3:
                os.kill(os.getpid(), 9)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -9):
        sys.exit(f"two held the lock at once: {status}")
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    return SweepPaths(str(tmp_path))


@pytest.fixture
def no_record_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without them, such as Lustre mounted without ``flock``."""

    def unsupported(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)


def start_holder(sweep: SweepPaths) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, sweep.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def write_owner(sweep: SweepPaths, owner: dict[str, object]) -> Path:
    path = Path(sweep.lock + ".owner")
    path.write_text(json.dumps(owner))
    return path


def dead_owner() -> dict[str, object]:
    # A pid above the kernel's limit: nobody has it.
    return {**job.describe_process(), "pid": 2**22 + 1, "since": "2026-11-21T09:00:00.000Z"}


def test_hold_yields_the_file_servers_time(sweep: SweepPaths) -> None:
    with sweep_lock.hold(sweep) as now_s:
        probe = Path(sweep.root, "probe")
        probe.touch()
        assert abs(probe.stat().st_mtime - now_s) < 30


def test_a11_second_holder_is_told_who_has_it(sweep: SweepPaths) -> None:
    holder = start_holder(sweep)
    with pytest.raises(
        SweepLocked,
        match=rf"^{sweep.name} is locked by process {holder.pid} on .* since 20.*Z; "
        "submit again when it has ended$",
    ):
        with sweep_lock.hold(sweep, wait_s=0):
            pass
    end(holder)
    with sweep_lock.hold(sweep, wait_s=0):  # the kernel dropped the dead holder's lock
        pass


def test_read_owner_describes_the_process_that_holds_the_lock(sweep: SweepPaths) -> None:
    assert sweep_lock.read_owner(sweep) is None
    holder = start_holder(sweep)
    owner = sweep_lock.read_owner(sweep)
    assert owner is not None
    assert (owner["pid"], job.is_alive_here(owner)) == (holder.pid, True)
    end(holder)
    assert sweep_lock.read_owner(sweep) is None


def test_read_owner_of_a_lock_that_is_ours_does_not_drop_it(sweep: SweepPaths) -> None:
    look = (
        "import sys; from orchestrator.adapters import sweep_lock; "
        "from orchestrator.contract.paths import SweepPaths; "
        "print(sweep_lock.find_holder(SweepPaths(sys.argv[1])))"
    )
    with sweep_lock.hold(sweep):
        assert sweep_lock.read_owner(sweep) is None
        words = [sys.executable, "-c", look, sweep.root]
        said = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    assert f"process {os.getpid()} on" in said


def test_read_owner_without_record_locks_reads_the_file(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    Path(sweep.lock).touch()
    monkeypatch.setattr(fcntl, "fcntl", unsupported)
    assert sweep_lock.read_owner(sweep) is None
    write_owner(sweep, dead_owner())
    assert sweep_lock.read_owner(sweep) is None
    living = {**job.describe_process(), "since": "2026-11-21T09:00:00.000Z"}
    write_owner(sweep, living)
    assert sweep_lock.read_owner(sweep) == living


def test_a11_second_holder_says_for_whom_it_waits_and_then_goes_on(
    sweep: SweepPaths, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = start_holder(sweep)
    monkeypatch.setattr("time.sleep", lambda _: end(holder))
    with sweep_lock.hold(sweep, wait_s=20):
        pass
    (record,) = caplog.records
    assert re.fullmatch(
        rf"orchestrator: {sweep.name} is locked by process {holder.pid} on \S+ since \S+: "
        r"waiting up to 20 s",
        record.getMessage(),
    )


def test_hold_without_record_locks_uses_a_file(sweep: SweepPaths, no_record_locks: None) -> None:
    owner = Path(sweep.lock + ".owner")
    with sweep_lock.hold(sweep):
        assert json.loads(owner.read_text())["pid"] == os.getpid()
        with pytest.raises(SweepLocked), sweep_lock.hold(sweep, wait_s=0):
            pass
    assert not owner.exists()


def test_a11_lock_file_of_a_dead_process_is_taken_over(
    sweep: SweepPaths, no_record_locks: None
) -> None:
    owner = write_owner(sweep, dead_owner())
    with sweep_lock.hold(sweep, wait_s=0):
        assert json.loads(owner.read_text())["pid"] == os.getpid()
    assert not owner.exists()


def test_a11_lock_file_of_another_host_is_left_and_the_remedy_named(
    sweep: SweepPaths, no_record_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep.root)
    owner = write_owner(sweep, {**dead_owner(), "host": "login2", "boot_id": "another"})
    before = owner.read_text()
    with pytest.raises(SweepLocked) as caught, sweep_lock.hold(sweep, wait_s=0):
        pass
    assert str(caught.value) == (
        f"{sweep.name} is locked by process {2**22 + 1} on login2 since 2026-11-21T09:00:00.000Z; "
        "submit again when it has ended, and if that process is gone, remove journal.lock.owner"
    )
    assert owner.read_text() == before


def test_a11_lock_file_of_a_live_process_seen_from_another_host_is_left(
    sweep: SweepPaths, no_record_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sweep_lock.hold(sweep):
        real = os.uname()
        there = os.uname_result((real.sysname, "login2", *real[2:]))
        monkeypatch.setattr(os, "uname", lambda: there)
        with pytest.raises(SweepLocked, match=r"remove .*journal\.lock\.owner$"):
            with sweep_lock.hold(sweep, wait_s=0):
                pass
        monkeypatch.undo()


def test_lock_file_of_another_container_is_left(sweep: SweepPaths, no_record_locks: None) -> None:
    write_owner(sweep, {**dead_owner(), "pid_namespace": "pid:[1]"})
    with pytest.raises(SweepLocked), sweep_lock.hold(sweep, wait_s=0):
        pass


def test_lock_file_that_holds_nonsense_is_left_and_the_remedy_named(
    sweep: SweepPaths, no_record_locks: None
) -> None:
    Path(sweep.lock + ".owner").write_text("")
    with pytest.raises(SweepLocked, match=r"another process.*remove .*journal\.lock\.owner$"):
        with sweep_lock.hold(sweep, wait_s=0):
            pass


def test_release_leaves_the_file_of_who_came_after_us(
    sweep: SweepPaths, no_record_locks: None
) -> None:
    """Somebody removed ours by hand, and submits."""
    with sweep_lock.hold(sweep):
        owner = write_owner(sweep, {"pid": 1, "host": "login2"})
    assert owner.exists()


def test_a11_of_many_that_find_a_dead_owner_one_takes_over(sweep: SweepPaths) -> None:
    rivals = [
        subprocess.Popen([sys.executable, "-c", RIVAL, sweep.root, "40"], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    wait_until(lambda: all(rival.poll() is not None for rival in rivals), timeout_s=280)
    errors = [rival.communicate()[1].decode() for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0] * 4, errors

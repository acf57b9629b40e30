"""The lock of a sweep: one submission at a time, on one login node or on several.

The lock is a POSIX record lock, which the kernel drops when its holder dies and which NFS (v4, and
v3 with lockd) and Lustre (mounted with ``flock``) keep across hosts. Where the file system has no
such locks, a file created by ``link(2)`` stands in. It stays when its owner is killed: a process of
the same host takes it over once the owner is dead, while of an owner on another host nobody here
can tell, so that the user is told which file to remove.

Not covered: a file system that one login node mounts with locks and another without.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.adapters.regular_file import open_own
from orchestrator.contract.errors import CorruptRecord, SweepLocked
from orchestrator.contract.file_errors import naming
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record, parse_record, read_record
from orchestrator.runtime import durable, failpoint, job
from orchestrator.runtime.claim import utc_now

# A submission of thousands of trials takes some seconds; a local run holds the lock for hours.
WAIT_S = 10.0
POLL_S = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Locks that this process holds: to close any descriptor of such a file would drop the lock
# (fcntl(2)), so nobody here may open it to look.
_HELD: set[str] = set()
_LOG = logging.getLogger(__name__)


class Supervision(SweepPaths):
    """A sweep whose lock is the supervisor's, which is held for days."""

    __slots__ = ()

    @property
    def lock(self) -> str:
        """Held by the one supervisor of the sweep; ``submit`` has a lock of its own."""
        return self.root + "/supervisor.lock"


@contextlib.contextmanager
def hold(sweep: SweepPaths, wait_s: float = WAIT_S) -> Iterator[float]:
    """Hold the lock of a sweep.

    Args:
        sweep: Which.
        wait_s: How long to wait for another holder; a line on standard error says for whom.

    Yields:
        The time on the file server's clock, seconds since the epoch.

    Raises:
        SweepLocked: Another process still holds it; the text says which, and what can be done.
    """
    deadline = time.monotonic() + wait_s
    with naming(sweep.lock):
        fd = open_own(sweep.lock)
    stand_in = _LockFile(sweep)
    is_told = False
    try:
        failpoint.reach("lock.take.before")
        while (holder := _take(fd, stand_in)) is not None:
            if time.monotonic() >= deadline:
                raise SweepLocked(f"{sweep.name} is locked by {holder}")
            if not is_told:
                is_told = True
                words = holder.partition(";")[0]
                _LOG.warning(
                    "orchestrator: %s is locked by %s: waiting up to %.0f s",
                    sweep.name,
                    words,
                    wait_s,
                )
            time.sleep(POLL_S)
        _HELD.add(os.path.realpath(sweep.lock))
        failpoint.reach("lock.take.after")
        with naming(sweep.lock):
            os.ftruncate(fd, 0)
            os.write(fd, json.dumps(_describe_owner()).encode())
            os.fsync(fd)  # until then NFS answers with this host's time
        failpoint.reach("lock.owner.after")
        yield os.fstat(fd).st_mtime
    finally:
        stand_in.release()
        os.close(fd)  # drops the record lock
        _HELD.discard(os.path.realpath(sweep.lock))
        failpoint.reach("lock.release.after")


def _take(fd: int, stand_in: _LockFile) -> str | None:
    """Try to take the lock; returns None, or who holds it and what to do."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return stand_in.take()
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        try:
            owner = parse_record(os.pread(fd, 4096, 0), "lock")
        except (CorruptRecord, OSError):
            owner = {}  # it took the lock and has not written its name yet
        return f"{_name(owner)}; submit again when it has ended"
    return None


def find_holder(sweep: SweepPaths) -> str | None:
    """Name the other process that holds the lock of a sweep; None: none does.

    Raises:
        OSError: It cannot be told.
    """
    owner = read_owner(sweep)
    return None if owner is None else _name(owner)


def read_owner(sweep: SweepPaths) -> Mapping[str, Any] | None:
    """Describe the other process that holds the lock of a sweep, without taking it.

    Returns:
        As of ``job.describe_process``, and ``since``; empty if it has not written that yet; None if
        no other process holds it.

    Raises:
        OSError: It cannot be told.
    """
    if os.path.realpath(sweep.lock) in _HELD:
        return None
    try:
        fd = os.open(sweep.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # struct flock of Linux (fcntl(2)): type, whence, start, length, pid.
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            answer = fcntl.fcntl(fd, fcntl.F_GETLK, asked)
            is_free = struct.unpack("hhqqi4x", answer)[0] == fcntl.F_UNLCK
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return _LockFile(sweep).holder()
        if is_free:
            return None
        try:
            return parse_record(os.pread(fd, 4096, 0), "lock")
        except CorruptRecord:
            return {}  # it took the lock and has not written its name yet
    finally:
        os.close(fd)


class _LockFile:
    """The file that stands in for a record lock."""

    def __init__(self, sweep: SweepPaths):
        self._path = sweep.lock + ".owner"
        self._root = sweep.root
        self._mine: bytes | None = None

    def take(self) -> str | None:
        """Try to create the file; returns None, or who holds it and what to do."""
        mine = dump_record({**_describe_owner(), "key": os.urandom(8).hex()})
        if durable.publish(self._path, mine) or self._take_over(mine):
            self._mine = mine
            return None
        owner = self._owner()
        if owner is None:
            return "another process; submit again"  # it left just now
        if job.is_alive_here(owner):
            return f"{_name(owner)}; submit again when it has ended"
        return (
            f"{_name(owner)}; submit again when it has ended, and if that process is gone, remove "
            f"{os.path.relpath(self._path)}"
        )

    def holder(self) -> dict[str, Any] | None:
        """Describe the owner; None if there is none, or it is known to be dead."""
        owner = self._owner()
        return None if owner is None or job.is_alive_here(owner) is False else owner

    def release(self) -> None:
        """Remove the file, if it is ours."""
        if self._mine is not None and dump_record(self._owner() or {}) == self._mine:
            os.unlink(self._path)
        self._mine = None

    def _take_over(self, mine: bytes) -> bool:
        """Replace the file of an owner that is dead.

        Only a process of the owner's host can tell that, so only those compete, and the kernel lets
        one of them at a time have a socket's name. Without it the second could remove the file
        that the first has just made.
        """
        with _have_name(self._root) as is_alone:
            if not is_alone:
                return False
            owner = self._owner()
            if owner is None or job.is_alive_here(owner) is not False:
                return False
            if self._owner() != owner:
                return False  # it removed its file before it ended; this one is somebody else's
            failpoint.reach("lock.takeover.before")
            os.unlink(self._path)
            failpoint.reach("lock.takeover.after")
            return durable.publish(self._path, mine)

    def _owner(self) -> dict[str, Any] | None:
        """Read the file; None if there is none, empty if it cannot be read."""
        try:
            return read_record(self._path)
        except FileNotFoundError:
            return None
        except (CorruptRecord, OSError):
            return {}


@contextlib.contextmanager
def _have_name(folder: str) -> Iterator[bool]:
    """Have a name that no other process of this host has; the kernel frees it when we die."""
    status = os.stat(folder)
    # Linux's abstract namespace (unix(7)). Only there can an owner be found dead at all.
    name = f"\0orchestrator-{os.getuid()}-{status.st_dev}-{status.st_ino}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        try:
            held.bind(name)
        except OSError:
            yield False
            return
        yield True


def _describe_owner() -> dict[str, Any]:
    return {**job.describe_process(), "since": utc_now()}


def _name(owner: Mapping[str, Any]) -> str:
    try:
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except KeyError:
        return "another process"

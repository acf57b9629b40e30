"""What a folder can do, found by trying. Runs on the login node.

The promise rests on ``link(2)`` and on POSIX locks, which not every file system has; ``doctor``
tries both in a folder of its own inside, which it removes again. It changes nothing else, and
makes no folder that is missing: the nearest one above is tried instead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from orchestrator.runtime import durable

PREFIX = ".doctor-"
# Tries the lock that its parent holds: exits 0 if it is refused, as it must be, and 1 if not.
_LOCK_AS_ANOTHER = """\
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        sys.exit(0)
sys.exit(1)
"""
_LOCK_TIMEOUT_S = 20.0
# What the journal takes for "this file system has no locks"; see adapters.journal.lock.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class FolderFacts:
    """What was found. None: not known, because something before it failed."""

    path: str
    """The folder that was meant, absolute."""
    tried: str
    """Where it was tried: the folder itself, or the nearest one above that exists."""
    error: str | None = None
    """Why no file can be written there."""
    link_error: str | None = None
    """Why ``link(2)`` fails; None if it works."""
    lock_error: str | None = None
    """Why POSIX locks do not work; None if they do."""
    has_no_locks: bool = False
    """Whether the file system refuses locks openly: then the journal's lock is a linked file."""
    is_mine: bool | None = None
    """Whether it belongs to this user."""
    others_may_write: bool | None = None
    """Whether other users may replace what is in it."""
    free_bytes: int | None = None
    """Room for this user."""
    free_inodes: int | None = None
    """Files that still fit; None where the file system counts none."""
    clock_s: float | None = None
    """How far the file server's clock is ahead of this machine's, seconds."""
    kind: str = ""
    """The file system's kind, such as ``nfs4``."""

    @property
    def exists(self) -> bool:
        """Whether the folder itself is there."""
        return self.path == self.tried


def check_folder(folder: str) -> FolderFacts:
    """Try what a results folder must be able to do; never raises because it cannot."""
    path = os.path.abspath(folder)
    tried = path
    while not os.path.isdir(tried):
        tried = os.path.dirname(tried)
    facts: dict[str, object] = {"path": path, "tried": tried, "kind": _kind(tried)}
    try:
        status = os.stat(tried)
        space = os.statvfs(tried)
        facts["is_mine"] = status.st_uid == os.getuid() if tried == path else None
        # The sticky bit keeps others from replacing what is ours, as in /tmp.
        writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        facts["others_may_write"] = bool(writable and not status.st_mode & stat.S_ISVTX)
        facts["free_bytes"] = space.f_bavail * space.f_frsize
        facts["free_inodes"] = space.f_favail if space.f_files else None
        inside = tempfile.mkdtemp(prefix=PREFIX, dir=tried)
    except OSError as error:
        return FolderFacts(**{**facts, "error": error.strerror or str(error)})  # type: ignore[arg-type]
    try:
        facts["clock_s"] = _clock(inside)
        facts["link_error"] = _try_link(inside)
        facts["lock_error"], facts["has_no_locks"] = _try_lock(inside)
    except OSError as error:
        facts["error"] = error.strerror or str(error)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
    return FolderFacts(**facts)  # type: ignore[arg-type]


def _clock(inside: str) -> float:
    before = time.time()
    durable.write_new(f"{inside}/clock", b"tick")
    after = time.time()
    return os.stat(f"{inside}/clock").st_mtime - (before + after) / 2


def _try_link(inside: str) -> str | None:
    durable.write_new(f"{inside}/one", b"1")
    durable.write_new(f"{inside}/two", b"2")
    try:
        os.link(f"{inside}/one", f"{inside}/three")
    except OSError as error:
        return error.strerror or str(error)
    if os.stat(f"{inside}/one").st_nlink != 2:
        return "the link is a copy"
    try:
        os.link(f"{inside}/two", f"{inside}/three")
    except FileExistsError:
        return None
    return "a second link replaces the first"


def _try_lock(inside: str) -> tuple[str | None, bool]:
    durable.write_new(f"{inside}/lock", b"")
    with open(f"{inside}/lock", "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.strerror or str(error), error.errno in _NO_LOCKS
        argv = [sys.executable, "-c", _LOCK_AS_ANOTHER, f"{inside}/lock"]
        try:
            done = subprocess.run(
                argv,
                check=False,
                capture_output=True,
                timeout=_LOCK_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return f"a lock takes longer than {_LOCK_TIMEOUT_S:.0f} s", False
    return (None if done.returncode == 0 else "two processes got the same lock"), False


def _kind(path: str) -> str:
    """Return the kind of file system of a path, from Linux's table of mounts; else nothing."""
    best, kind = "", ""
    with contextlib.suppress(OSError), open("/proc/self/mounts", encoding="utf-8") as mounts:
        real = os.path.realpath(path)
        for line in mounts:
            fields = line.split()
            if len(fields) < 3:
                continue
            place = fields[1].replace("\\040", " ")
            inside = real == place or real.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, fields[2]
    return kind

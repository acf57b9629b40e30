"""apt-get for tests: one at a time on this machine, and never waited for without end.

Does: holds one lock for all installers of the tests, Slurm's and the browser's, whatever pytest
process they run in; lets apt wait for others that hold dpkg's own locks. Does not: decide what is
installed. Called by: cluster/install.py and browser/install.py.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_TIMEOUT_S = 900.0
# Another process may be installing what takes longest: two commands of apt.
LOCK_TIMEOUT_S = 2 * COMMAND_TIMEOUT_S
# Others on the machine, such as unattended upgrades, hold dpkg's locks for a while.
DPKG_TIMEOUT_S = 300
_POLL_S = 0.2


class AptFailed(Exception):
    """Nothing was installed; the message is the reason, on one line."""


def lock_path() -> Path:
    """The same for all processes of a user; another user's file could not be opened."""
    return Path(tempfile.gettempdir()) / f"test-apt-{os.getuid()}.lock"


@contextmanager
def one_at_a_time(timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Keeps other installers of the tests away.

    Raises:
        AptFailed: one of them has been at it for too long.
    """
    path = lock_path()
    deadline = time.monotonic() + timeout_s
    with open(path, "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AptFailed(f"{path}: held by another for {timeout_s:g} s") from None
            time.sleep(_POLL_S)
        yield


def install(*packages: str) -> None:
    """Installs Debian packages; the caller holds the lock.

    Raises:
        AptFailed: apt-get failed, as it does without a network, or took too long.
    """
    _run("update", "-q")
    _run("install", "-q", "-y", "--no-install-recommends", *packages)


def _run(*words: str) -> None:
    env = {
        "PATH": SEARCH_PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    patience = f"DPkg::Lock::Timeout={DPKG_TIMEOUT_S}"
    try:
        done = subprocess.run(
            ["apt-get", "-o", patience, *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AptFailed(f"apt-get {words[0]}: {error}") from error
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise AptFailed(f"apt-get {words[0]} exited {done.returncode}: {last}")

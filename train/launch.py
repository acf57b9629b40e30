"""Starts one process per GPU on this node: ``python train/launch.py --ranks=8 train/main.py ...``.

Like torchrun on one node, but made for preemption: SIGUSR2 and SIGTERM are passed on to every
rank, which then has the whole grace period, and exit code 75 of the ranks is the exit code here; of
failures it is the first one's. What all ranks have to say is said once (``is_first_to_say``).
(torchrun dies of SIGUSR2, kills its workers 30 s after SIGTERM, and exits 1 for any failure.)

Standard library only. For several nodes use torchrun; see train/README.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import FrameType

EXIT_CHECKPOINTED = 75  # as in orchestrator.runtime.session
_POLL_S = 0.1
# What the others get to end by themselves once a rank has failed.
_FAILURE_GRACE_S = 10.0
# Number of an open file that the ranks share: the lines that one of them has said.
_SAID = "LAUNCH_SAID_FD"


def is_first_to_say(line: str) -> bool:
    """Tell a rank whether no other of this node has said the same; without ``launch.py`` it is."""
    with contextlib.suppress(KeyError, ValueError, OSError):
        shared = int(os.environ[_SAID])
        fcntl.lockf(shared, fcntl.LOCK_EX)
        try:
            said = os.pread(shared, os.fstat(shared).st_size, 0)
            if line.encode() in said.split(b"\0"):
                return False
            os.pwrite(shared, line.encode() + b"\0", len(said))
        finally:
            fcntl.lockf(shared, fcntl.LOCK_UN)
    return True


def launch(n_ranks: int, command: list[str]) -> int:
    """Run ``python <command>`` once per rank and wait for all.

    Returns:
        0 if all ranks ended well, 75 if they checkpointed, else the code of the first failure.
    """
    received: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        received.append(signum)

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, remember)
    port = _free_port()
    with tempfile.TemporaryFile() as said:
        ranks = [
            subprocess.Popen(
                [sys.executable, *command],
                env={**_environment(rank, n_ranks, port), _SAID: str(said.fileno())},
                pass_fds=(said.fileno(),),
            )
            for rank in range(n_ranks)
        ]
    failed_at = None
    first_failure = 0
    while None in [rank.poll() for rank in ranks]:  # each is asked: a later one may have failed
        while received:
            number = received.pop(0)
            for rank in ranks:
                rank.send_signal(number)
        codes = [rank.returncode for rank in ranks]
        failures = [code for code in codes if code not in (None, 0, EXIT_CHECKPOINTED)]
        if failures and failed_at is None:
            first_failure, failed_at = failures[0], time.monotonic()
        if failed_at is not None and time.monotonic() - failed_at > _FAILURE_GRACE_S:
            for rank in ranks:
                rank.kill()  # it waits for a rank that is gone
        time.sleep(_POLL_S)
    codes = [rank.returncode for rank in ranks]
    failures = [code for code in codes if code not in (0, EXIT_CHECKPOINTED)]
    if failures:
        code = first_failure or failures[0]
        return code if code > 0 else 128 - code
    return EXIT_CHECKPOINTED if EXIT_CHECKPOINTED in codes else 0


def _environment(rank: int, n_ranks: int, port: int) -> dict[str, str]:
    environ = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n_ranks),
        "LOCAL_WORLD_SIZE": str(n_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    cpus = environ.get("SLURM_CPUS_PER_TASK", "")
    if cpus.isdigit():  # the ranks share them
        environ.setdefault("OMP_NUM_THREADS", str(max(1, int(cpus) // n_ranks)))
    return environ


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(argv: list[str]) -> int:
    """Parse the command line and launch."""
    option, _, value = (argv[0] if argv else "").partition("=")
    if option != "--ranks" or not value.isdigit() or int(value) < 1 or len(argv) < 2:
        sys.stderr.write("usage: python train/launch.py --ranks=N train/main.py [ARGUMENT ...]\n")
        return 2
    return launch(int(value), argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Settling a submission of which nobody knows whether Slurm took it. Runs on the login node.

sbatch can fail although the job exists ("Socket timed out"), and a submitter can be killed before
it notes the id. The array's token, its job name, settles it: found in the queue or in accounting it
is adopted; absent from both, once nothing can bring it any more, it is abandoned. While Slurm does
not answer nothing is settled, and nothing is submitted again.

What can still bring the job is

* an sbatch that outlived its submitter: it sleeps and retries while the queue is full. It is made
  to die with its submitter where the system can (``executors/slurm.py``), and is looked for in
  ``/proc`` on the submitter's host. From another host only time tells: sbatch's own limit.
* a request under way: the controller may act on it for a while after sbatch is gone, and for a
  moment after it answers again when it was away.

Not covered: an sbatch that is itself stopped (SIGSTOP) for minutes, settled from another host.
"""

from __future__ import annotations

import calendar
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.errors import ClusterUnreachable
from orchestrator.runtime import failpoint, job

# How long after sbatch's end the controller may still take its request: longer than Slurm's
# MessageTimeout (10 s by default, 60 s on busy sites).
SETTLE_S = 60.0
# How long it gets after an old submission's first negative look: it may have been away until now,
# with the request waiting at its door.
CONFIRM_S = 5.0
POLL_S = 2.0
_LOG = logging.getLogger(__name__)


def settle_submission(
    token: str,
    at: str | None,
    writer: JournalWriter,
    cluster: str,
    by: Mapping[str, Any] | None = None,
) -> str | None:
    """Find out whether the array with this token exists, and write it into the journal.

    Args:
        token: Its job name.
        at: When its intent was written (UTC, ISO 8601), by an earlier submission; None for our own
            intent, whose sbatch has ended.
        writer: The journal.
        cluster: ``ClusterName`` it was submitted to; empty if that is certainly this one.
        by: Who wrote the intent, see ``Submission.by``.

    Returns:
        Slurm's id of the array, or None if there is none.

    Raises:
        ClusterUnreachable: Slurm does not answer, or this is another cluster: it stays open.
    """
    if cluster:
        here = slurm_cli.read_limits().cluster
        if here != cluster:
            raise ClusterUnreachable(
                f"an array was submitted to the cluster {cluster!r}, this is {here!r}; "
                "submit where it was begun"
            )
    wait = _Wait(token, at, writer, by or {})
    written = time.time() if at is None else _seconds(at)
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(written - 86_400))
    while True:
        may_appear = wait.may_appear()  # first: what ends after this look is in the queue by then
        job_id = _find(token, since)
        failpoint.reach("settle.look.after")
        if job_id is not None:
            writer.write("adopted", token=token, job_id=job_id)
            return job_id
        if not may_appear:
            writer.write("abandoned", token=token, reason="no job of this name exists")
            return None
        time.sleep(POLL_S)


class _Wait:
    """How long the job of a token may still appear."""

    def __init__(self, token: str, at: str | None, writer: JournalWriter, by: Mapping[str, Any]):
        self._token, self._by, self._is_ours = token, by, at is None
        self._settle_s = float(os.environ.get("ORCHESTRATOR_SETTLE_S", SETTLE_S))
        now = time.monotonic()
        # On no clock of ours: the other login node's may differ.
        age_s = 0.0 if at is None else writer.quiet_s()
        client_s = slurm_cli.submit_timeout_s() + slurm_cli.SUBMIT_KILL_S
        left_s = client_s + self._settle_s - age_s
        self._latest = now + max(left_s, min(self._settle_s, CONFIRM_S))
        self._quiet_until = min(self._latest, now + self._settle_s)
        self._is_told = False

    def may_appear(self) -> bool:
        """Tell whether the job can still appear, as far as can be known now.

        Raises:
            ClusterUnreachable: An sbatch lives on past its own limit.
        """
        now = time.monotonic()
        clients = [] if self._is_ours else _find_clients(self._token, self._by)
        if clients is None:
            where = self._by.get("host", "another host")
            self._tell(f"its sbatch may still be at work on {where}", self._latest)
            return now < self._latest
        if clients:
            pids = ", ".join(map(str, clients))
            if now >= self._latest + self._settle_s:
                raise ClusterUnreachable(
                    f"it is open whether Slurm took array {self._token}: its sbatch does not end "
                    f"(process {pids}); end it and submit again"
                )
            self._quiet_until = now + self._settle_s
            self._tell(f"its sbatch is still at work (process {pids})", self._latest)
            return True
        if now < self._quiet_until:
            self._tell("Slurm may still take the request", self._quiet_until)
        return now < self._quiet_until

    def _tell(self, why: str, end: float) -> None:
        """Say once what is waited for."""
        left_s = end - time.monotonic()
        if not self._is_told and left_s > POLL_S:
            self._is_told = True
            _LOG.warning(
                "orchestrator: an earlier submit was cut short; looking whether Slurm took array "
                "%s: %s; up to %.0f s",
                self._token,
                why,
                left_s,
            )


def _find_clients(token: str, by: Mapping[str, Any]) -> list[int] | None:
    """Look for processes that may still submit the array of a token.

    Returns:
        Their pids, empty if there are none; None if they would run where this host cannot look.
    """
    here = job.is_of_this_host(by)
    if not here:
        return None if here is None else []
    if job.is_alive_here(by):
        return [int(by["pid"])]  # it has lost its lock, or writes its last words
    script = f"/{token}/array.sbatch".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # gone, or another user's
        # A wrapper of the site, or coreutils' timeout, passes on the same words.
        if b"--parsable" in words and any(word.endswith(script) for word in words):
            found.append(int(name))
    return found


def _find(token: str, since: str) -> str | None:
    ids = slurm_cli.queued_job_ids(token)
    if not ids:
        try:
            ids = slurm_cli.accounted_job_ids(token, since)
        except ClusterUnreachable:
            ids = []  # accounting is off; squeue answered, and keeps ended jobs for minutes
    return ids[0] if ids else None


def _seconds(at: str) -> int:
    return calendar.timegm(time.strptime(at[:19], "%Y-%m-%dT%H:%M:%S"))

"""``doctor --probe``: one tiny job per profile that answers through a file in the results folder.

Runs on the login node. The jobs have the header of the profile's own template, so they are taken or
refused as its trials are. Waiting is bounded, and what is left is cancelled by name, whatever
happens; should even that be cut short, Slurm removes the jobs by their ``--deadline``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.executors.slurm import ScriptExecutor
from orchestrator.adapters.folder_check import PREFIX
from orchestrator.adapters.rendering import Renderer
from orchestrator.contract.errors import AmbiguousSubmission, ClusterRefused, ClusterUnreachable
from orchestrator.contract.paths import ArrayPaths
from orchestrator.domain.partition import JobShape, PartitionProfile
from orchestrator.domain.probe import LOCK, REPORT, ProbeResult, parse_answer, probe_body
from orchestrator.runtime import durable

DEFAULT_WAIT_S = 120.0
_POLL_S = 0.5
_ASK_EVERY_S = 3.0
# How long the file of a job that has ended may take to show up here: NFS looks again after 60 s
# at most, and listing the folder makes it look at once on most servers.
_ARRIVAL_S = 10.0
_JOB_MIN = 2
_MAX_LOG_BYTES = 4096


@dataclass
class _Probe:
    """One job under way."""

    profile: PartitionProfile
    token: str
    folder: str
    result: ProbeResult | None = None
    reason: str | None = None
    gone_at: float | None = None
    """When it was first not in the queue."""


@dataclass
class Prober:
    """Submits the probes of some profiles, and cleans up after them."""

    results: str
    """The results folder; made if need be."""
    templates: str
    """The templates folder."""
    wait_s: float = DEFAULT_WAIT_S
    """How long to wait for all answers."""
    clock: Callable[[], float] = time.monotonic
    """Seconds that only grow."""
    _probes: list[_Probe] = field(default_factory=list)

    def run(self, profiles: Sequence[PartitionProfile]) -> dict[str, ProbeResult]:
        """Probe these profiles at once.

        Returns:
            By profile name, in order.

        Raises:
            ClusterUnreachable: Slurm did not answer when the jobs were submitted.
            UserError: A template does not render, or the results folder cannot be made.
        """
        renderer = Renderer(self.templates)
        made = not os.path.isdir(self.results)
        os.makedirs(self.results, exist_ok=True)
        home = tempfile.mkdtemp(prefix=PREFIX, dir=os.path.abspath(self.results))
        try:
            with contextlib.ExitStack() as locks:
                for profile in profiles:
                    self._submit(renderer, profile, home, locks)
                self._await()
        finally:
            self._cancel()
            shutil.rmtree(home, ignore_errors=True)
            if made:
                with contextlib.suppress(OSError):  # a sweep came meanwhile
                    os.rmdir(self.results)
        return {probe.profile.name: probe.result or _waiting(probe) for probe in self._probes}

    def _submit(
        self, renderer: Renderer, profile: PartitionProfile, home: str, locks: contextlib.ExitStack
    ) -> None:
        token = f"doctor-{secrets.token_hex(5)}"
        folder = os.path.join(home, token)
        os.mkdir(folder, mode=0o700)
        durable.write_new(os.path.join(folder, LOCK), b"")
        held = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CLOEXEC)
        locks.callback(os.close, held)
        with contextlib.suppress(OSError):  # no locks here: the folder's check says so
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = probe_script(renderer, profile, token, folder, self.wait_s)
        probe = _Probe(profile, token, folder)
        self._probes.append(probe)
        try:
            ScriptExecutor(ArrayPaths(folder)).submit_text(text)
        except ClusterRefused as error:
            probe.result = ProbeResult(refused=str(error).removeprefix("sbatch: "))
        except AmbiguousSubmission as error:
            probe.result = ProbeResult(waiting=str(error))

    def _await(self) -> None:
        deadline = self.clock() + self.wait_s
        asked = -math.inf
        while open_ := [probe for probe in self._probes if probe.result is None]:
            now = self.clock()
            if now - asked >= _ASK_EVERY_S:
                self._ask(open_, now)
                asked = now
            for probe in open_:
                probe.result = _look(probe, now)
            if now >= deadline:
                return
            if any(probe.result is None for probe in open_):
                time.sleep(_POLL_S)

    def _ask(self, probes: Sequence[_Probe], now: float) -> None:
        names = ",".join(probe.token for probe in probes)
        try:
            text = slurm_cli.query(["squeue", "-h", "-n", names, "-o", "%j|%T|%r"])
        except ClusterUnreachable:
            return  # nothing may be concluded; the deadline holds
        found = {line.split("|")[0]: line.split("|")[1:] for line in text.splitlines()}
        for probe in probes:
            if probe.token not in found:
                probe.gone_at = now if probe.gone_at is None else probe.gone_at
                continue
            state, reason = found[probe.token]
            probe.gone_at = None
            probe.reason = reason if state == "PENDING" else None

    def _cancel(self) -> None:
        for probe in self._probes:
            with contextlib.suppress(ClusterUnreachable):  # then its --deadline ends it
                slurm_cli.query(["scancel", "-n", probe.token])


def probe_script(
    renderer: Renderer, profile: PartitionProfile, token: str, folder: str, wait_s: float
) -> str:
    """Render a probe's script: the header of the profile's template, and a body of our own.

    Raises:
        TemplateError: The template does not render.
    """
    minutes = _JOB_MIN + math.ceil(profile.signal_before_end_s / 60)
    shape = JobShape(1, 0, None, 1, None, minutes, profile.sbatch)
    text = renderer.render(
        profile.template,
        {
            "script": "array",
            "partition": dataclasses.replace(profile, requeue=False),
            "resources": shape,
            "job": {"name": token, "output": os.path.join(folder, "log"), "array": ""},
            "array": {"sweep_dir": folder, "tasks": "tasks"},
            "launch": {
                "python": sys.executable,
                "bin_dir": os.path.dirname(sys.executable),
                "workdir": os.getcwd(),
                "environment": (),
                "env": {},
                "resources": {},
                "code": None,
            },
        },
    )
    header = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        header.append(line)
    last = math.ceil(self_destruct_s(wait_s, minutes))
    body = probe_body(folder, os.getcwd(), sys.executable)
    return "\n".join([*header, f"#SBATCH --deadline=now+{last}", body])


def self_destruct_s(wait_s: float, minutes: int) -> float:
    """Return the seconds after which Slurm itself removes a probe that nobody cancelled."""
    return wait_s + 60.0 * minutes + 60


def _look(probe: _Probe, now: float) -> ProbeResult | None:
    """Return what became of a probe; None while that is open."""
    path = os.path.join(probe.folder, REPORT)
    os.listdir(probe.folder)  # makes NFS look again
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return ProbeResult(answer=parse_answer(file.read()))
    except FileNotFoundError:
        pass
    if probe.gone_at is None or now - probe.gone_at < _ARRIVAL_S:
        return None
    return ProbeResult(ended=True, log=_last_line(os.path.join(probe.folder, "log")))


def _waiting(probe: _Probe) -> ProbeResult:
    return ProbeResult(waiting=probe.reason or "")


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return (text.strip().splitlines() or [""])[-1]

"""One round of `kill_points.py`: a sweep whose submitters are killed, and a look at the records.

A round depends on its seed alone, but for what the kernel's scheduler decides.
"""

from __future__ import annotations

import collections
import errno
import fcntl
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cli import main as cli
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from orchestrator.runtime import durable, failpoint
from tests.faults.ledger import Ledger, read_ledger

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# What a request under way may take, 1/100 s, and what is waited for it: never less.
MAX_DELAY_CS = 25
SETTLE_S = 0.6
# What sbatch may take; nobody sees from one login node whether it lives on another.
SUBMIT_TIMEOUT_S = 4
# Longer than any submit here takes.
HANG_S = 300.0
MAX_TRIES = 40
# Every point of `submit`, and how often a small sweep reaches it; a test holds the list complete.
POINTS = {
    "array.mkdir.after": 3,
    "array.mkdir.before": 3,
    "code.copy.before": 1,
    "code.rename.after": 1,
    "code.rename.before": 1,
    "code.write.half": 3,
    "durable.create.after": 6,
    "durable.create.before": 6,
    "durable.fsync.after": 6,
    "durable.fsync.before": 6,
    "durable.link.after": 1,
    "durable.link.before": 1,
    "durable.rename.after": 6,
    "durable.rename.before": 6,
    "durable.unlink.after": 1,
    "durable.write.half": 6,
    "file.create.after": 6,
    "file.write.after": 6,
    "file.write.half": 6,
    "journal.fsync.after": 3,
    "journal.fsync.before": 3,
    "journal.mend.after": 1,
    "journal.mend.before": 1,
    "journal.write.before": 3,
    "journal.write.half": 3,
    "lock.owner.after": 1,
    "lock.release.after": 1,
    "lock.take.after": 1,
    "lock.take.before": 1,
    "lock.takeover.after": 1,
    "lock.takeover.before": 1,
    "sbatch.after": 2,
    "sbatch.before": 2,
    "settle.look.after": 2,
    "sweep.mkdir.after": 1,
    "trial.mkdir.after": 3,
    "trial.mkdir.before": 3,
}
# Those around the submission itself, where a mistake costs most.
_CRUCIAL = [name for name in POINTS if name.startswith(("journal.", "sbatch.", "settle."))]
_SBATCH_FAULTS = (
    *["ok"] * 8,
    *["banner", "garbage", "taken", "lost", "late", "refused", "asleep"],
    *["kill_before", "kill_after"] * 2,
)
SPEC = """\
program: /bin/true
name: sweep
method: grid
metric: {{name: loss, goal: minimize}}
partition: spot
resources: {{gpus: 0, cpus: 1, mem_gb: 0.1, time: 10}}
parameters: {{x: {{min: 1, max: {n_trials}, step: 1}}}}
"""


@dataclass
class Tally:
    """What happened so far."""

    n_rounds: int = 0
    """Sweeps."""
    n_submits: int = 0
    """Submitters started."""
    n_trials: int = 0
    """Trials that ended in exactly one array."""
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    """By the point's name; ``*`` for any point, ``outside`` and ``sbatch`` for other killers."""
    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    """Exit codes of those that were not killed."""

    @property
    def n_kills(self) -> int:
        """Submitters killed."""
        return sum(self.kills.values())

    def add(self, other: dict[str, Any]) -> None:
        """Add what another process counted, as JSON has it."""
        self.n_rounds += other["n_rounds"]
        self.n_submits += other["n_submits"]
        self.n_trials += other["n_trials"]
        self.kills.update(other["kills"])
        self.codes.update({int(code): n for code, n in other["codes"].items()})


class RoundFailed(Exception):
    """What a round found wrong, and how to replay it."""


class Round:
    """One sweep, from its first submit to its last check."""

    def __init__(self, folder: Path, seed: int, tally: Tally):
        """Make the sweep's folder and the pretended Slurm's plan."""
        self.folder, self.seed, self.tally = folder, seed, tally
        self.random = random.Random(seed)
        self.slurm = folder / "slurm"
        for name in ("jobs", "calls"):
            (self.slurm / name).mkdir(parents=True)
        self._write_plan()
        path = f"{HERE / 'fake_slurm'}:/usr/bin:/bin"
        if self.random.random() < 0.4:
            # An older system, where sbatch does not die with its submitter.
            (folder / "bin").mkdir()
            (folder / "bin/setpriv").write_text("#!/bin/sh\nexit 1\n")
            (folder / "bin/setpriv").chmod(0o755)
            path = f"{folder / 'bin'}:{path}"
        self.env = {
            "PATH": path,
            "HOME": str(folder),
            "ORCHESTRATOR_SETTLE_S": str(SETTLE_S),
            "ORCHESTRATOR_SUBMIT_TIMEOUT_S": str(SUBMIT_TIMEOUT_S),
            "FAKE_SLURM_DIR": str(self.slurm),
            "FAKE_UID": str(os.getuid()),
            "FAKE_MAX_ARRAY_SIZE": str(self.random.randint(2, 6)),
        }
        # Some file systems have no record locks, and some sites two login nodes. Not both here:
        # the stand-in of a process that died on the other login node is removed by hand.
        self.site = self.random.choice([*["plain"] * 6, "no locks", "two hosts"])
        self.n_trials = self.random.randint(1, 8)
        self.fresh: list[dict[str, int]] = []
        self.widen(0)

    def run(self) -> None:
        """Submit until all is well.

        Raises:
            RoundFailed: A trial was lost or submitted twice, or no submit ever ends well.
        """
        for _ in range(self.random.randint(0, 5)):
            for _ in range(self.random.randint(1, 4)):
                self.submit_some()
            self.widen(self.random.randint(1, 4))
        for _ in range(MAX_TRIES):
            if self.submit_some() == [0]:
                break
        for _ in range(MAX_TRIES):
            if self.submit([""]) == [0]:
                break
        else:
            self.fail([f"no submit ended well in {MAX_TRIES}"])
        n_jobs = len(list((self.slurm / "jobs").iterdir()))
        for _ in range(MAX_TRIES):  # squeue may fail
            if self.submit([""]) == [0]:
                break
        if len(list((self.slurm / "jobs").iterdir())) != n_jobs:
            self.fail(["a submit with nothing new submitted something"])
        self.tally.n_rounds += 1
        self.tally.n_trials += self.n_trials

    def widen(self, n_more: int) -> None:
        """Add trials: to the spec, or beside it, as those that confirm a first place are."""
        self.n_trials += n_more
        sweep = self.folder / "results/sweep"
        if sweep.is_dir() and self.random.random() < 0.3:
            self.fresh += [{"x": self.n_trials - n} for n in range(n_more)]
            trials = [{"of": "00000-x", "seed": 1, "params": params} for params in self.fresh]
            record = {"seed_parameter": "x", "differs": ["x"], "seeds": [1], "top": 1}
            path = SweepPaths(str(sweep)).confirmation
            durable.replace(path, dump_record({**record, "trials": trials}))
        else:
            # What was asked for beside it before is the spec's own from then on.
            (self.folder / "sweep.yaml").write_text(SPEC.format(n_trials=self.n_trials))

    def submit_some(self) -> list[int]:
        """Let one submitter, or two at once, run into whatever comes."""
        n_submitters = 2 if self.random.random() < 0.15 else 1
        return self.submit([self._choose_point() for _ in range(n_submitters)])

    def submit(self, points: Sequence[str]) -> list[int]:
        """Run a submitter for each point at which it shall be killed; returns how they ended."""
        kill_after_s = self.random.uniform(0, 0.15) if "outside" in points else None
        pids = [self._start(point) for point in points]
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            for pid, point in zip(pids, points, strict=True):
                if point == "outside":
                    os.kill(pid, signal.SIGKILL)
        codes = []
        for pid, point in zip(pids, points, strict=True):
            code = self._await_end(pid)
            codes.append(code)
            self.tally.n_submits += 1
            if code == -signal.SIGKILL:
                self.tally.kills[point.rpartition(":")[0] or point or "sbatch"] += 1
            else:
                self.tally.codes[code] += 1
                if code not in (0, 3):
                    self.fail([f"a submit ended with exit code {code}"])
        return codes

    def read(self) -> Ledger:
        """Put the sweep's records and the queue side by side."""
        return read_ledger(self.folder / "results/sweep", self.slurm / "jobs", self.n_trials)

    def check(self) -> None:
        """Compare all records.

        Raises:
            RoundFailed: They do not agree.
        """
        problems = self.read().problems
        if problems:
            self.fail(problems)

    def fail(self, problems: list[str]) -> None:
        """Say what is wrong; the folder is kept.

        Raises:
            RoundFailed: Always.
        """
        raise RoundFailed(
            "\n".join(problems[:20])
            + f"\nfolder: {self.folder}; what the submitters said stands in `log` there\n"
            f"replay: python -m tests.faults.kill_points --round {self.seed}"
        )

    def _choose_point(self) -> str:
        dice = self.random.random()
        if dice < 0.1:
            return ""
        if dice < 0.2:
            return "outside"
        if dice < 0.5:
            return f"*:{int(2 ** self.random.uniform(0, 7.5))}"
        name = self.random.choice(_CRUCIAL if dice < 0.8 else list(POINTS))
        return f"{name}:{self.random.randint(1, POINTS[name])}"

    def _write_plan(self) -> None:
        lines = [
            f"{self.random.choice(_SBATCH_FAULTS)} {self.random.randint(5, MAX_DELAY_CS)}"
            for _ in range(40)
        ]
        (self.slurm / "plan.sbatch").write_text("\n".join(lines) + "\n")
        for command, faults in (("squeue", ["fail"]), ("sacct", ["fail", "fail", "lag"])):
            words = [self.random.choice([*["ok"] * 12, *faults]) for _ in range(80)]
            (self.slurm / f"plan.{command}").write_text("".join(f"{word} 0\n" for word in words))

    def _move(self, is_away: bool) -> None:
        """Make this process one of the round's site, on its other login node or not."""
        if self.site == "no locks":

            def unsupported(fd: int, how: int) -> None:
                raise OSError(errno.ENOLCK, "No locks available")

            fcntl.lockf = unsupported  # type: ignore[assignment]
        elif self.site == "two hosts" and is_away:
            real = os.uname()
            there = os.uname_result((real.sysname, "login2", *real[2:]))
            os.uname = lambda: there  # type: ignore[assignment]

    def _start(self, point: str) -> int:
        is_away = self.random.random() < 0.5
        pid = os.fork()
        if pid:
            return pid
        code = 99
        try:
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(log, f"--- {os.getpid()} {point}\n".encode())
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self.folder)
            os.environ.clear()
            os.environ.update({**self.env, "FAKE_SUBMITTER": str(os.getpid())})
            self._move(is_away)
            failpoint.arm("" if point == "outside" else point)
            words = ["submit", "sweep.yaml", "--cluster", "slurm"]
            code = cli.run([*words, "--templates", str(ROOT / "templates")])
            sys.stdout.flush()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _await_end(self, pid: int) -> int:
        deadline = time.monotonic() + HANG_S
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self.fail([f"a submit did not end in {HANG_S:.0f} s"])
            time.sleep(0.002)

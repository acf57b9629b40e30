"""``make storm``: 100 trials on the test cluster while everything around them breaks.

Does: starts a test cluster of its own, submits a sweep as the ordinary user, kills the submitter
and the supervisor 20 times, preempts and kills nodes by a Poisson schedule, restarts the controller
twice (once by SIGKILL) and takes the database away for a while; then waits for the end and compares
the trials' own ledgers with what was committed. Bounded in time. Not: a benchmark.
Called by: people and CI, as root, on a Debian machine that may be used for tests.
Exit status: 0 nothing lost and nothing counted twice, 1 otherwise, 3 no cluster here.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.cluster import USER, Cluster, ClusterError, ClusterOptions, ClusterUnavailable
from tests.cluster.installation import reachable_installation
from tests.cluster.processes import Process
from tests.cluster.user import User
from tests.storm.ledger import Verdict, judge
from tests.storm.weather import Weather, forecast

N_SUBMITTER_KILLS = 20
# Of them, so many at an exact point of a submission; the others at any moment of supervision.
N_EXACT_KILLS = 8
# Effects of a submission, each a place to be killed at; small, so that it takes many submissions.
MAX_POINT = 150
MAX_WAIT_S = 420.0
# How long a supervisor lives in a storm, on average, and a submitter.
MEAN_LIFE_S = 6.0
MEAN_SUBMIT_S = 0.4
NO_CLUSTER = 3


@dataclass
class Storm:
    """One storm and what it needs."""

    user: User
    seed: int
    n_trials: int
    n_steps: int
    length_s: float
    kills: Counter[str] = field(default_factory=Counter)
    n_over: int = 0
    began_at: float = field(default_factory=time.monotonic)

    @property
    def n_killed(self) -> int:
        """How often a submitter or supervisor was killed in the midst of it."""
        return sum(n for kind, n in self.kills.items() if not kind.endswith("ended"))

    def tell(self, line: str) -> None:
        print(f"{time.monotonic() - self.began_at:6.1f} s  {line}", flush=True)

    def rage(self) -> tuple[Verdict, dict[str, Any], Counter[str]]:
        """Submit, let it storm, wait for the end, judge."""
        self._lay_out()
        draw = random.Random(self.seed)
        self._submit_through_kills(draw)
        weather = Weather(self.user.cluster, self.user.folder, self.tell)
        calm = threading.Event()
        blowing = threading.Thread(target=self._blow, args=(weather, calm), daemon=True)
        self.began_at = time.monotonic()
        blowing.start()
        try:
            self._supervise_through_kills(draw, blowing)
        finally:
            calm.set()
            blowing.join(timeout=60)
        self.user.cluster.heal()
        done = self.user.type("supervise", "--interval", "1", timeout_s=MAX_WAIT_S)
        self.tell(f"the last supervisor left with exit code {done.returncode}")
        collected = self.user.type("collect", "sweep", "--json", timeout_s=120)
        sweep = self.user.folder / "results/sweep"
        verdict = judge(sweep, self.user.folder / "ledgers", self.n_trials, self.n_steps)
        if self.user.states() != {"done": self.n_trials}:
            verdict.violations.append(f"states at the end: {self.user.states()}")
        return verdict, json.loads(collected.stdout), weather.counts

    def _lay_out(self) -> None:
        user = self.user
        ledgers = user.folder / "ledgers"
        ledgers.mkdir()
        shutil.chown(ledgers, USER, USER)
        user.write("program.py", Path(__file__).with_name("program.py").read_text())
        spec = {
            "program": "program.py",
            "metric": {"name": "loss", "goal": "minimize"},
            "method": "grid",
            "partition": "spot",
            "max_concurrent": 24,
            "resources": {"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 10},
            "env": {
                "LEDGER": str(ledgers),
                "STEPS": str(self.n_steps),
                "STEP_S": "0.2",
                "ORCHESTRATOR_HEARTBEAT_S": "2",
            },
            "parameters": {"a": {"min": 1, "max": self.n_trials, "step": 1}},
        }
        user.write("sweep.yaml", json.dumps(spec))  # JSON is YAML
        user.env["ORCHESTRATOR_SETTLE_S"] = "12"

    def _submit_through_kills(self, draw: random.Random) -> None:
        """Submit, each time killed at another of its effects, until one submission gets through."""
        for _ in range(N_EXACT_KILLS):
            point = f"*:{draw.randint(1, MAX_POINT)}"
            done = self._type("submit", "sweep.yaml", "--cluster", "slurm", failpoint=point)
            self.kills["submit"] += done.returncode != 0
            self.tell(f"submit killed at effect {point[2:]}: exit code {done.returncode}")
        self.user.submit()

    def _supervise_through_kills(self, draw: random.Random, blowing: threading.Thread) -> None:
        """Supervise and submit, killed at random moments, while it storms."""
        pid_file = self.user.folder / "pid"
        program = " ".join(self.user.installation.orchestrator)
        deadline = self.began_at + self.length_s
        while not self._is_enough(deadline, blowing):
            pid_file.unlink(missing_ok=True)
            words = "supervise --interval 1" if draw.random() < 0.7 else "submit sweep.yaml"
            self.user.write("watch.sh", f"#!/bin/bash\necho $$ > pid\nexec {program} {words}\n")
            watching = threading.Thread(target=self._watch, daemon=True)
            watching.start()
            is_quick = words.startswith("submit")
            mean_s = MEAN_SUBMIT_S if is_quick else MEAN_LIFE_S
            time.sleep(min(4 * mean_s, max(0.05, draw.expovariate(1 / mean_s))))
            self._kill(pid_file, words.partition(" ")[0])
            watching.join(timeout=60)

    def _is_enough(self, deadline: float, blowing: threading.Thread) -> bool:
        now = time.monotonic()
        if blowing.is_alive() and now < deadline + 240:
            return False  # on a busy machine the last gusts come late
        is_over = self.n_over >= 3 or now > deadline + 60
        return now > deadline and (self.n_killed >= N_SUBMITTER_KILLS or is_over)

    def _watch(self) -> None:
        try:
            done = self.user.cluster.run_as_user(
                ["./watch.sh"], cwd=self.user.folder, env=self.user.env, timeout_s=MAX_WAIT_S
            )
            self.n_over += "nothing left to do" in done.stdout
            if done.returncode not in (-9, 137):
                words = (done.stderr or done.stdout).strip().splitlines()
                self.tell(f"it left with exit code {done.returncode}: {words[-1:]}")
        except subprocess.TimeoutExpired:
            self.tell("a supervisor had to be stopped")

    def _kill(self, pid_file: Path, command: str) -> None:
        try:
            process = Process.identify(int(pid_file.read_text()))
        except (OSError, ValueError):
            process = None
        if process is None or not process.send(9):
            self.kills[f"{command} had ended"] += 1
            return
        self.kills[command] += 1
        self.tell(f"{command} killed")

    def _blow(self, weather: Weather, calm: threading.Event) -> None:
        for gust in forecast(self.seed, self.length_s, self.user.cluster.options.n_nodes):
            if calm.wait(max(0.0, self.began_at + gust.at_s - time.monotonic())):
                return
            try:
                weather.do(gust)
            except (ClusterError, subprocess.TimeoutExpired, TimeoutError) as error:
                self.tell(f"{gust.kind}: {str(error).splitlines()[0]}")

    def _type(self, *words: str, failpoint: str) -> subprocess.CompletedProcess[str]:
        return self.user.cluster.run_as_user(
            [*self.user.installation.orchestrator, *words],
            cwd=self.user.folder,
            env={**self.user.env, "ORCHESTRATOR_FAILPOINT": failpoint},
            timeout_s=120,
        )


def report(storm: Storm, verdict: Verdict, board: dict[str, Any], weather: Counter[str]) -> str:
    """Say what the storm did and what came of it."""
    committed = verdict.outcomes["committed"]
    useful = storm.n_trials * storm.n_steps
    wasted = sum(verdict.repeated.values())
    lines = [
        f"storm of seed {storm.seed}: {storm.n_trials} trials of {storm.n_steps} steps",
        f"  submitter killed  {storm.n_killed} times "
        f"({', '.join(f'{n} x {kind}' for kind, n in sorted(storm.kills.items()))})",
        f"  weather           {', '.join(f'{n} x {k}' for k, n in sorted(weather.items()))}",
        f"  attempts          {sum(verdict.outcomes.values())}: "
        + ", ".join(f"{n} {word}" for word, n in verdict.outcomes.most_common()),
        f"  executions        {verdict.n_executions} of the program, {committed} committed",
        f"  steps             {verdict.n_steps} done for {useful}: {wasted} repeated "
        f"({wasted / useful:.1%})",
        *(
            f"                    {n} first done by an attempt that ended {word}"
            for word, n in verdict.repeated.most_common()
        ),
    ]
    goodput = board.get("goodput") or {}
    if isinstance(goodput.get("goodput"), float):
        lines.append(f"  goodput           {goodput['goodput']:.1%} of the allocated time")
        parts = goodput["parts_h"]
        total_h = goodput["allocated_h"]
        for name, hours in sorted(parts.items(), key=lambda item: -item[1]):
            if hours and name != "results":
                lines.append(f"                    {hours / total_h:.1%} {name}")
        resume = goodput["resume_s"]
        if resume["n"]:
            lines.append(
                f"  running again     p50 {resume['p50']:.0f} s, p99 {resume['p99']:.0f} s after "
                f"an interruption ({resume['n']} of them)"
            )
    lines.append(f"  ran together      {len(verdict.overlaps)} pairs of copies")
    lines += [f"                    {text}" for text in verdict.overlaps]
    lines.append(f"  broken promises   {len(verdict.violations)}")
    lines += [f"    {text}" for text in verdict.violations]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run a storm; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="of 0.2 s each")
    parser.add_argument("--length", type=float, default=150.0, help="seconds of bad weather")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.randrange(10_000)
    root = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="storm-"))
    root.chmod(0o755)
    cluster = Cluster(root)
    try:
        cluster.up(ClusterOptions(max_array_size=16, slurmd_timeout_s=10))
        with reachable_installation(cluster) as installation:
            folder = Path(tempfile.mkdtemp(dir=root / "users"))
            folder.chmod(0o755)
            shutil.chown(folder, USER, USER)
            user = User(cluster, folder, installation)
            storm = Storm(user, seed, options.trials, options.steps, options.length)
            verdict, board, weather = storm.rage()
            print(report(storm, verdict, board, weather))
            if verdict.violations:
                kept = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="storm-kept-"))
                shutil.copytree(folder, kept / "sweep", dirs_exist_ok=True)
                shutil.copytree(root / "log", kept / "log", dirs_exist_ok=True)
                print(f"kept for you: {kept}")
                return 1
            return 0
    except ClusterUnavailable as error:
        print(f"no test cluster here: {error}", file=sys.stderr)
        return NO_CLUSTER
    finally:
        cluster.purge()


if __name__ == "__main__":
    sys.exit(main())

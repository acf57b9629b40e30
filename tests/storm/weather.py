"""What breaks in a storm, and when: a seeded schedule, and the hands that do it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import processes
from tests.cluster.cluster import Cluster


@dataclass(frozen=True)
class Gust:
    """One thing that happens."""

    at_s: float
    """Seconds after the storm begins."""
    kind: str
    """A method of ``Weather``."""
    node: int = 0
    """Which node, from 1; 0 where it has none."""


def forecast(seed: int, length_s: float, n_nodes: int) -> list[Gust]:
    """Draw a schedule: Poisson preemptions and node deaths, and each daemon's own bad moments.

    The controller is restarted once politely and once by SIGKILL, which forgets up to five seconds
    of jobs. Every gust that breaks something is followed by one that mends it.
    """
    draw = random.Random(seed)
    gusts = []
    for mean_s, kind, mends_after_s in ((5.0, "preempt", 0.0), (28.0, "kill_node", 6.0)):
        at_s = draw.expovariate(1 / mean_s)
        while at_s < length_s:
            node = draw.randint(1, n_nodes)
            gusts.append(Gust(at_s, kind, node))
            if mends_after_s:
                gusts.append(Gust(at_s + mends_after_s, "start_node", node))
            at_s += draw.expovariate(1 / mean_s)
    for share, kind, mends_after_s in (
        (draw.uniform(0.2, 0.35), "stop_controller", 4.0),
        (draw.uniform(0.55, 0.7), "kill_controller", 4.0),
    ):
        gusts.append(Gust(share * length_s, kind))
        gusts.append(Gust(share * length_s + mends_after_s, "start_controller"))
    database = draw.uniform(0.35, 0.5)
    gusts.append(Gust(database * length_s, "kill_database"))
    gusts.append(Gust(database * length_s + 20.0, "start_database"))
    return sorted(gusts, key=lambda gust: gust.at_s)


class Weather:
    """Does what the schedule says to a test cluster."""

    def __init__(self, cluster: Cluster, folder: Path, tell: Callable[[str], None]):
        """Break a cluster; ``folder`` belongs to its ordinary user."""
        self.cluster, self.folder, self.tell = cluster, folder, tell
        self.counts: Counter[str] = Counter()

    def do(self, gust: Gust) -> None:
        """Let one gust blow."""
        self.counts[gust.kind] += 1
        self.tell(f"{gust.kind.replace('_', ' ')}{f' n{gust.node}' if gust.node else ''}")
        getattr(self, f"_{gust.kind}")(gust.node)

    def _preempt(self, node: int) -> None:
        """A job of higher priority takes a whole node for some seconds."""
        self.cluster.run_as_user(
            ["sbatch", "-p", "ondemand", "-w", f"n{node}", "--exclusive", "-t1", "-o/dev/null"]
            + ["--wrap", "exec sleep 3"],
            cwd=self.folder,
            timeout_s=60,
        )

    def _kill_node(self, node: int) -> None:
        """Power loss: the daemon and everything that runs there, at once."""
        self.cluster.kill(f"slurmd-n{node}")
        processes.kill(processes.find_node_processes(self.cluster.slurm_conf, f"n{node}"))

    def _start_node(self, node: int) -> None:
        self.cluster.start(f"slurmd-n{node}")

    def _stop_controller(self, _: int) -> None:
        self.cluster.terminate("slurmctld")

    def _kill_controller(self, _: int) -> None:
        self.cluster.kill("slurmctld")

    def _start_controller(self, _: int) -> None:
        self.cluster.start("slurmctld")

    def _kill_database(self, _: int) -> None:
        if "slurmdbd" in self.cluster.daemons():
            self.cluster.kill("slurmdbd")

    def _start_database(self, _: int) -> None:
        if "slurmdbd" in self.cluster.daemons():
            self.cluster.start("slurmdbd")

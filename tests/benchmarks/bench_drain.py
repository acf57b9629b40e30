"""How much an attempt costs: 162 trials of ``true`` against a bare array of 162 ``true``.

On the test cluster, as its ordinary user; claim, commit and everything else included. Each way runs
twice, in turn, since the machine is noisy; the better time of each counts.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from tests.cluster.cluster import USER, Cluster
from tests.cluster.installation import Installation, reachable_installation

N_TRIALS = 162
TIMEOUT_S = 300.0
SPEC = """\
program: /bin/true
command: ["${{program}}"]
method: grid
metric: {{name: loss, goal: minimize}}
name: {name}
partition: spot
layout: {layout}
resources: {{gpus: 0, cpus: 1, mem_gb: 0.1, time: 10}}
parameters: {{x: {{min: 1, max: {n}, step: 1}}}}
"""


def drain(cluster: Cluster) -> None:
    """Wait until the queue is empty."""
    cluster.wait_until(lambda: not cluster.squeue(), TIMEOUT_S, cluster.squeue, interval_s=0.2)


def bare(cluster: Cluster, folder: Path) -> float:
    """Seconds of a bare array."""
    script = folder / "bare.sh"
    script.write_text("#!/bin/bash\nexec true\n")
    began = time.perf_counter()
    cluster.run_as_user(
        ["sbatch", "-p", "spot", "-c1", "--mem=100M", "-t10", "-o", "/dev/null"]
        + [f"--array=0-{N_TRIALS - 1}", str(script)],
        cwd=folder,
        check=True,
    )
    drain(cluster)
    return time.perf_counter() - began


def ours(cluster: Cluster, folder: Path, installation: Installation, layout: str) -> float:
    """Seconds of a sweep, from the first sbatch on."""
    name = f"{layout}-{time.time_ns()}"
    (folder / "sweep.yaml").write_text(SPEC.format(name=name, layout=layout, n=N_TRIALS))
    argv = [*installation.orchestrator, "submit", "sweep.yaml", "--cluster", "slurm"]
    cluster.run_as_user(argv, cwd=folder, check=True, timeout_s=120)
    began = time.time()
    intent = (folder / "results" / name / "journal.jsonl").stat().st_mtime
    drain(cluster)
    took = time.time() - min(began, intent)
    done = len(list((folder / "results" / name / "trials").glob("*/result.json")))
    if done != N_TRIALS:
        raise RuntimeError(f"{done} of {N_TRIALS} trials are done")
    return took


def main() -> None:
    """Run each way twice and print the ratios."""
    cluster = Cluster()
    was_up = cluster.is_up()
    cluster.up()
    folder = Path(tempfile.mkdtemp(dir=cluster.root / "users"))
    folder.chmod(0o755)
    shutil.chown(folder, USER)
    times: dict[str, list[float]] = {"bare": [], "batch": [], "step": []}
    try:
        with reachable_installation(cluster) as installation:
            for _ in range(2):
                times["bare"].append(bare(cluster, folder))
                for layout in ("batch", "step"):
                    times[layout].append(ours(cluster, folder, installation, layout))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not was_up:
            cluster.down()
    base = min(times["bare"])
    for name, seconds in times.items():
        print(f"{name:<6} {min(seconds):7.2f} s  {min(seconds) / base:5.2f} x  {seconds}")


if __name__ == "__main__":
    main()

"""Whole commands on a large sweep: ``collect`` with fifty new trials, ``status`` of queued ones.

``python -m tests.benchmarks.bench_incremental [N_TRIALS]``. Each figure is of a fresh process from
start to exit, files written, with the files in the page cache and the modules compiled; processor
time, which other load changes less than wall time, stands beside, and as ratios to ``python -c
pass`` and ``import pandas`` in the same run. It prints; it asserts no times.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import read_record
from tests.benchmarks.bench_collect import make_sweep, write

N_RUNS, N_NEW = 3, 50
FAKE_SLURM = Path(__file__).parents[1] / "faults" / "fake_slurm"


def measure(argv: list[str], env: dict[str, str] | None = None) -> tuple[float, float, float]:
    """Run a process; return wall time, processor time of it and its children, and peak GB."""
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(argv, env=env, stdout=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{argv}: exit code {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def best(
    run: Callable[[], tuple[float, float, float]], before: Callable[[], object] = lambda: None
) -> tuple[float, float, float]:
    """Return the least of several runs, each figure for itself, but the largest memory."""
    found = []
    for _ in range(N_RUNS):
        before()
        found.append(run())
    walls, cpus, peaks = zip(*found, strict=True)
    return min(walls), min(cpus), max(peaks)


def queue_trials(folder: str, n_trials: int) -> tuple[SweepPaths, dict[str, str]]:
    """Write a sweep of queued trials, and a pretended Slurm that knows them."""
    sweep = SweepPaths(f"{folder}/results/queued")
    os.makedirs(sweep.trials)
    for name in ("calls", "jobs"):
        os.makedirs(f"{folder}/slurm/{name}")
    metric = {"name": "val_loss", "goal": "minimize"}
    write(sweep.summary, {"name": "queued", "metric": metric, "parameters": ["lr"]})
    names = [f"{number:05d}-{number:010x}" for number in range(n_trials)]
    for number, name in enumerate(names):
        os.makedirs(sweep.trial(name).root)
        write(sweep.trial(name).params, {"lr": number})
        os.utime(sweep.trial(name).root, (time.time() - 3600,) * 2)
    with contextlib.closing(JournalWriter(sweep, time.time())) as journal:
        for start in range(0, n_trials, 1000):
            token, part = f"queued-20260101-{start:06d}", names[start : start + 1000]
            intent = {"token": token, "executor": "slurm", "cluster": "fake", "trials": part}
            journal.write("intent", **intent, by={}, partition="cpu", gpus=0, throttle=None)
            journal.write("submitted", token=token, job_id=str(1 + start))
            with open(f"{folder}/slurm/jobs/{1 + start}", "w") as file:
                file.write(f"{token} 0 {len(part) - 1} {os.getuid()} 0\n")
    path = f"{FAKE_SLURM}:{os.environ['PATH']}"
    return sweep, {**os.environ, "PATH": path, "FAKE_SLURM_DIR": f"{folder}/slurm"}


def repeat_trials(sweep: SweepPaths) -> None:
    """Make each three trials repeats of one configuration, read anew as theirs."""
    names = sorted(os.listdir(sweep.trials))
    for place, name in enumerate(names):
        params = read_record(sweep.trial(names[place - place % 3]).params)
        write(sweep.trial(name).params, {**params, "seed": place % 3})
    shutil.rmtree(sweep.cache)


def main() -> None:
    """Generate, measure, print."""
    n_trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    command = [sys.executable, "-m", "orchestrator"]
    with tempfile.TemporaryDirectory(prefix="bench-incremental-") as folder:
        # As for a user: compiled once, whatever this process was told of it.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/compiled"
        rows = {
            f"python -c {code!r}": best(partial(measure, [sys.executable, "-c", code]))
            for code in ("pass", "import pandas")
        }
        sweep = make_sweep(f"{folder}/results/bench", n_trials + N_NEW)
        where = ["--results", f"{folder}/results"]
        new = sorted(os.listdir(sweep.trials))[-N_NEW:]
        for name in new:
            os.rename(f"{sweep.trials}/{name}", f"{folder}/{name}")
        rows["collect, first time"] = measure([*command, "collect", "bench", *where])
        shutil.copytree(sweep.cache, f"{folder}/cache")

        def finish_new() -> None:
            """Put the cache back as it was before the new trials ended."""
            shutil.rmtree(sweep.cache)
            shutil.copytree(f"{folder}/cache", sweep.cache)
            for name in new:
                if os.path.isdir(f"{folder}/{name}"):
                    os.rename(f"{folder}/{name}", f"{sweep.trials}/{name}")

        rows[f"collect, {N_NEW} new"] = best(
            lambda: measure([*command, "collect", "bench", *where]), finish_new
        )
        measure([*command, "collect", "bench", *where])
        rows["collect, nothing new"] = best(lambda: measure([*command, "collect", "bench", *where]))
        rows["status, all done"] = best(lambda: measure([*command, "status", "bench", *where]))
        write(sweep.summary, {**read_record(sweep.summary), "seeded": True})
        repeat_trials(sweep)
        rows["with seeds, first time"] = measure([*command, "collect", "bench", *where])
        rows["with seeds, written"] = best(
            lambda: measure([*command, "collect", "bench", *where]),
            lambda: os.remove(f"{sweep.cache}/leaderboard.json"),
        )
        _, env = queue_trials(folder, n_trials)
        rows["status, all queued"] = best(
            lambda: measure([*command, "status", "queued", *where], env)
        )
        n_calls = len(os.listdir(f"{folder}/slurm/calls"))
    print(f"{n_trials} trials, load average {os.getloadavg()[0]:.1f}; best of {N_RUNS}")
    for name, (wall_s, cpu_s, peak_gb) in rows.items():
        ratios = "".join(f"{cpu_s / plain[1]:7.2f} x" for plain in list(rows.values())[:2])
        print(f"{name:28}{wall_s:6.2f} s wall{cpu_s:6.2f} s cpu{ratios}{peak_gb:6.2f} GB")
    print(f"calls of squeue for {N_RUNS} times status: {n_calls}")


if __name__ == "__main__":
    main()

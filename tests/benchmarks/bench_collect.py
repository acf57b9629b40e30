"""Time collecting ten thousand finished trials, and plain ``json.loads`` of the same files.

Run by hand: ``python tests/benchmarks/bench_collect.py [N_TRIALS]``. Every collect is a fresh
process, imports included; the files are in the page cache. It prints; it asserts no times.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record

N_RUNS = 5
_READ = """
import json, os, sys
trials = sys.argv[1] + "/trials"
for name in os.listdir(trials):
    for file in ("params.json", "result.json", "attempts/1.json"):
        with open(f"{trials}/{name}/{file}", "rb") as handle:
            json.loads(handle.read())
"""
_COLLECT = """
import sys
from datetime import UTC, datetime
from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases.collect import collect
collection = collect(SweepPaths(sys.argv[1]), {}, {}, datetime.now(UTC))
assert collection.board.n_ranked == int(sys.argv[2]), collection.problems[:5]
"""


def make_sweep(root: str, n_trials: int) -> SweepPaths:
    """Write a sweep of finished trials, as the runtime leaves them."""
    sweep = SweepPaths(root)
    os.makedirs(sweep.trials)
    varying = ["learning_rate", "batch_size", "optimizer", "weight_decay", "n_layers"]
    summary = {
        "name": "bench",
        "metric": {"name": "val_loss", "goal": "minimize"},
        "parameters": varying,
        "seeded": False,
    }
    write(sweep.summary, summary)
    rng = random.Random(0)
    for number in range(n_trials):
        trial = sweep.trial(f"{number:05d}-{rng.getrandbits(40):010x}")
        os.makedirs(trial.attempts)
        os.mkdir(trial.checkpoints)
        write(
            trial.params,
            {
                "learning_rate": 10 ** rng.uniform(-5, -1),
                "batch_size": rng.choice([16, 32, 64, 128]),
                "optimizer": rng.choice(["adamw", "sgd", "lion"]),
                "weight_decay": rng.uniform(0, 0.1),
                "n_layers": rng.randint(2, 24),
                "epochs": 3,
            },
        )
        end = {
            "trial": trial.name,
            "attempt": 1,
            "node": f"node{number % 64:03d}",
            "boot_id": "6f2f0a1e-6c57-4a2e-9a52-0c6f1f6d3f11",
            "pid": 4242,
            "job_id": str(100_000 + number),
            "array_job_id": "100000",
            "array_task_id": number % 1000,
            "restart_count": 0,
            "token": "bench-20260101-ab12cd",
            "started_at": "2026-01-01T10:00:00.000Z",
            "started_unix": 1767261600.0,
            "claimed_unix": 1767261600.123,
            "resumes_from": None,
            "layout": "step",
            "resources": {
                "partition": "a100",
                "gpus": 1,
                "cpus": 8,
                "nodes": 1,
                "price_per_hour": 2.5,
                "currency": "EUR",
            },
            "ended_at": "2026-01-01T10:30:00.000Z",
            "wall_s": round(rng.uniform(600, 7200), 3),
            "start_up_s": round(rng.uniform(5, 20), 3),
            "outcome": records.COMMITTED,
            "exit_code": 0,
        }
        write(trial.attempt(1), end)
        result = {
            "trial": trial.name,
            "attempt": 1,
            "committed_at": end["ended_at"],
            "metrics": {
                "val_loss": rng.gauss(1, 0.2),
                "train_loss": rng.gauss(0.9, 0.2),
                "val_accuracy": rng.random(),
                "tokens_per_s": rng.uniform(1e4, 1e5),
            },
            "n_reports": 300,
            "last_step": 3000,
            "problems": [],
            "attempts": [end],
        }
        write(trial.result, result)
        with open(trial.log, "w", encoding="ascii") as log:
            log.write("step 1\nstep 2\ndone\n")
    return sweep


def write(path: str, record: dict[str, object]) -> None:
    """Write a record, not caring for crashes."""
    with open(path, "wb") as file:
        file.write(dump_record(record))


def seconds(code: str, *arguments: str) -> tuple[float, float]:
    """Run a fresh process; return its wall time and its processor time."""
    start = time.perf_counter()
    # Not subprocess.run with a timeout, which polls every 50 ms.
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Generate, measure, print."""
    n_trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="bench-collect-") as folder:
        sweep = make_sweep(folder + "/bench", n_trials)
        arguments = (sweep.root, str(n_trials))
        pandas = [seconds("import pandas") for _ in range(N_RUNS)]
        plain = [seconds(_READ, sweep.root) for _ in range(N_RUNS)]
        cold, warm = [], []
        for _ in range(N_RUNS):
            if os.path.exists(sweep.cache):
                shutil.rmtree(sweep.cache)
            cold.append(seconds(_COLLECT, *arguments))
        for _ in range(N_RUNS):
            warm.append(seconds(_COLLECT, *arguments))
        sizes = {
            extension: os.path.getsize(sweep.leaderboard(extension)) for extension in ("csv", "md")
        }
        cache_bytes = os.path.getsize(sweep.cache + "/trials.jsonl")
    print(f"{n_trials} trials; best of {N_RUNS} fresh processes, imports included")
    plain_s = min(plain)[0]
    for name, runs in (
        ("import pandas", pandas),
        ("json.loads alone", plain),
        ("collect, cold", cold),
        ("collect, warm", warm),
    ):
        wall_s, cpu_s = min(runs)[0], min(cpu for _, cpu in runs)
        print(f"{name:18}{wall_s:6.2f} s wall{cpu_s:6.2f} s cpu {wall_s / plain_s:5.1f} x json")
    print("bytes:", {**sizes, "cache": cache_bytes})


if __name__ == "__main__":
    main()

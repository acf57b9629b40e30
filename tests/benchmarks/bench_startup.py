"""Where the time of a plain trial goes up to its first step, and what is not imported for it.

Two trials of one step: one as it is, one that lets transformers import whatever is installed. Wall
and CPU seconds of each part; on a busy machine the CPU seconds are the ones to compare.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARGV = ["--max_steps=1", "--batch_size=8", "--seq_len=32", "--eval_steps=0"]
# Runs the trial and writes down when each part had ended.
PROGRAM = """
import json, os, sys, time
started, target, everything, argv = json.loads(sys.argv[1])
sys.path.insert(0, "train")
ends = []

def note(name):
    clock = os.times()
    ends.append((name, time.time() - started, clock.user + clock.system, len(sys.modules)))

def noting(owner, attribute, name, then=lambda: None):
    real = getattr(owner, attribute)
    def wrapped(*args, **kwargs):
        result = real(*args, **kwargs)
        note(name)
        then()
        return result
    setattr(owner, attribute, wrapped)

def watch_data():
    import data
    noting(data, "load_data", "load the data (cached)")

def watch_steps():
    import callbacks
    noting(callbacks.TrialCallback, "on_step_begin", "begin training")
    noting(callbacks.TrialCallback, "on_step_end", "first step")

import main
if everything:
    main._find_unused_packages = lambda arguments: []
note("start Python, check arguments")
noting(main, "_import_torch", "import torch", watch_data)
noting(main, "_import_trainer", "import transformers, trainer", watch_steps)
noting(main, "_set_up", "build model and trainer")
main.main(argv)
with open(target, "w") as file:
    json.dump(ends, file)
"""


def measure(folder: Path, number: int, everything: bool) -> list[tuple[str, float, float, int]]:
    """Run a trial; return the ends of its parts: name, wall and CPU seconds, modules."""
    target = folder / f"ends-{number}.json"
    environ = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TRAIN_CACHE": str(folder / "cache"),
        "TRIAL_METRICS": str(folder / f"metrics-{number}.jsonl"),
        "PYTHONPATH": str(ROOT),
    }
    argv = [*ARGV, f"--output_dir={folder / str(number)}"]
    options = [time.time(), str(target), everything, argv]
    subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(options)],
        cwd=ROOT,
        env=environ,
        check=True,
        capture_output=True,
        timeout=600,
    )
    return [tuple(end) for end in json.loads(target.read_text())]


def main() -> None:
    """Print both trials side by side, the quicker of two runs of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure(folder, 0, True)  # fills the caches
        runs = {
            everything: min(
                (measure(folder, 2 * number + everything, everything) for number in (1, 2)),
                key=lambda ends: ends[-1][2],
            )
            for everything in (False, True)
        }
    print(f"{'':<30}{'as it is':>24}{'all that is installed':>28}")
    print(f"{'':<30}" + "".join(f"{'wall s':>10}{'CPU s':>8}{'modules':>9}" for _ in runs))
    for number, (name, *_) in enumerate(runs[False]):
        line = f"{name:<30}"
        for ends in runs.values():
            before = ends[number - 1] if number else ("", 0.0, 0.0, 0)
            wall, cpu, modules = (ends[number][k] - before[k] for k in (1, 2, 3))
            line += f"{wall:>10.2f}{cpu:>8.2f}{modules:>9}"
        print(line)
    totals = "".join(f"{e[-1][1]:>10.2f}{e[-1][2]:>8.2f}{e[-1][3]:>9}" for e in runs.values())
    print(f"{'up to the end of step 1':<30}{totals}")


if __name__ == "__main__":
    main()

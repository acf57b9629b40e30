"""Render and submit 10,000 trials, against only writing the same files.

On the test cluster, as its ordinary user; the arrays are held at once, so that nothing runs. Both
are done in turn, three times.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

from tests.cluster.cluster import USER, Cluster
from tests.cluster.installation import reachable_installation

# Creating files costs several times more on a file system that has just grown; the best counts.
N_TURNS = 3
SPEC = """\
program: /bin/true
method: grid
metric: {name: loss, goal: minimize}
name: big
partition: spot
resources: {gpus: 1, cpus: 1, mem_gb: 0.1, time: 10, sbatch: {hold: }}
parameters:
  learning_rate: {min: 1e-5, max: 1e-3, n: 10, distribution: log_uniform_values}
  batch_size: [8, 16, 24, 32, 48, 64, 96, 128, 192, 256]
  weight_decay: {min: 0.0, max: 0.9, step: 0.1}
  warmup_steps: {min: 100, max: 1000, step: 100}
"""
REWRITE = """\
import os, sys, time
source, target = sys.argv[1:]
files = []
for folder, _, names in os.walk(source):
    for name in names:
        path = os.path.join(folder, name)
        files.append((os.path.relpath(path, source), open(path, "rb").read()))
began = time.perf_counter()
made = set()
for path, data in files:
    path = os.path.join(target, path)
    folder = os.path.dirname(path)
    if folder not in made:
        os.makedirs(folder)
        made.add(folder)
    with open(path, "wb") as file:
        file.write(data)
print(time.perf_counter() - began, len(files))
"""


def main() -> None:
    """Print both times and the number of sbatch calls."""
    cluster = Cluster()
    was_up = cluster.is_up()
    cluster.up()
    folder = Path(tempfile.mkdtemp(dir=cluster.root / "users"))
    folder.chmod(0o755)
    shutil.chown(folder, USER)
    try:
        with reachable_installation(cluster) as installation:
            (folder / "big.yaml").write_text(SPEC)
            (folder / "bin").mkdir()
            wrapper = folder / "bin" / "sbatch"
            wrapper.write_text(
                f'#!/bin/bash\necho call >> {folder}/calls\nexec {shutil.which("sbatch")} "$@"\n'
            )
            wrapper.chmod(0o755)
            (folder / "calls").touch()
            (folder / "calls").chmod(0o666)
            argv = [*installation.orchestrator, "submit", "big.yaml", "--cluster", "slurm"]
            environ = {"PATH": f"{folder}/bin:/usr/bin:/bin"}

            def seconds(words: list[str]) -> tuple[float, str]:
                began = time.perf_counter()
                done = cluster.run_as_user(
                    words, cwd=folder, env=environ, check=True, timeout_s=300
                )
                return time.perf_counter() - began, done.stdout

            submits, copies = [], []
            for turn in range(N_TURNS):
                took, answer = seconds([*argv, "--json", f"name=big{turn}"])
                submits.append(took)
                source = f"results/big{turn}/trials"
                copies.append(seconds(["python3", "-c", REWRITE, source, f"copy{turn}"])[1])
                cluster.cancel_all(timeout_s=120)
            again = seconds([*argv, f"name=big{N_TURNS - 1}"])[0]
        report = json.loads(answer)
        base = min(float(copy.split()[0]) for copy in copies)
        n_files = copies[0].split()[1]
        calls = len((folder / "calls").read_text().split())
        print(f"{report['submitted']} trials, {len(report['arrays'])} arrays; ", end="")
        print(f"{calls / N_TURNS:g} sbatch calls a submission")
        print(f"writing {n_files} files  {base:6.2f} s  {[copy.split()[0][:5] for copy in copies]}")
        ratio = min(submits) / base
        print(f"submit              {min(submits):6.2f} s  {ratio:5.2f} x  {submits}")
        pairs = zip(submits, copies, strict=True)
        print(f"ratio of each turn  {[round(s / float(c.split()[0]), 2) for s, c in pairs]}")
        print(f"submit again        {again:6.2f} s")
    finally:
        cluster.cancel_all(timeout_s=120)
        shutil.rmtree(folder, ignore_errors=True)
        if not was_up:
            cluster.down()


if __name__ == "__main__":
    main()

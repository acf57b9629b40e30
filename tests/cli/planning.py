"""A folder with a sweep, and ``orchestrator plan`` typed in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# The founding document's grid and cluster; 10,800 CNY / 5,184 GPU-hours.
SPEC = """\
program: train.sh
metric: {name: loss, goal: minimize}
resources: {gpus: 8, cpus: 8, mem_gb: 64, time: 4:00:00}
parameters:
  learning_rate: [1e-5, 3e-5, 5e-5]
  batch_size: [16, 32, 64]
  weight_decay: [0.01, 0.05, 0.1]
  warmup_steps: [100, 500, 1000]
  optimizer: [adamw, lamb]
"""
PROFILES = """\
spot:
  template: base.sbatch.j2
  nodes: 10
  gpus_per_node: 8
  cpus_per_node: 16
  mem_gb_per_node: 64
  price_per_gpu_hour: 2.0833
  currency: CNY
"""


def make_folder(tmp_path: Path) -> Path:
    """Make a folder with the founding document's sweep, and a partition for it."""
    home = tmp_path / "home"
    (home / "templates").mkdir(parents=True)
    (home / "templates/partitions.yaml").write_text(PROFILES)
    (home / "templates/base.sbatch.j2").write_text((ROOT / "templates/base.sbatch.j2").read_text())
    (home / "sweep.yaml").write_text(SPEC)
    (home / "train.sh").write_text('#!/bin/bash\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n')
    return home


def type_(folder: Path, *words: str, path: str = "") -> tuple[int, str, str]:
    nothing = folder.parent / "empty"
    nothing.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder,
        env={"PATH": path or str(nothing), "HOME": str(folder), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def read(folder: Path, *words: str, path: str = "", code: int = 0) -> dict[str, Any]:
    found, out, err = type_(folder, "plan", "--json", *words, path=path)
    assert found == code, out + err
    report: dict[str, Any] = json.loads(out)
    return report

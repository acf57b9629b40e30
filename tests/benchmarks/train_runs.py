"""Runs ``train/main.py`` for ``make bench-train``: each training in a process of its own.

So that peaks are its own. The process that starts them imports no torch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.train_levers import Lever, command_line
from tests.benchmarks.train_table import Measured

ROOT = Path(__file__).resolve().parents[2]
EXIT_MISTAKE = 2
_WORDS = ("river", "stone", "cloud", "lamp", "bread", "glass", "winter", "garden", "horse")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a training ended."""

    measured: Measured | None
    """None if it was refused or failed."""
    reason: str
    """Why it was not measured; the program's own last line."""
    is_final: bool
    """Whether it would end the same way with another seed: the program refused the arguments."""
    took_s: float
    """From start to end."""


def write_data(path: Path, n_rows: int, longest: int) -> None:
    """Write made-up dialogues of very different lengths (log-normal), the same ones each time.

    Args:
        path: A JSONL file.
        n_rows: Dialogues.
        longest: Roughly the longest in tokens, reached by few.
    """
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(n_rows):
            n_words = round(min(longest / 5, draw.lognormvariate(0, 0.8) * longest / 16)) + 1
            words = [draw.choice(_WORDS) for _ in range(n_words)]
            row = {
                "prompt": "Backwards: " + " ".join(words),
                "response": " ".join(reversed(words)),
            }
            file.write(json.dumps(row) + "\n")


def run_training(
    lever: Lever, base: dict[str, str], folder: Path, n_cores: int, timeout_s: float
) -> Ended:
    """Train once, in processes of their own, and read what was reported.

    Args:
        lever: What is added to the plain training.
        base: The plain training's arguments, seed included.
        folder: For this training alone; removed at the end.
        n_cores: Shared out among the ranks.
        timeout_s: Then it is killed.
    """
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "params.json").write_text("{}")
    environ = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("TRIAL_", "SLURM_"))},
        "TRIAL_DIR": str(folder),
        "TRIAL_PARAMS": str(folder / "params.json"),
        "TRIAL_METRICS": str(folder / "metrics.jsonl"),
        "TRIAL_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "TRAIN_CACHE": str(folder.parent / "cache"),
        "OMP_NUM_THREADS": str(max(1, n_cores // lever.n_ranks)),
        "PYTHONPATH": str(ROOT),
        # Of their own: in a shared one, the lock of a build that was killed is waited for for ever.
        "TORCH_EXTENSIONS_DIR": str(folder.parent / "extensions"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder.parent / "inductor"),
    }
    launcher = ["train/launch.py", f"--ranks={lever.n_ranks}"] if lever.n_ranks > 1 else []
    began = time.monotonic()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *launcher, "train/main.py", *command_line(base, lever)],
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    took_s = time.monotonic() - began
    text = (folder / "log").read_text(errors="replace")
    reports = read_reports(folder / "metrics.jsonl")
    shutil.rmtree(folder)
    if code == 0:
        return Ended(measure(reports), "", False, took_s)
    if code is None:
        return Ended(None, f"did not end within {timeout_s:.0f} s", True, took_s)
    return Ended(None, last_words(text, code), code == EXIT_MISTAKE, took_s)


def read_reports(path: Path) -> list[dict[str, float]]:
    """Read a metrics file, empty if there is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def measure(reports: list[dict[str, float]]) -> Measured:
    """Take the later half of the steps, after compiling and warming up, and the end."""
    speeds = [line["current_tokens_per_second"] for line in reports if "train_loss" in line]
    last = {name: value for line in reports for name, value in line.items()}
    return Measured(
        tokens_per_second=statistics.median(speeds[len(speeds) // 2 :]),
        peak_memory_gb=last.get("peak_gpu_memory_gb", last["peak_host_memory_gb"]),
        final_loss=last["eval_loss"],
    )


def last_words(log: str, code: int) -> str:
    """Find the line of a log that says why a program ended."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("train/main.py: ")]
    errors = [line for line in lines if "Error" in line or "out of memory" in line]
    chosen = (own or errors or lines or ["no output"])[-1].removeprefix("train/main.py: ")
    return chosen[:300] if code == EXIT_MISTAKE else f"exit code {code}: {chosen[:300]}"

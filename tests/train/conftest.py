"""Runs ``train/main.py`` as trials: in this process, or as a program that gets real signals."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from orchestrator.runtime.program import descendants

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "train"))  # as for `python train/main.py`

# A training that takes a second: every step count is off the others' beat.
QUICK = {
    "batch_size": 8,
    "max_steps": 40,
    "warmup_steps": 4,
    "logging_steps": 7,
    "eval_steps": 15,
    "save_steps": 10,
    "learning_rate": 1e-3,
    "seq_len": 32,
    "eval_batch_size": 128,
}
# Put into a trial's Python: from the report of a step on every step takes long, so that the test
# catches the program in its midst however long it takes itself.
SLOW = """\
import os, time
from orchestrator.runtime import session
report, should_stop = session.report, session.should_stop
seen = []

def report_and_note(step=None, **metrics):
    report(step, **metrics)
    if step is not None and step >= int(os.environ["SLOW_AFTER"]):
        seen.append(step)

def should_stop_later():
    time.sleep(0.3 if seen else 0)
    return should_stop()

session.report, session.should_stop = report_and_note, should_stop_later
"""
SPEEDS = {"tokens_per_second", "achieved_tflops", "mfu"}
PEAKS = {"peak_memory_gb", "peak_host_memory_gb", "peak_gpu_memory_gb", "gpu_utilization_percent"}
PHASES = {"time_data_s", "time_compute_s", "time_checkpoint_s", "time_evaluation_s"}
TIMINGS = {
    *SPEEDS,
    *(f"current_{name}" for name in SPEEDS),
    *PEAKS,
    *PHASES,
    "run_time_s",
    "startup_time_s",
    "startup_total_s",
}


@dataclasses.dataclass
class Trial:
    """A trial's directory as the orchestrator lays it out, and its attempts."""

    root: Path
    environ: dict
    arguments: dict
    attempt: int = 0

    @property
    def checkpoints(self):
        return self.root / "checkpoints"

    @property
    def metrics_file(self):
        return self.root / "metrics.jsonl"

    def metrics(self):
        if not self.metrics_file.exists():
            return []
        text = self.metrics_file.read_bytes().decode()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def curve(self):
        """All reports, without the measurements that no two runs share."""
        return [{k: v for k, v in line.items() if k not in TIMINGS} for line in self.metrics()]

    def last(self):
        return {key: value for line in self.metrics() for key, value in line.items()}

    def command(self):
        return [f"--{key}={value}" for key, value in self.arguments.items()]

    def start(self, *launcher, slow_after=None, **environ):
        """Start the next attempt, slow after a step; its output goes to ``log-<attempt>``."""
        self.attempt += 1
        if slow_after is not None:
            (self.root / "slow").mkdir(exist_ok=True)
            (self.root / "slow" / "sitecustomize.py").write_text(SLOW)
            environ["SLOW_AFTER"] = str(slow_after)
            environ["PYTHONPATH"] = f"{self.root / 'slow'}:{self.environ['PYTHONPATH']}"
        environ = {**self.environ, "TRIAL_ATTEMPT": str(self.attempt), **environ}
        launcher = launcher or (sys.executable,)
        with open(self.root / f"log-{self.attempt}", "wb") as log:
            return subprocess.Popen(
                [*launcher, "train/main.py", *self.command()],
                cwd=ROOT,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self):
        return (self.root / f"log-{self.attempt}").read_text()

    def run(self, *launcher):
        code = self.start(*launcher).wait(timeout=400)
        assert code == 0, self.log()
        return self

    def wait_for_step(self, process, step):
        """Wait until the running attempt has reported ``step`` or a later one."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if any(line.get("step", 0) >= step for line in self.metrics()):
                return
            assert process.poll() is None, self.log()
            time.sleep(0.005)
        for pid in (process.pid, *descendants(process.pid)):
            os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"step {step} did not come\n{self.log()}")

    def steps_saved(self):
        names = (path.name for path in self.checkpoints.glob("checkpoint-*"))
        return sorted(int(name.partition("-")[2]) for name in names)

    def weights(self):
        newest = self.steps_saved()[-1]
        return (self.checkpoints / f"checkpoint-{newest}" / "model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("train-cache")


@pytest.fixture
def make_trial(tmp_path, cache_dir):
    """Make trials; keyword arguments replace those of ``QUICK``."""

    def make(name, **arguments):
        root = tmp_path / name
        (root / "checkpoints").mkdir(parents=True)
        (root / "params.json").write_text(json.dumps(arguments))
        extensions = Path(tempfile.gettempdir()) / f"torch-extensions-{os.getuid()}"
        environ = {
            **os.environ,
            "TRIAL_DIR": str(root),
            "TRIAL_PARAMS": str(root / "params.json"),
            "TRIAL_METRICS": str(root / "metrics.jsonl"),
            "TRIAL_CHECKPOINT_DIR": str(root / "checkpoints"),
            "TRIAL_NUMBER": "0",
            "TRIAL_SEED": "3",
            "TRAIN_CACHE": str(cache_dir),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            # DeepSpeed compiles an operation on first use (30 s); keep it between runs.
            "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", str(extensions)),
        }
        return Trial(root, environ, {**QUICK, **arguments})

    return make


@pytest.fixture
def train_here(make_trial, monkeypatch):
    """Train in this process: no start-up, but no signals either."""

    def train(name, **arguments):
        import main
        import torch
        from arguments import parse_arguments

        trial = make_trial(name, **arguments)
        for key, value in {**trial.environ, "TRIAL_ATTEMPT": "1"}.items():
            monkeypatch.setenv(key, value)
        threads = torch.get_num_threads()
        try:
            main._train(main._complete(parse_arguments(trial.command())))
        finally:
            torch.set_num_threads(threads)
        return trial

    return train

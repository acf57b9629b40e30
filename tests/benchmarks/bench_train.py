"""``make bench-train``: what each lever of training gives, alone and all together.

Every lever is a real training by ``train/main.py`` with the same effective batch, data, steps and
seeds as the plain fp32 training, which runs in every round too: a round is all levers with one
seed, each in a process of its own, so that a noisy machine hits them alike, and ratios are taken
within a round. What a machine does not have is listed with the program's own reason. Where the
time does not suffice for all seeds, the table says how many there were.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.train_levers import (
    PLAIN,
    PLAIN_ARGUMENTS,
    Lever,
    all_together,
    levers,
)
from tests.benchmarks.train_runs import ROOT, Ended, run_training, write_data
from tests.benchmarks.train_table import Measured, compare, render

RESULTS = Path(__file__).parent / "RESULTS.md"
_PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "peft", "bitsandbytes")
_ASK_TORCH = """\
import json, torch
n = torch.cuda.device_count()
print(json.dumps([torch.cuda.get_device_name(0) if n else "", n, torch.version.cuda or ""]))
"""


@dataclasses.dataclass(frozen=True)
class Machine:
    """What it runs on."""

    gpu: str
    """Name of the first GPU; empty without one."""
    n_gpus: int
    cuda: str
    cpu: str
    n_cores: int
    """That this process may use."""

    def words(self) -> str:
        """Describe it in a line."""
        gpus = f"{self.n_gpus} x {self.gpu}, CUDA {self.cuda}" if self.n_gpus else "no GPU"
        return f"{self.cpu}, {self.n_cores} cores, {gpus}"


def load_at(when: str) -> str:
    """Say how busy the machine is, with the bench itself: others' work is noise in the table."""
    return f"load average at the {when} {os.getloadavg()[0]:.1f}"


def inspect_machine() -> Machine:
    """Ask torch, in another process: this one shall stay small."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH], check=True, capture_output=True, text=True, timeout=300
    )
    gpu, n_gpus, cuda = json.loads(done.stdout.splitlines()[-1])
    return Machine(gpu, n_gpus, cuda, _cpu_name(), len(os.sched_getaffinity(0)))


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def parse(argv: list[str], machine: Machine) -> argparse.Namespace:
    """Read the command line; defaults depend on whether there is a GPU."""
    has_gpu = machine.n_gpus > 0
    parser = argparse.ArgumentParser(prog="make bench-train", description=__doc__)
    add = parser.add_argument
    add("--model", default="llama-1b" if has_gpu else "small-llama", help="as in train/main.py")
    add("--seq-len", type=int, default=1024 if has_gpu else 128)
    add("--batch-size", type=int, default=8, help="effective, the same for all")
    add("--steps", type=int, default=24 if has_gpu else 48)
    add("--seeds", type=int, default=3)
    add("--minutes", type=float, default=60 if has_gpu else 9.5, help="then no training starts")
    add("--only", default="", help="names of levers, by commas; the plain training always runs")
    add("--quick", action="store_true", help="a minute: few levers, a tiny model, one seed")
    add("--record", action="store_true", help=f"write the table into {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args(argv)
    if options.quick:
        options.model, options.seq_len, options.batch_size = "tiny-llama", 32, 8
        options.steps, options.seeds = 6, 1
        options.only = options.only or "bf16,fp16,accumulation,gradient checkpointing"
    return options


@dataclasses.dataclass
class Bench:
    """The measurements so far."""

    options: argparse.Namespace
    machine: Machine
    folder: Path
    load: str = dataclasses.field(default_factory=lambda: load_at("begin"))
    began: float = dataclasses.field(default_factory=time.monotonic)
    measured: dict[str, dict[int, Measured]] = dataclasses.field(default_factory=dict)
    """By lever and seed."""
    not_measured: dict[str, str] = dataclasses.field(default_factory=dict)
    took_s: dict[str, float] = dataclasses.field(default_factory=dict)

    def run(self) -> None:
        """Run all rounds."""
        wanted = [word for word in self.options.only.split(",") if word]
        micro = max(1, self.options.batch_size // 4)
        singles = levers(micro, has_gpu=self.machine.n_gpus > 0)
        if wanted:
            singles = [lever for lever in singles if lever.name in wanted]
        write_data(self.folder / "data.jsonl", self._n_rows(), self.options.seq_len)
        # Not counted: it builds the cache of the data and brings files into memory.
        self._train(Lever("warm-up", {"max_steps": "2"}), seed=0)
        plain = Lever(PLAIN, {})
        together: list[Lever] = []
        for seed in range(self.options.seeds):
            # Another order in each round, so that none always follows the same one.
            todo = singles[seed:] + singles[:seed]
            for lever in [plain, *todo, *together]:
                self._measure(lever, seed)
            if not together:
                together = all_together(singles, self.measured.keys())
                for lever in together:
                    self._measure(lever, seed)

    def _n_rows(self) -> int:
        # Some passes; enough to evaluate on.
        return max(200, self.options.steps * self.options.batch_size)

    def _measure(self, lever: Lever, seed: int) -> None:
        if lever.name in self.not_measured:
            return
        if lever.n_ranks > max(1, self.machine.n_gpus) and self.machine.n_gpus:
            self.not_measured[lever.name] = f"needs {lever.n_ranks} GPUs, here is one"
            return
        left_s = self.options.minutes * 60 - (time.monotonic() - self.began)
        expected_s = self.took_s.get(lever.name, self.took_s.get(PLAIN, 0))
        if left_s < expected_s:
            if lever.name not in self.measured:
                self.not_measured[lever.name] = "the time was up (--minutes)"
            return
        # A quarter of all the time at most, so that one that hangs does not take the others'.
        timeout_s = max(min(left_s, self.options.minutes * 60 / 4), 10.0)
        ended = self._train(lever, seed, timeout_s)
        self.took_s[lever.name] = ended.took_s
        if ended.measured:
            self.measured.setdefault(lever.name, {})[seed] = ended.measured
            say = f"{ended.measured.tokens_per_second:.0f} tokens/s"
        else:
            say = ended.reason
            if ended.is_final or lever.name not in self.measured:
                self.not_measured[lever.name] = ended.reason
        sys.stderr.write(f"seed {seed}, {lever.name}: {say} ({ended.took_s:.0f} s)\n")

    def _train(self, lever: Lever, seed: int, timeout_s: float = 600.0) -> Ended:
        options = self.options
        base = {
            **PLAIN_ARGUMENTS,
            "model": options.model,
            "data": str(self.folder / "data.jsonl"),
            "seq_len": str(options.seq_len),
            "batch_size": str(options.batch_size),
            "max_steps": str(options.steps),
            "warmup_steps": "2",
            "learning_rate": "1e-3" if options.model != "llama-1b" else "1e-4",
            "logging_steps": "1",
            "eval_steps": "0",
            "eval_batch_size": str(options.batch_size),
            "save_steps": "0",
            "seed": str(seed),
        }
        return run_training(lever, base, self.folder / "run", self.machine.n_cores, timeout_s)

    def report(self) -> list[str]:
        """Write table, hardware and versions as Markdown."""
        options, plain = self.options, self.measured.get(PLAIN, {})
        if not plain:
            return [f"The plain training failed: {self.not_measured.get(PLAIN, 'no time')}"]
        rows = [compare(name, by_seed, plain) for name, by_seed in self.measured.items()]
        one = plain[min(plain)]
        memory = "GPU memory" if self.machine.n_gpus else "resident memory, libraries included"
        versions = ", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES if _is_there(name)
        )
        return [
            f"{self.machine.words()}; {self.load}, {load_at('end')}; Python "
            f"{platform.python_version()}, {versions}.",
            "",
            f"Model {options.model}, effective batch {options.batch_size} sequences of up to "
            f"{options.seq_len} tokens for every lever, {options.steps} steps, seeds "
            f"{', '.join(map(str, sorted(plain)))}. Throughput: tokens without padding, median of "
            f"the later half of the steps, as a multiple of the plain training of the same seed "
            f"and round ({one.tokens_per_second:.0f} tokens/s with seed {min(plain)}); the median "
            f"over seeds, then the smallest and the largest. Peak: {memory}, of the largest rank "
            f"(plain: {one.peak_memory_gb:.2f} GiB). Loss: on held-out data at the end, less the "
            "plain training's of the same seed, mean ± standard deviation over seeds.",
            "",
            *render([row for row in rows if row], self.not_measured),
            "",
            *self._parts(),
        ]

    def _parts(self) -> list[str]:
        singles = levers(max(1, self.options.batch_size // 4), has_gpu=self.machine.n_gpus > 0)
        combined = all_together(singles, self.measured.keys())
        return [
            f"*{lever.name}*: `{' '.join(f'--{k}={v}' for k, v in lever.arguments.items())}`"
            for lever in combined
            if lever.name in self.measured
        ]


def _is_there(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def record(lines: list[str], *, kind: str) -> None:
    """Replace the part of ``RESULTS.md`` between the marks of this kind of machine."""
    begin, end = f"<!-- train {kind} -->", f"<!-- end of train {kind} -->"
    text = RESULTS.read_text()
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    RESULTS.write_text("\n".join([before + begin, "", *lines, "", end + after]))


def main(argv: list[str]) -> int:
    """Measure and print; exit code 1 if the plain training failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the training that runs, too
    machine = inspect_machine()
    options = parse(argv, machine)
    folder = Path(tempfile.mkdtemp(prefix="bench-train-"))
    try:
        bench = Bench(options, machine, folder)
        bench.run()
        lines = bench.report()
        print("\n".join(lines))
        if options.record:
            record(lines, kind="GPU" if machine.n_gpus else "CPU")
        return 0 if PLAIN in bench.measured else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

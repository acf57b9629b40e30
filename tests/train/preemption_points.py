"""Interrupts trainings at random points with real signals, and compares their ends to the bit.

    python -m tests.train.preemption_points --kind plain --n 20 --seed 1

A *kind* is a plain training, DeepSpeed's ZeRO-2 on two ranks, or LoRA. Arguments are drawn; a
training runs through once, noting the *ticks* it passes (a micro-batch, the end of a step, a batch
of an evaluation, each stage of a save, parts of the start-up). Then trainings with the same
arguments are interrupted: at a drawn tick the process signals itself (SIGUSR2, SIGTERM, SIGKILL;
of two ranks one or both), or the signal comes from outside at a drawn instant. One in three is
interrupted again when it resumes. Each goes on until it ends; then the weights of its last
checkpoint and its reports must be those of the training that ran through, bit by bit.

Attempts are forks of one warm process that has imported torch and never computed anything, so an
attempt costs a second or two; what differs from ``python train/main.py`` is the import alone.
Points depend on the seed, but for instants and for what the kernel's scheduler decides. Threads: 1.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import gc
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.train.conftest import ROOT, TIMINGS

KINDS = ("plain", "zero2", "lora")
POINTS_PER_TRAINING = 5
ATTEMPT_TIMEOUT_S = 600
MAX_ATTEMPTS = 8
EXIT_CHECKPOINTED = 75
SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGKILL)


class PointFailed(Exception):
    """A training did not end, or not as the one that ran through; the text says where."""


@dataclasses.dataclass(frozen=True)
class Point:
    """Where and how to interrupt."""

    signum: int
    tick: int | None
    """The so-manyth tick of this rank; None: by the clock."""
    delay_s: float
    """By the clock: seconds after the start."""
    rank: int
    is_for_all: bool
    """Whether all ranks get the signal."""
    name: str
    """For people."""


@dataclasses.dataclass
class Training:
    """One training's directory and attempts."""

    root: Path
    arguments: dict[str, Any]
    n_ranks: int
    cache: Path
    attempt: int = 0

    def run(self, point: Point | None) -> list[int]:
        """Run one attempt; return the exit codes of its ranks, minus the signal if killed."""
        self.attempt += 1
        self.root.joinpath("checkpoints").mkdir(parents=True, exist_ok=True)
        port = _free_port()
        began = time.monotonic()
        pids: list[int] = []
        for rank in range(self.n_ranks):
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                self._become(rank, port, point)
            os.setpgid(pid, pids[0] if pids else pid)
            pids.append(pid)
        return _wait(pids, point, began)

    def _become(self, rank: int, port: int, point: Point | None) -> None:
        """Be this rank of the program; never returns."""
        code = 1
        try:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(self._environment(rank, port))
            noted = self.root / "ticks" if point is None and rank == 0 else None
            _install_ticks(point if point and point.rank == rank else None, noted)
            import main

            main.main([f"--{name}={value}" for name, value in self.arguments.items()])
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _environment(self, rank: int, port: int) -> dict[str, str]:
        environ = {
            "TRIAL_DIR": str(self.root.parent / "trial"),  # of one name: copies of one trial
            "TRIAL_METRICS": str(self.root / "metrics.jsonl"),
            "TRIAL_CHECKPOINT_DIR": str(self.root / "checkpoints"),
            "TRIAL_ATTEMPT": str(self.attempt),
            "TRIAL_SEED": "3",
            "TRAIN_CACHE": str(self.cache),
        }
        if self.n_ranks > 1:
            environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
            environ |= {"WORLD_SIZE": str(self.n_ranks), "LOCAL_WORLD_SIZE": str(self.n_ranks)}
            environ |= {"MASTER_ADDR": "127.0.0.1"}
        return environ

    @property
    def log(self) -> Path:
        """What the newest attempt wrote."""
        return self.root / f"log-{self.attempt}"

    def end(self) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
        """Read what counts: weights of the newest checkpoint, and all reports but measurements."""
        newest = max(self.root.glob("checkpoints/checkpoint-*"), key=lambda p: int(p.name[11:]))
        weights = {path.name: path.read_bytes() for path in newest.glob("*.safetensors")}
        lines = [json.loads(line) for line in self.root.joinpath("metrics.jsonl").open()]
        return weights, [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def _wait(pids: list[int], point: Point | None, began: float) -> list[int]:
    """Wait for all ranks, signal by the clock, and end those whose fellow was killed."""
    codes: dict[int, int] = {}
    is_due = point is not None and point.tick is None
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    codes[pid] = os.waitstatus_to_exitcode(status)
        running = [pid for pid in pids if pid not in codes]
        elapsed = time.monotonic() - began
        if is_due and point is not None and elapsed >= point.delay_s:
            is_due = False
            for pid in running if point.is_for_all else running[:1]:
                os.kill(pid, point.signum)
        was_killed = any(code not in (0, EXIT_CHECKPOINTED) for code in codes.values())
        if was_killed or elapsed > ATTEMPT_TIMEOUT_S:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return [codes[pid] for pid in pids]


def _install_ticks(point: Point | None, noted: Path | None) -> None:
    """Count the ticks of this process: note them, or send the signal at one of them."""
    count = 0
    file = open(noted, "w") if noted else None  # noqa: SIM115 (open until the process ends)

    def tick(name: str) -> None:
        nonlocal count
        count += 1
        if file:
            file.write(name + "\n")
            file.flush()
        if point is not None and count == point.tick:
            # To one's own process group, which are the ranks, or to oneself.
            os.kill(0 if point.is_for_all else os.getpid(), point.signum)

    def before_and_after(owner: Any, attribute: str, name: str) -> None:
        real = getattr(owner, attribute)

        def ticking(*args: Any, **kwargs: Any) -> Any:
            tick(name)
            result = real(*args, **kwargs)
            tick(name)
            return result

        setattr(owner, attribute, ticking)

    import callbacks
    import data
    import models
    import resuming
    import sft
    import trainer

    from orchestrator.runtime import failpoint, session

    before_and_after(data, "load_data", "start-up")
    before_and_after(models, "build_model", "start-up")
    before_and_after(resuming, "choose_checkpoint", "start-up")
    before_and_after(trainer.TrialTrainer, "resume", "start-up")
    before_and_after(trainer.TrialTrainer, "begin", "start-up")
    before_and_after(trainer.TrialTrainer, "training_step", "step")
    before_and_after(callbacks.TrialCallback, "on_step_end", "between steps")
    before_and_after(sft.DialogueTask, "measure", "evaluation")
    before_and_after(session, "report", "report")
    before_and_after(trainer.TrialTrainer, "_save_checkpoint", "save")
    failpoint.reach = lambda name: tick("save")


def draw_arguments(kind: str, rng: random.Random) -> dict[str, Any]:
    """Draw a training that takes a second: its windows are off each other's beat."""
    arguments = {
        "batch_size": 8,
        "max_steps": rng.randint(14, 26),
        "warmup_steps": rng.randint(1, 5),
        "logging_steps": rng.randint(2, 7),
        "eval_steps": rng.randint(4, 9),
        "save_steps": rng.randint(3, 8),
        "keep_checkpoints": rng.randint(2, 3),
        "learning_rate": 1e-3,
        "seq_len": 32,
        "eval_batch_size": 32,
        "attention_dropout": rng.choice([0.0, 0.1]),
        "gradient_accumulation_steps": rng.choice([1, 2, 4]),
        "optimizer": rng.choice(["adamw", "lamb"]),
        "lr_schedule": rng.choice(["linear", "cosine"]),
        "model": rng.choice(["tiny-deepseek", "tiny-llama"]),
    }
    if kind == "zero2":
        arguments["deepspeed"] = "train/deepspeed/zero2.json"
    if kind == "lora":
        arguments |= {"finetuning": "lora", "model": "tiny-llama", "optimizer": "adamw"}
    return arguments


def draw_point(ticks: Sequence[str], took_s: float, n_ranks: int, rng: random.Random) -> Point:
    """Draw a point: each name of a tick, and the clock, as often."""
    by_name = collections.defaultdict(list)
    for number, name in enumerate(ticks, 1):
        by_name[name].append(number)
    name = rng.choice([*sorted(by_name), "instant"])
    signum = rng.choice(SIGNALS)
    return Point(
        signum=signum,
        tick=rng.choice(by_name[name]) if name in by_name else None,
        delay_s=rng.uniform(0, took_s),
        rank=rng.randrange(n_ranks),
        is_for_all=rng.random() < 0.5,
        name=f"{signal.Signals(signum).name} in {name}"
        if name != "instant"
        else f"{signal.Signals(signum).name} at an instant",
    )


def check_point(whole: Training, cut: Training, points: list[Point]) -> int:
    """Interrupt at each point in turn, go on to the end, compare; return the attempts it took.

    Raises:
        PointFailed: It did not end well, or ended differently.
    """
    story = []
    for number in range(MAX_ATTEMPTS):
        point = points[number] if number < len(points) else None
        codes = cut.run(point)
        story.append(f"{point.name if point else 'no signal'} -> {codes}")
        may_die = point is not None and any(code < 0 for code in codes)
        if all(code == 0 for code in codes):
            break
        if not may_die and any(code not in (0, EXIT_CHECKPOINTED) for code in codes):
            raise PointFailed(f"{cut.root}: {'; '.join(story)}\n{cut.log.read_text()[-3000:]}")
    else:
        raise PointFailed(f"{cut.root}: no end: {'; '.join(story)}")
    weights, reports = whole.end()
    its_weights, its_reports = cut.end()
    if not weights or its_weights != weights:
        raise PointFailed(f"{cut.root}: other weights than {whole.root}: {'; '.join(story)}")
    if its_reports != reports:
        raise PointFailed(f"{cut.root}: other reports than {whole.root}: {'; '.join(story)}")
    return cut.attempt


def check_kind(kind: str, n_points: int, seed: int, base: Path) -> None:
    """Check so many points of a kind, and print what was done.

    Raises:
        PointFailed: See ``check_point``; the folder is kept.
    """
    n_ranks = 2 if kind == "zero2" else 1
    rng = random.Random(f"{kind} {seed}")
    names: collections.Counter[str] = collections.Counter()
    n_attempts, began = 0, time.monotonic()
    whole, ticks, took_s = None, [], 0.0
    for number in range(n_points):
        if whole is None or number % POINTS_PER_TRAINING == 0:
            arguments = draw_arguments(kind, rng)
            whole = Training(base / f"{kind}-{number}-whole", arguments, n_ranks, base / "cache")
            started = time.monotonic()
            codes = whole.run(None)
            took_s = time.monotonic() - started
            if any(codes):
                raise PointFailed(f"{whole.root}: {codes}\n{whole.log.read_text()[-3000:]}")
            ticks = whole.root.joinpath("ticks").read_text().splitlines()
        points = [draw_point(ticks, took_s, n_ranks, rng)]
        if rng.random() < 1 / 3:
            points.append(draw_point(ticks, took_s, n_ranks, rng))
        cut = Training(base / f"{kind}-{number}", whole.arguments, n_ranks, base / "cache")
        n_attempts += check_point(whole, cut, points)
        names.update(point.name for point in points)
        shutil.rmtree(cut.root)
    print(
        f"{kind}: {n_points} of {n_points} points end bit-identical (seed {seed}): "
        f"{n_attempts} attempts, {time.monotonic() - began:.0f} s; "
        + ", ".join(f"{count} x {name}" for name, count in sorted(names.items())),
        flush=True,
    )


def warm_up(kind: str) -> None:
    """Import what the kind needs, once for all attempts, and compute nothing."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    sys.path.insert(0, str(ROOT / "train"))
    os.chdir(ROOT)
    import main
    from arguments import parse_arguments

    drawn = draw_arguments(kind, random.Random(0))
    arguments = parse_arguments([f"--{name}={value}" for name, value in drawn.items()])
    main._hide_unused_packages(arguments)
    main._import_torch(arguments)
    main._import_trainer()
    if kind == "zero2":
        import deepspeed  # noqa: F401
    gc.collect()
    gc.freeze()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(argv: Sequence[str]) -> int:
    """Check points of one kind; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--n", type=int, default=20, help="points")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    # Where fsync costs nothing; a killed process's files survive there as well.
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base = Path(tempfile.mkdtemp(prefix="preemption-points-", dir=fast))
    warm_up(options.kind)
    try:
        check_kind(options.kind, options.n, options.seed, base)
    except PointFailed as error:
        sys.stderr.write(f"seed {options.seed}: {error}\n")
        return 1
    shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

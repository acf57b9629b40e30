"""A made-up sweep as a spot partition leaves it: preemptions, failures, curves, some to come.

``make_sample_sweep`` writes the tree that the runtime would, from a simulated queue of a few slots:
the founding grid of 162 configurations with three seeds by default, or as many random trials as
asked for. Same arguments, same tree but for times, which end at ``end_s``. For tests and benchmarks
of what reads a sweep; runs no program.
"""

from __future__ import annotations

import bisect
import hashlib
import heapq
import itertools
import json
import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from tests.trial_writer import write

METRIC = "eval_perplexity"
TOKEN = "sample-20260101-ab12cd"
_GRID = {
    "learning_rate": [1e-5, 3e-5, 5e-5],
    "batch_size": [16, 32, 64],
    "weight_decay": [0.01, 0.05, 0.1],
    "warmup_steps": [100, 500, 1000],
    "optimizer": ["adamw", "lamb"],
}
_CONSTANTS = {"model": "tiny-deepseek", "max_steps": 2000}
_TRACEBACK = """Traceback (most recent call last):
  File "train/main.py", line 272, in <module>
    main()
  File "train/trainer.py", line 141, in training_step
    raise {error}
{error}
"""
_FAILURES = {
    "cuda_oom": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB",
    "non_finite": "FloatingPointError: loss is nan at step {step}",
    "error": "RuntimeError: DataLoader worker (pid 4711) exited unexpectedly",
}


def grid() -> list[dict[str, Any]]:
    """The founding grid: 162 configurations."""
    return [dict(zip(_GRID, values, strict=True)) for values in itertools.product(*_GRID.values())]


def random_points(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw configurations as ``method: random`` does, from wider ranges."""
    rng = random.Random(seed)
    return [
        {
            "learning_rate": 10 ** rng.uniform(-6, -3),
            "batch_size": rng.choice([16, 32, 64, 128]),
            "weight_decay": 10 ** rng.uniform(-3, -0.5),
            "warmup_steps": rng.randrange(0, 1001),
            "dropout": rng.uniform(0, 0.3),
            "optimizer": rng.choice(["adamw", "lamb", "lion"]),
        }
        for _ in range(n)
    ]


@dataclass
class _Trial:
    """A trial on its way through the simulated queue."""

    number: int
    params: dict[str, Any]
    name: str = ""
    done_h: float = 0.0  # hours of work that a checkpoint holds
    attempts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        text = json.dumps(self.params, sort_keys=True)
        self.name = f"{self.number:05d}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def make_sample_sweep(
    root: str,
    *,
    end_s: float,
    points: Sequence[Mapping[str, Any]] | None = None,
    n_seeds: int = 3,
    n_slots: int = 12,
    n_reports: int = 40,
    n_unfinished: int = 9,
    rng_seed: int = 7,
) -> SweepPaths:
    """Write a sample sweep's folder.

    Args:
        root: The sweep's folder; its last part is the name.
        end_s: Unix time at which the story stops; what runs then has its last heartbeat there.
        points: Configurations; None: the founding grid.
        n_seeds: Repeats of each; 1: no seeds.
        n_slots: Trials at a time.
        n_reports: Lines of each whole ``metrics.jsonl``.
        n_unfinished: About so many of the last trials wait or run at the end.
        rng_seed: Of every made-up number.
    """
    sweep = SweepPaths(root)
    os.makedirs(sweep.trials)
    configurations = grid() if points is None else [dict(point) for point in points]
    summary = {
        "name": sweep.name,
        "metric": {"name": METRIC, "goal": "minimize"},
        "parameters": list(configurations[0]),
        "seeded": n_seeds > 1,
    }
    write(sweep.summary, dump_record(summary))
    seeds: Iterable[dict[str, Any]] = (
        [{}] if n_seeds == 1 else [{"seed": s} for s in range(n_seeds)]
    )
    trials = [
        _Trial(number, {**point, **_CONSTANTS, **seed})
        for number, (point, seed) in enumerate(itertools.product(configurations, seeds))
    ]
    story = _Story(random.Random(rng_seed), n_slots, n_reports)
    story.run(trials, stop_after=len(trials) - n_unfinished)
    for trial in trials:
        _write_trial(sweep, trial, story, end_s - story.now_h * 3600)
    intent = {
        "at": _iso(end_s - story.now_h * 3600 - 60),
        "kind": "intent",
        "token": TOKEN,
        "executor": "local",
        "trials": [trial.name for trial in trials if trial.attempts],  # the others are new
        "partition": "spot",
        "gpus": 1,
    }
    write(sweep.journal, dump_record(intent))
    return sweep


class _Story:
    """What happens to the trials, hour by hour."""

    def __init__(self, rng: random.Random, n_slots: int, n_reports: int):
        self.rng, self.n_slots, self.n_reports = rng, n_slots, n_reports
        self.now_h = 0.0

    def run(self, trials: Sequence[_Trial], stop_after: int) -> None:
        """Give trials to slots until so many have ended, then cut what still runs."""
        waiting = [(trial.number, 0.0, trial) for trial in trials]  # by priority: the older first
        free = [(0.0, slot) for slot in range(self.n_slots)]
        n_ended, ends_h = 0, []
        while waiting and n_ended < stop_after:
            free_h, slot = heapq.heappop(free)
            is_ready = [entry for entry in waiting[: 5 * self.n_slots] if entry[1] <= free_h]
            number, ready_h, trial = is_ready[0] if is_ready else min(waiting, key=lambda e: e[1])
            waiting.remove((number, ready_h, trial))
            start_h = max(free_h, ready_h) + self.rng.uniform(0.003, 0.02)
            attempt = self._attempt(trial, start_h, slot)
            trial.attempts.append(attempt)
            heapq.heappush(free, (attempt["end_h"], slot))
            if attempt["outcome"] in (records.PREEMPTED, None):
                again_h = attempt["end_h"] + self.rng.uniform(0.04, 0.3)
                bisect.insort(waiting, (number, again_h, trial))
            else:
                n_ended += 1
                ends_h.append(attempt["end_h"])
        self.now_h = sorted(ends_h)[-self.n_slots]  # the last ones still run then
        for trial in trials:
            trial.attempts = [a for a in trial.attempts if a["start_h"] < self.now_h]
            last = trial.attempts[-1] if trial.attempts else None
            if last is not None and last["end_h"] > self.now_h:
                ran = (self.now_h - last["start_h"]) / (last["end_h"] - last["start_h"])
                work_h = last["to_h"] - last["from_h"]
                last.update(end_h=self.now_h, outcome="running", kind=None)
                trial.done_h = last["from_h"] + ran * work_h

    def _attempt(self, trial: _Trial, start_h: float, slot: int) -> dict[str, Any]:
        rng, work_h = self.rng, _work_h(trial.params)
        left_h = work_h - trial.done_h
        attempt = {"start_h": start_h, "slot": slot, "from_h": trial.done_h, "kind": None}
        chance = rng.random()
        if len(trial.attempts) < 4 and chance < 0.16 * left_h / 0.5:
            ran_h = left_h * rng.uniform(0.1, 0.9)
            is_killed = chance < 0.02
            kept_h = ran_h * (0.7 if is_killed else 0.98)
            trial.done_h += kept_h
            outcome = None if is_killed else records.PREEMPTED
            times = {"end_h": start_h + ran_h, "saved_h": start_h + kept_h, "to_h": trial.done_h}
            return {**attempt, **times, "outcome": outcome}
        params = trial.params
        risky = params["learning_rate"] >= 5e-5 and params["batch_size"] == 16
        kind = "non_finite" if risky and rng.random() < 0.15 else None
        kind = kind or ("cuda_oom" if params["batch_size"] >= 64 and rng.random() < 0.03 else None)
        kind = kind or ("error" if rng.random() < 0.004 else None)
        ran_h = left_h * (rng.uniform(0.05, 0.6) if kind else 1.0)
        trial.done_h += ran_h
        outcome = records.FAILED if kind else records.COMMITTED
        times = {"end_h": start_h + ran_h, "to_h": trial.done_h}
        return {**attempt, **times, "outcome": outcome, "kind": kind}


def _work_h(params: Mapping[str, Any]) -> float:
    """Hours of work: larger batches are quicker, which is what they are there for."""
    noise = random.Random(repr(sorted(params.items()))).lognormvariate(0, 0.06)
    slow = 1.2 if params["optimizer"] == "lamb" else 1.0
    return (0.25 + 4 / params["batch_size"]) * slow * noise


def _final_loss(params: Mapping[str, Any]) -> float:
    """A valley in the learning rate, which larger batches move up; the rest matters little."""
    off = math.log10(params["learning_rate"]) + 4.75 - 0.25 * math.log2(params["batch_size"] / 32)
    loss = 2.9 + 0.35 * off**2 + 0.02 * math.log2(params["batch_size"] / 16)
    loss += 0.05 if params["optimizer"] == "lamb" else 0.0
    return loss + 0.02 * abs(math.log10(params["weight_decay"]) + 1.3)


def _curve(trial: _Trial, share: float, n_reports: int) -> list[dict[str, Any]]:
    """The reports of so much of a trial's work."""
    rng = random.Random(trial.name)
    end = _final_loss(trial.params) + rng.gauss(0, 0.012)
    start = 10.4 + rng.gauss(0, 0.05)
    speed = 5 + 2 * math.log10(trial.params["learning_rate"] / 1e-5)
    lines = []
    for i in range(1, round(n_reports * share) + 1):
        done = i / n_reports
        loss = end + (start - end) * (math.exp(-speed * done) - math.exp(-speed))
        loss = loss + rng.gauss(0, 0.03) * (1 - done)
        line: dict[str, Any] = {
            "step": round(2000 * done),
            "train_loss": round(loss - 0.05 + rng.gauss(0, 0.02), 6),
            "learning_rate": trial.params["learning_rate"] * (1 - done),
            "tokens_per_s": round(52_000 * rng.uniform(0.95, 1.05), 1),
        }
        if i % 2 == 0:
            line.update(eval_loss=loss, eval_perplexity=math.exp(loss))
        lines.append(line)
    return lines


def _write_trial(sweep: SweepPaths, trial: _Trial, story: _Story, origin_s: float) -> None:
    paths = sweep.trial(trial.name)
    os.makedirs(paths.attempts)
    write(paths.params, dump_record(trial.params))
    ends: list[dict[str, Any]] = []
    share = min(1.0, trial.done_h / _work_h(trial.params))
    lines = _curve(trial, share, story.n_reports)
    for number, attempt in enumerate(trial.attempts, start=1):
        record = _attempt_record(trial, number, attempt, origin_s, len(lines))
        heartbeat_s = origin_s + attempt["end_h"] * 3600
        write(paths.attempt(number), dump_record(record))
        os.utime(paths.attempt(number), (heartbeat_s, heartbeat_s))
        if attempt["outcome"] is None:
            wall_s = round((attempt["end_h"] - attempt["start_h"]) * 3600, 3)
            record |= {"wall_s": wall_s, "estimated": True, "outcome": None}
        ends.append(record)
    last = trial.attempts[-1] if trial.attempts else {"outcome": None, "kind": None}
    if last["kind"] == "non_finite" and lines:
        lines[-1]["train_loss"] = math.nan
    if lines:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write(paths.metrics, text.encode("ascii"))
    if trial.attempts:
        write(paths.log, _log(last["kind"], len(lines)).encode("ascii"))
    if last["outcome"] == records.COMMITTED:
        metrics: dict[str, Any] = {}
        for line in lines:
            metrics.update(line)
        last_step = metrics.pop("step", None)
        result = {
            "trial": trial.name,
            "attempt": len(trial.attempts),
            "committed_at": ends[-1]["ended_at"],
            "metrics": metrics,
            "n_reports": len(lines),
            "last_step": last_step,
            "problems": [],
            "attempts": ends,
        }
        write(paths.result, dump_record(result))


def _attempt_record(
    trial: _Trial, number: int, attempt: Mapping[str, Any], origin_s: float, n_lines: int
) -> dict[str, Any]:
    start_s = origin_s + attempt["start_h"] * 3600
    record: dict[str, Any] = {
        "trial": trial.name,
        "attempt": number,
        "node": f"node{attempt['slot'] // 2:03d}",
        "boot_id": "6f2f0a1e-6c57-4a2e-9a52-0c6f1f6d3f11",
        "pid": 4242,
        "job_id": str(100_000 + trial.number),
        "array_job_id": "100000",
        "array_task_id": trial.number,
        "token": TOKEN,
        "started_at": _iso(start_s),
        "claimed_unix": round(start_s, 3),
        "resumes_from": None,
        "layout": "step",
        "resources": {
            "partition": "spot",
            "gpus": 1,
            "cpus": 8,
            "nodes": 1,
            "price_per_hour": 1.2,
            "currency": "EUR",
        },
    }
    if number > 1:
        saved_s = origin_s + trial.attempts[number - 2]["saved_h"] * 3600
        record["resumes_from"] = {"mtime": round(saved_s, 3), "age_s": round(start_s - saved_s, 3)}
    if attempt["outcome"] in (None, "running"):
        return record
    end_s = origin_s + attempt["end_h"] * 3600
    record |= {
        "ended_at": _iso(end_s),
        "wall_s": round(end_s - start_s, 3),
        "start_up_s": 11.5,
        "outcome": attempt["outcome"],
        "exit_code": 0,
    }
    if attempt["outcome"] == records.PREEMPTED:
        record |= {"exit_code": 75, "signal": "SIGTERM", "cause": "preempted", "requeue": "asked"}
    if attempt["kind"]:
        cause = _FAILURES[attempt["kind"]].format(step=n_lines)
        digest = hashlib.sha256(attempt["kind"].encode()).hexdigest()[:12]
        record |= {"exit_code": 1, "cause": cause, "kind": attempt["kind"], "fingerprint": digest}
    return record


def _log(kind: str | None, n_lines: int) -> str:
    lines = [f"step {50 * i}/2000" for i in range(1, n_lines + 1)]
    if kind:
        lines.append(_TRACEBACK.format(error=_FAILURES[kind].format(step=n_lines)))
    return "\n".join(lines) + "\n"


def _iso(unix_s: float) -> str:
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

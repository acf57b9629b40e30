"""``make bench-train``: its arithmetic, and the whole of it once."""

import subprocess
import sys

import pytest

from tests.benchmarks import train_levers, train_runs
from tests.benchmarks.train_levers import Lever
from tests.benchmarks.train_table import Change, Measured, change_of_speed, compare, render
from tests.train.conftest import ROOT


def test_change_of_speed_is_told_both_ways():
    # 120 s to 65 s an epoch is no "47 % faster".
    change = change_of_speed(120, 65)
    assert round(change.time_percent, 1) == -45.8
    assert round(change.throughput_percent, 1) == 84.6
    assert change_of_speed(2, 2) == Change(0, 0)
    assert change_of_speed(1, 2) == Change(100, -50)


def test_lever_is_compared_within_its_seed():
    plain = {0: Measured(100, 2, 1.0), 1: Measured(200, 2, 2.0), 2: Measured(300, 2, 3.0)}
    lever = {0: Measured(200, 1, 1.1), 1: Measured(200, 1, 2.1), 2: Measured(900, 1, 3.4)}
    row = compare("x", lever, plain)
    assert (row.speed, row.slowest, row.fastest, row.memory, row.n_seeds) == (2, 1, 3, 0.5, 3)
    assert row.change == Change(-50, 100)
    assert row.loss_difference == pytest.approx(0.2)
    assert row.loss_spread == pytest.approx(0.03**0.5)


def test_lever_without_a_common_seed_has_no_row():
    assert compare("x", {1: Measured(1, 1, 1)}, {0: Measured(1, 1, 1)}) is None
    assert compare("x", {0: Measured(1, 1, 1)}, {0: Measured(1, 1, 1)}).loss_spread is None


def test_table_holds_what_was_not_measured():
    row = compare("bf16", {0: Measured(150, 1, 1.0)}, {0: Measured(100, 2, 1.5)})
    text = "\n".join(render([row], {"fp16": "needs a GPU"}))
    assert "| bf16 | 1.50 x (+50 %) | 1.50 to 1.50 | -33 % | 0.50 x | -0.5000 | 1 |" in text
    assert "- fp16: needs a GPU" in text


def test_all_together_is_what_works_here():
    levers = train_levers.levers(4, has_gpu=False)
    assert train_levers.all_together(levers, []) == []
    works = {"bf16", "packing", "LoRA", "ZeRO-2 on two ranks", "fp16"}
    joined = {"precision": "bf16", "packing": "true"}
    zero = {**joined, "deepspeed": "train/deepspeed/zero2.json"}
    assert train_levers.all_together(levers, works) == [
        Lever("all together", joined),
        Lever("all together, LoRA", {**joined, "finetuning": "lora"}),
        Lever("all together, ZeRO-2 on two ranks", zero, n_ranks=2),
    ]


def test_lever_rules_over_the_plain_arguments():
    words = train_levers.command_line({"precision": "fp32", "seed": "1"}, Lever("x", {"seed": "2"}))
    assert words == ["--precision=fp32", "--seed=2"]


def test_speed_is_that_of_the_later_half():
    speeds = [1, 2, 3, 10, 30, 20]
    reports = [{"train_loss": 1.0, "current_tokens_per_second": s} for s in speeds]
    end = {"eval_loss": 2.0, "peak_host_memory_gb": 3.0}
    assert train_runs.measure([*reports, end]) == Measured(20, 3.0, 2.0)
    assert train_runs.measure([*reports, {**end, "peak_gpu_memory_gb": 5.0}]).peak_memory_gb == 5


@pytest.mark.parametrize(
    ("log", "code", "reason"),
    [
        ("train/main.py: --compile: no compiler\n", 2, "--compile: no compiler"),
        ("x\nValueError: bad\n  at y\n", 1, "exit code 1: ValueError: bad"),
        ("", -9, "exit code -9: no output"),
    ],
)
def test_reason_of_a_failure_is_the_programs_own(log, code, reason):
    assert train_runs.last_words(log, code) == reason


@pytest.mark.slow
@pytest.mark.train
def test_bench_runs():
    command = [sys.executable, "-m", "tests.benchmarks.bench_train", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line[:2] == "| "]
    assert rows[:2] == ["lever", "plain fp32 Trainer"]
    assert {"accumulation", "gradient checkpointing", "all together"} <= set(rows)
    assert "fp16" in done.stdout, "measured or with a reason"

"""The command line: what it refuses, and what follows from it."""

import os
import subprocess
import sys

import arguments
import plans
import pytest
from arguments import ArgumentMistake, Arguments, parse_arguments
from plans import plan_batch, plan_steps

from tests.train.conftest import ROOT


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--optimizer=adagrad"],
            "--optimizer=adagrad: not known; allowed: adamw, lamb, adafactor",
        ),
        (["--learning_rte=1"], "unknown argument --learning_rte; did you mean --learning_rate?"),
        (["--learning_rate=nan"], "use a number of at least 0"),
        (["--batch_size=1.5"], "invalid whole_number value: '1.5'"),
        (["--keep_checkpoints=1"], "use a number of at least 2"),
        (["--steps_scale=0"], "use a number above 0"),
        (["--deepspeed=nowhere.json"], "--deepspeed=nowhere.json: no such file; or use none"),
        (["--micro_batch_size=2", "--gradient_accumulation_steps=2"], "give one"),
    ],
)
def test_mistake_is_named(argv, message):
    with pytest.raises(ArgumentMistake) as caught:
        parse_arguments(argv)
    assert message in str(caught.value)


def test_mistake_ends_the_program_in_one_line_before_torch_loads(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')\n")
    done = subprocess.run(
        [sys.executable, "train/main.py", "--optimizer", "adagrad"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "train/main.py: --optimizer=adagrad: not known; "
        "allowed: adamw, lamb, adafactor, lion, muon, sgd\n"
    )


def test_both_spellings_and_numbers_of_sweeps():
    parsed = parse_arguments(["--learning_rate", "1e-05", "--max_steps=2e3", "--batch_size=16.0"])
    assert (parsed.learning_rate, parsed.max_steps, parsed.batch_size) == (1e-5, 2000, 16)


def test_every_argument_is_explained():
    assert set(arguments._field_docs()) == set(Arguments.__dataclass_fields__)


@pytest.mark.parametrize(
    ("options", "world_size", "expected"),
    [
        ({}, 1, (64, 1)),
        ({"gradient_accumulation_steps": 4}, 2, (8, 4)),
        ({"micro_batch_size": 4}, 2, (4, 8)),
    ],
)
def test_effective_batch_stays(options, world_size, expected):
    plan = plan_batch(Arguments(batch_size=64, **options), world_size)
    assert (plan.per_device, plan.accumulation) == expected
    assert plan.per_device * plan.accumulation * world_size == 64


@pytest.mark.parametrize(
    ("divisor", "expected"), [(1, (6, 2)), (2, (3, 4)), (4, (1, 12)), (8, (1, 12))]
)
def test_micro_batch_is_divided_and_the_effective_batch_stays(divisor, expected):
    arguments = Arguments(batch_size=24, gradient_accumulation_steps=2)
    plan = plan_batch(arguments, 2, divisor)
    assert (plan.per_device, plan.accumulation) == expected
    assert plan.per_device * plan.accumulation * 2 == 24


def test_micro_batch_of_one_that_is_too_large_is_refused():
    with pytest.raises(ArgumentMistake, match="out of memory with a micro-batch of 1"):
        plan_batch(Arguments(batch_size=16, micro_batch_size=1), 1, 2)


def test_indivisible_batch_is_refused():
    with pytest.raises(ArgumentMistake, match="not divisible by gradient_accumulation_steps 3 x 2"):
        plan_batch(Arguments(batch_size=16, gradient_accumulation_steps=3), 2)
    with pytest.raises(ArgumentMistake, match="2 ranks"):
        plan_batch(Arguments(batch_size=1), 2)


def test_steps_scale_scales_every_step_count():
    for warmup, expected in ((100, 1), (500, 5), (1000, 10), (0, 0)):
        plan = plan_steps(Arguments(warmup_steps=warmup, steps_scale=0.01), 100)
        assert (plan.max_steps, plan.warmup_steps, plan.eval_steps) == (20, expected, 5)
    assert plan_steps(Arguments(epochs=1.5, batch_size=16), 100).max_steps == 10  # ceil(9.375)


@pytest.mark.parametrize(
    ("given", "environ", "is_trial", "expected"),
    [
        (3, {"OMP_NUM_THREADS": "2"}, True, 3),
        (0, {"OMP_NUM_THREADS": "2", "SLURM_CPUS_PER_TASK": "4"}, True, 2),
        (0, {"SLURM_CPUS_PER_TASK": "4"}, True, 4),
        (0, {}, True, 1),
        (0, {}, False, None),
    ],
)
def test_threads(given, environ, is_trial, expected):
    chosen = plans.choose_threads(Arguments(threads=given), environ, is_trial=is_trial)
    assert chosen == expected

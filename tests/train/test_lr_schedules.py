"""Learning-rate schedules: by hand, and against transformers where the formula is the same."""

import math

import pytest
import torch
import transformers.optimization as reference
from arguments import Arguments
from lr_schedules import LrSchedule, multiplier
from optimizing import make_lr_schedule
from options.optimizer import LR_SCHEDULES


def trace(name, warmup_steps, total_steps, **options):
    schedule = LrSchedule(name, warmup_steps, total_steps, **options)
    return [multiplier(schedule, step) for step in range(total_steps + 3)]


def trace_of_transformers(get, *numbers, n_steps, **options):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    (function,) = get(optimizer, *numbers, **options).lr_lambdas
    return [function(step) for step in range(n_steps + 3)]


# 2 steps of warm-up, then 4 to the end, then what stays: by hand.
SIXTH = 0.5 * (1 + math.cos(math.pi / 4))
BY_HAND = {
    "linear": [0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0, 0],
    "cosine": [0, 0.5, 1, SIXTH, 0.5, 1 - SIXTH, 0, 0, 0],
    "cosine_with_restarts": [0, 0.5, 1, 0.5, 1, 0.5, 0, 0, 0],  # two waves
    "wsd": [0, 0.5, 1, 1, 1, 1 - math.sqrt(0.5), 0, 0, 0],  # the last third, sqrt
    "exponential": [0, 0.5, 1, 0.1**0.5, 0.1, 0.1**1.5, 0.01, 0.01, 0.01],
    "polynomial": [0, 0.5, 1, 0.5625, 0.25, 0.0625, 0, 0, 0],  # squared
    "constant": [0, 0.5, 1, 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_schedule_is_the_table_by_hand(name):
    options = {"cycles": 2, "decay_ratio": 1 / 3, "power": 2.0}
    if name == "exponential":
        options["min_ratio"] = 0.01
    assert trace(name, 2, 6, **options) == pytest.approx(BY_HAND[name], abs=1e-12)


@pytest.mark.parametrize("name", sorted(set(LR_SCHEDULES) - {"exponential", "constant"}))
def test_floor_squeezes_what_decays_and_leaves_the_warmup(name):
    options = {"cycles": 2, "decay_ratio": 1 / 3, "power": 2.0}
    expected = [m if step < 2 else 0.2 + 0.8 * m for step, m in enumerate(BY_HAND[name])]
    assert trace(name, 2, 6, min_ratio=0.2, **options) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
def test_wsd_decays_in_the_shape_asked_for(shape):
    middle = {"linear": 0.5, "cosine": 0.5, "sqrt": 1 - math.sqrt(0.5)}[shape]
    values = trace("wsd", 0, 4, decay_ratio=0.5, decay_shape=shape)
    assert values[:5] == pytest.approx([1, 1, 1, middle, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("warmup_steps", "n_steps"), [(0, 7), (3, 40), (100, 2000), (5, 5), (9, 6)]
)
def test_schedules_of_transformers_are_the_same_to_the_last_bit(warmup_steps, n_steps):
    numbers = (warmup_steps, n_steps)
    assert trace("linear", *numbers) == trace_of_transformers(
        reference.get_linear_schedule_with_warmup, *numbers, n_steps=n_steps
    )
    assert trace("constant", *numbers) == trace_of_transformers(
        reference.get_constant_schedule_with_warmup, warmup_steps, n_steps=n_steps
    )
    # Past its end transformers' cosine rises again; ours stays.
    cosine = trace_of_transformers(
        reference.get_cosine_schedule_with_warmup, *numbers, n_steps=n_steps
    )
    assert trace("cosine", *numbers)[: n_steps + 1] == cosine[: n_steps + 1]


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_restarts_are_those_of_transformers(cycles):
    expected = trace_of_transformers(
        reference.get_cosine_with_hard_restarts_schedule_with_warmup, 5, 47, cycles, n_steps=47
    )
    ours = trace("cosine_with_restarts", 5, 47, cycles=cycles)
    assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("linear",) * 2, ("cosine",) * 2, ("sqrt", "1-sqrt")])
def test_wsd_is_that_of_transformers(ours, theirs):
    expected = trace_of_transformers(
        reference.get_wsd_schedule,
        5,
        10,
        n_steps=50,
        num_training_steps=50,
        decay_type=theirs,
        min_lr_ratio=0.1,
    )
    # Its warm-up starts at the floor; ours at 0, as all others.
    values = trace("wsd", 5, 50, decay_ratio=0.2, decay_shape=ours, min_ratio=0.1)
    assert values[5:] == pytest.approx(expected[5:], abs=1e-12)


@pytest.mark.parametrize("name", LR_SCHEDULES)
@pytest.mark.parametrize(("warmup_steps", "n_steps"), [(0, 1), (1, 1), (3, 2), (0, 13), (4, 13)])
def test_multiplier_stays_between_nothing_and_the_peak(name, warmup_steps, n_steps):
    values = trace(name, warmup_steps, n_steps, min_ratio=0.05)
    assert all(0 <= value <= 1 for value in values)
    assert warmup_steps >= n_steps or max(values[:n_steps]) == 1


def test_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match="no such schedule: step"):
        trace("step", 0, 3)


def test_arguments_reach_the_schedule():
    arguments = Arguments(
        lr_schedule="wsd", min_lr_ratio=0.1, lr_cycles=3, decay_ratio=0.2, decay_shape="cosine"
    )
    assert make_lr_schedule(arguments, 5, 50) == LrSchedule(
        "wsd", 5, 50, min_ratio=0.1, cycles=3, decay_ratio=0.2, decay_shape="cosine", power=2.0
    )

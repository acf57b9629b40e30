"""Schedules and parameter groups under DeepSpeed's ZeRO on two CPU processes."""

import signal

import pytest

from tests.train.test_ranks import LAUNCH, ZERO2, assert_same_weights

pytestmark = pytest.mark.train

# All at once: three learning rates, two schedules, decaying and other groups.
SCHEDULED = {
    "lr_schedule": "wsd",
    "decay_ratio": 0.5,
    "min_lr_ratio": 0.1,
    "layer_lr_decay": 0.5,
    "weight_decay": 0.01,
    "weight_decay_schedule": "cosine",
    "final_weight_decay": 5.0,  # large, so that losing it would show
    "learning_rate": 3e-3,
}


def assert_same_training(make_trial, train_here, arguments, tolerance):
    alone = train_here("alone", logging_steps=1, **arguments)
    both = make_trial("both", **{**ZERO2, **arguments}).run(*LAUNCH)
    for mine, theirs in zip(both.metrics(), alone.metrics(), strict=True):
        assert mine.keys() == theirs.keys()
        for key in {"train_loss", "eval_loss", "current_learning_rate"} & mine.keys():
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3)
    assert_same_weights(both, alone, tolerance)


def test_zero2_on_two_ranks_follows_the_schedules(make_trial, train_here):
    arguments = {**SCHEDULED, "optimizer": "adamw", "max_steps": 12}
    assert_same_training(make_trial, train_here, arguments, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "tolerance"),
    # A sign of Lion's may turn where a gradient is next to nothing: two learning rates each time.
    [("lion", 1e-4, 1.2e-3), ("sgd", 0.1, 1e-3), ("lamb", 3e-3, 1e-3)],
)
def test_zero2_follows_the_schedules_with(
    make_trial, train_here, optimizer, learning_rate, tolerance
):
    arguments = {**SCHEDULED, "optimizer": optimizer, "max_steps": 6}
    arguments["learning_rate"] = learning_rate
    if optimizer == "sgd":
        arguments["final_weight_decay"] = 0.1
    assert_same_training(make_trial, train_here, arguments, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "lion", "sgd"])
def test_zero2_resumes_in_the_midst_of_its_schedules(make_trial, optimizer):
    arguments = {**ZERO2, **SCHEDULED, "optimizer": optimizer, "learning_rate": 1e-3}
    if optimizer == "sgd":
        arguments["final_weight_decay"] = 0.1
    whole = make_trial("whole", **arguments).run(*LAUNCH)
    cut = make_trial("cut", **arguments)
    process = cut.start(*LAUNCH, slow_after=12)
    cut.wait_for_step(process, 12)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=300) == 75, cut.log()
    assert 12 <= cut.steps_saved()[-1] < 30
    cut.run(*LAUNCH)
    assert cut.curve() == whole.curve()
    assert_same_weights(cut, whole, 0)

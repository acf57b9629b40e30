"""When a training has diverged: the pure decisions, and whole trainings that do."""

import math
import sys

import pytest
import transformers
from guard import (
    EXIT_DIVERGED,
    MAX_SKIPPED_IN_A_ROW,
    NEWEST_WEIGHT,
    Curve,
    follow,
    judge_curve,
    judge_evaluation,
    judge_step,
)

from orchestrator.runtime.cause import EXIT_DIVERGED as KNOWN_TO_THE_ORCHESTRATOR
from tests.train.attempts import run_attempt

pytestmark = pytest.mark.train


def curve_of(losses, factor=3.0):
    curve = Curve()
    for loss in losses:
        curve = follow(curve, loss, factor)
    return curve


def test_follow_smooths_and_remembers_the_best():
    curve = curve_of([4.0, 2.0, 3.0])
    second = 4.0 + NEWEST_WEIGHT * (2.0 - 4.0)
    third = second + NEWEST_WEIGHT * (3.0 - second)
    assert curve.smoothed == pytest.approx(third)
    assert (curve.best, curve.n_above) == (pytest.approx(third), 0)
    assert Curve.from_dict(curve.as_dict()) == curve
    assert Curve.from_dict({}) == Curve()


def test_curve_that_left_its_course_is_a_divergence():
    losses = [9.0, 5.0, *[2.0] * 30]
    assert judge_curve(curve_of(losses), 3.0, 5) == ""
    assert curve_of([*losses, 40.0]).n_above == 1
    assert judge_curve(curve_of([*losses, *[40.0] * 4]), 3.0, 5) == ""
    cause = judge_curve(curve_of([*losses, *[40.0] * 5]), 3.0, 5)
    assert cause.startswith("loss diverged: smoothed 33.6")
    assert cause.endswith("above 3 x its best 2 for 5 reports")
    # Back on its course in between: counted anew.
    assert curve_of([*losses, *[40.0] * 4, *[1.0] * 20]).n_above == 0


def test_curve_without_a_factor_never_diverges():
    assert judge_curve(curve_of([1.0, *[1e9] * 50], factor=0.0), 0.0, 1) == ""


def test_report_that_is_not_finite_is_left_to_the_step():
    assert follow(curve_of([3.0]), math.inf, 3.0) == curve_of([3.0])
    assert follow(Curve(), math.nan, 3.0).as_dict()["n_above"] == 0


@pytest.mark.parametrize(
    ("loss", "norm", "skipped", "n", "cause"),
    [
        (True, True, False, 0, ""),
        (False, True, False, 0, "loss is not finite"),
        (False, False, False, 0, "loss is not finite"),
        (True, False, False, 0, "gradient norm is not finite"),
        (True, False, True, 1, ""),
        (True, False, True, MAX_SKIPPED_IN_A_ROW, ""),
        (False, False, True, 1, "loss is not finite"),  # no scale mends it
        (True, False, True, MAX_SKIPPED_IN_A_ROW + 1, "gradient is not finite in 41 steps in a "),
    ],
)
def test_judge_step(loss, norm, skipped, n, cause):
    found = judge_step(is_loss_finite=loss, is_norm_finite=norm, was_skipped=skipped, n_skipped=n)
    assert found.startswith(cause)
    assert bool(found) == bool(cause)


def test_judge_evaluation_looks_at_the_loss():
    assert judge_evaluation({"eval_loss": 800.0, "eval_perplexity": math.inf}) == ""
    for loss in (math.nan, math.inf):
        assert judge_evaluation({"eval_loss": loss, "eval_f1": 0.5}) == "eval_loss is not finite"


def test_exit_code_is_the_one_that_the_orchestrator_knows():
    assert EXIT_DIVERGED == KNOWN_TO_THE_ORCHESTRATOR


def test_gradient_that_is_not_finite_ends_the_trial(make_trial, monkeypatch, capsys):
    clip = transformers.Trainer._clip_grad_norm

    def overflow(self, model):
        norm = clip(self, model)
        return norm * math.inf if self.state.global_step == 4 else norm

    monkeypatch.setattr(transformers.Trainer, "_clip_grad_norm", overflow)
    trial = make_trial("inf", save_steps=3)
    assert run_attempt(trial) == 65
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "train/main.py: gradient norm is not finite at step 5"
    assert math.isnan(trial.last()["train_loss"])
    assert math.isnan(trial.last()["eval_loss"])
    assert trial.steps_saved() == [3]  # what is spoilt is never saved


def test_weights_that_only_an_evaluation_finds_spoilt_end_the_trial(make_trial, capsys):
    # The last step's update is too long for fp32, and no training step comes after it.
    trial = make_trial("huge", learning_rate=1e9, max_steps=3, warmup_steps=100)
    assert run_attempt(trial) == 65
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "train/main.py: eval_loss is not finite at step 3"
    assert math.isnan(trial.last()["eval_loss"])
    assert trial.steps_saved() == []


@pytest.mark.parametrize("preempted", [False, True])
def test_evaluation_that_is_not_finite_is_never_the_best(
    make_trial, monkeypatch, capsys, preempted
):
    import reporting

    real, n_done = reporting.evaluate, []

    def evaluate(*args, **options):
        metrics = real(*args, **options)
        n_done.append(1)
        return dict.fromkeys(metrics, math.inf) if len(n_done) == 2 else metrics

    monkeypatch.setattr(reporting, "evaluate", evaluate)
    trial = make_trial("second", eval_steps=4, save_steps=0, max_steps=12, load_best=True)
    if preempted:  # the evaluation is left to the next attempt, which has no step before it
        assert run_attempt(trial, preempt_at=8) == 75
    assert run_attempt(trial) == 65
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "train/main.py: eval_loss is not finite at step 8"
    assert trial.steps_saved() == ([4, 8] if preempted else [4])
    assert [line["step"] for line in trial.metrics() if "eval_loss" in line] == [4, 8]
    assert math.isnan(trial.last()["eval_loss"])


def test_step_that_the_scaler_skips_is_no_divergence(make_trial, monkeypatch):
    import accelerate

    clip = transformers.Trainer._clip_grad_norm

    def overflow(self, model):
        norm = clip(self, model)
        was_skipped = self.state.global_step == 4
        self.accelerator.__dict__["was_skipped"] = was_skipped
        return norm * math.inf if was_skipped else norm

    monkeypatch.setattr(transformers.Trainer, "_clip_grad_norm", overflow)
    skipped = property(lambda self: self.__dict__.get("was_skipped", False))
    monkeypatch.setattr(accelerate.Accelerator, "optimizer_step_was_skipped", skipped)
    trial = make_trial("skipped", max_steps=8)
    assert run_attempt(trial) == 0
    assert trial.last()["steps"] == 8


def test_curve_of_a_preempted_training_diverges_at_the_same_step(make_trial, monkeypatch, capsys):
    real = transformers.Trainer.training_step

    def climb(self, *args, **kwargs):
        loss = real(self, *args, **kwargs)
        return loss * 50 if self.state.global_step >= 6 else loss

    monkeypatch.setattr(transformers.Trainer, "training_step", climb)
    arguments = {"logging_steps": 1, "divergence_reports": 4}
    whole = make_trial("whole", **arguments)
    assert run_attempt(whole) == 65
    cause = capsys.readouterr().err.splitlines()[-1]
    assert cause.startswith("train/main.py: loss diverged: smoothed ")
    assert cause.endswith("for 4 reports at step 10")
    cut = make_trial("cut", **arguments)
    assert run_attempt(cut, preempt_at=8) == 75
    assert run_attempt(cut) == 65
    assert capsys.readouterr().err.splitlines()[-1] == cause
    # NaN equals nothing, itself neither.
    assert repr(cut.curve()) == repr(whole.curve())
    off = make_trial("off", divergence_factor=0, max_steps=12, **arguments)
    assert run_attempt(off) == 0


@pytest.mark.slow
def test_ranks_diverge_together(make_trial):
    trial = make_trial(
        "both", learning_rate=10, logging_steps=1, divergence_factor=1.5, divergence_reports=2
    )
    process = trial.start(sys.executable, "train/launch.py", "--ranks=2")
    assert process.wait(timeout=300) == 65, trial.log()
    assert "train/main.py: loss diverged: smoothed" in trial.log()
    assert math.isnan(trial.last()["train_loss"])


@pytest.mark.slow
def test_ranks_find_an_evaluation_diverged_together(make_trial):
    trial = make_trial("both", learning_rate=1e9, max_steps=3, warmup_steps=100)
    process = trial.start(sys.executable, "train/launch.py", "--ranks=2")
    assert process.wait(timeout=300) == 65, trial.log()
    assert trial.log().count("eval_loss is not finite at step 3") == 1
    assert trial.steps_saved() == []

"""Early stopping and the best evaluation: the pure decisions, and under preemption."""

import math

import pytest
from arguments import ArgumentMistake, parse_arguments
from checkpoints import LoadFailed
from early_stopping import Best, is_minimized, should_stop, take
from options import stopping

from tests.train.attempts import run_attempt, run_preempted

pytestmark = pytest.mark.train

# Nothing is an improvement on the first evaluation, so it is the best whatever is learned.
HOPELESS = {"eval_steps": 4, "early_stopping_min_delta": 100, "save_steps": 0, "max_steps": 40}


def after(values, *, minimize=True, min_delta=0.0):
    best = Best()
    for step, value in enumerate(values, 1):
        best = take(best, step, {"m": value}, "m", minimize=minimize, min_delta=min_delta)
    return best


@pytest.mark.parametrize(
    ("values", "options", "step", "n_without"),
    [
        ([3, 2, 1], {}, 3, 0),
        ([3, 2, 2, 2], {}, 2, 2),
        ([1, 2, 3], {"minimize": False}, 3, 0),
        ([3, 2.5, 2], {"min_delta": 1}, 3, 0),  # small steps add up
        ([3, 2.5, 2.25], {"min_delta": 1}, 1, 2),
        ([math.nan, 3, math.nan], {}, 2, 1),
        ([math.nan, math.nan], {}, -1, 2),
        ([math.inf, 3], {}, 2, 0),
    ],
)
def test_take(values, options, step, n_without):
    best = after(values, **options)
    assert (best.step, best.n_without) == (step, n_without)
    if step > 0:
        assert best.metrics == {"m": values[step - 1]}
    assert repr(Best.from_dict(best.as_dict())) == repr(best)


def test_should_stop():
    best = after([3, 4, 4])
    assert [should_stop(best, patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]


def test_is_minimized():
    assert is_minimized("eval_loss", "auto")
    assert is_minimized("eval_perplexity", "auto")
    assert not is_minimized("accuracy", "auto")
    assert is_minimized("accuracy", "minimize")
    assert not is_minimized("eval_loss", "maximize")


@pytest.mark.parametrize("preempted_at", [(12,), (6, 11)])
def test_preempted_trial_stops_at_the_same_step(make_trial, preempted_at):
    # At 12 the evaluation that ends it is left to the next attempt.
    whole = make_trial("whole", early_stopping_patience=2, **HOPELESS)
    assert run_attempt(whole) == 0
    assert whole.last()["steps"] == 12
    assert whole.last()["stopped_early"] == 1
    cut = run_preempted(make_trial("cut", early_stopping_patience=2, **HOPELESS), *preempted_at)
    assert cut.curve() == whole.curve()
    assert cut.weights() == whole.weights()
    # Killed before its result was committed: trains no further, reports the same.
    assert run_attempt(cut) == 0
    assert cut.curve() == whole.curve()
    assert cut.steps_saved()[-1] == 12


def test_training_that_improves_goes_to_its_end(make_trial):
    trial = make_trial("a", early_stopping_patience=1, max_steps=12, eval_steps=4)
    assert run_attempt(trial) == 0
    assert (trial.last()["steps"], trial.last()["stopped_early"]) == (12, 0)


@pytest.mark.parametrize("finetuning", ["full", "lora"])
def test_best_evaluation_is_kept_and_reported(make_trial, finetuning):
    arguments = {**HOPELESS, "max_steps": 16, "load_best": True, "finetuning": finetuning}
    if finetuning == "lora":
        arguments["merge_adapters"] = True
    arguments |= {"save_steps": 2, "learning_rate": 1e-2}
    whole = make_trial("whole", **arguments)
    assert run_attempt(whole) == 0
    assert whole.steps_saved() == [4, 14, 16]  # the best beside the newest two
    curve = [(m["step"], m["eval_loss"]) for m in whole.metrics() if "eval_loss" in m]
    assert [step for step, _ in curve] == [4, 8, 12, 16, 16]
    assert curve[-1][1] == curve[0][1] != curve[3][1]
    assert whole.last()["best_step"] == 4
    cut = run_preempted(make_trial("cut", **arguments), 4, 7)
    assert cut.curve() == whole.curve()
    assert cut.steps_saved() == [4, 14, 16]
    if finetuning == "lora":
        names = ("adapter_model.safetensors",)
        merged = [t.checkpoints / "merged/checkpoint-16/model.safetensors" for t in (whole, cut)]
        assert merged[0].read_bytes() == merged[1].read_bytes()
    else:
        names = ("model.safetensors",)
    for name in names:
        files = [t.checkpoints / "checkpoint-4" / name for t in (whole, cut)]
        assert files[0].read_bytes() == files[1].read_bytes()
    files[0].unlink()
    with pytest.raises(LoadFailed, match=r"the best evaluation's: .*safetensors is missing"):
        run_attempt(whole)


@pytest.mark.parametrize("task", stopping.METRICS)
def test_metric_that_no_evaluation_reports_is_a_mistake(task):
    from tasks import find_task

    known = find_task(task).metrics
    assert stopping.METRICS[task] == known
    words = [f"--task={task}", "--data=x.jsonl", "--early_stopping_patience=1", "--eval_steps=2"]
    with pytest.raises(ArgumentMistake, match=f"f1: evaluations report {', '.join(known)} with"):
        parse_arguments([*words, "--early_stopping_metric=f1"])
    parse_arguments([*words, f"--early_stopping_metric={known[-1]}"])
    parse_arguments([*words[:2], "--early_stopping_metric=f1"])  # nothing looks at it


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (
            ["--early_stopping_patience=2", "--eval_steps=0"],
            "--early_stopping_patience=2: with --e",
        ),
        (["--load_best=true", "--eval_steps=0"], "--load_best=true: with --eval_steps=0 the only"),
        (
            ["--load_best=true", "--deepspeed=train/deepspeed/zero3.json"],
            "--load_best=true: not with ZeRO stage 3",
        ),
        (["--divergence_factor=0.5"], "--divergence_factor=0.5: use a number above 1, or 0"),
        (["--early_stopping_goal=low"], "--early_stopping_goal=low: not known; allowed: auto, m"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(words, found):
    with pytest.raises(ArgumentMistake) as caught:
        parse_arguments(words)
    assert str(caught.value).startswith(found)

"""Several ranks: DeepSpeed ZeRO-2 on two CPU processes, and signals through the launchers."""

import json
import os
import re
import shutil
import signal
import sys

import pytest
import safetensors.torch
import torch

from orchestrator.runtime.program import descendants

pytestmark = pytest.mark.train

LAUNCH = (sys.executable, "train/launch.py", "--ranks=2")
# As README.md says: torchrun has no handler for SIGUSR2, so it must ignore it; its workers
# install their own.
TORCHRUN = (
    "env",
    "--ignore-signal=USR2",
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nproc_per_node=2",
    "--standalone",
)
ZERO2 = {"deepspeed": "train/deepspeed/zero2.json", "max_steps": 30, "logging_steps": 1}


def assert_same_curve(one, other, tolerance):
    # One report per step: rank 1 is silent.
    assert [line["step"] for line in one.metrics()] == [line["step"] for line in other.metrics()]
    for mine, theirs in zip(one.metrics(), other.metrics(), strict=True):
        assert mine.keys() == theirs.keys()
        for key in {"train_loss", "eval_loss", "current_learning_rate", "grad_norm"} & mine.keys():
            assert mine[key] == pytest.approx(theirs[key], rel=tolerance)


def assert_same_weights(one, other, tolerance):
    left, right = (safetensors.torch.load(trial.weights()) for trial in (one, other))
    # DeepSpeed's checkpoint names the tied output layer, too.
    assert left.keys() - {"lm_head.weight"} == right.keys() - {"lm_head.weight"}
    for name in left.keys() & right.keys():
        torch.testing.assert_close(left[name], right[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_zero2_on_two_ranks_is_the_same_training(make_trial, train_here, optimizer):
    arguments = {"optimizer": optimizer, "learning_rate": 3e-3, "max_steps": 12}
    alone = train_here("alone", logging_steps=1, **arguments)
    both = make_trial("both", **{**ZERO2, **arguments, "gradient_accumulation_steps": 2})
    both.run(*LAUNCH)
    assert "effective batch 8 = 2 x 2 accumulated x 2 ranks" in both.log()
    assert_same_curve(both, alone, 1e-3)
    assert_same_weights(both, alone, 1e-3)


@pytest.mark.parametrize(
    "stage",
    [
        "zero3",
        pytest.param("zero0", marks=pytest.mark.slow),
        pytest.param("zero1", marks=pytest.mark.slow),
        pytest.param("zero3_offload", marks=pytest.mark.slow),
    ],
)
def test_model_directory_under_other_stages_is_the_same_training(make_trial, train_here, stage):
    base = train_here("base", max_steps=1)
    arguments = {
        "model": str(base.checkpoints / "checkpoint-1"),
        "max_steps": 6,
        "logging_steps": 1,
    }
    alone = train_here("alone", **arguments)
    split = {"deepspeed": f"train/deepspeed/{stage}.json", "gradient_accumulation_steps": 2}
    both = make_trial("both", **arguments, **split).run(*LAUNCH)
    # Answer tokens are uneven over ranks and micro-batches: a mean of means would differ here.
    assert_same_curve(both, alone, 1e-4)
    assert_same_weights(both, alone, 1e-4)
    saved = {"model": str(both.checkpoints / "checkpoint-6"), "learning_rate": 0, "max_steps": 1}
    assert train_here("loads", **saved).last()["eval_loss"] == pytest.approx(
        alone.last()["eval_loss"], rel=1e-5
    )


@pytest.mark.slow
def test_tensor_parallel_on_two_ranks_is_the_same_training(make_trial, train_here):
    arguments = {"model": "tiny-llama", "max_steps": 6, "logging_steps": 1}
    alone = train_here("alone", **arguments)
    split = {"deepspeed": "train/deepspeed/tensor_parallel2.json"}
    both = make_trial("both", **arguments, **split).run(*LAUNCH)
    assert "effective batch 8 = 8 x 1 accumulated x 1 ranks" in both.log()
    assert_same_curve(both, alone, 1e-3)
    assert_same_weights(both, alone, 1e-3)


@pytest.mark.slow
def test_best_weights_come_back_under_zero2(make_trial):
    import scoring
    from transformers import AutoModelForCausalLM

    trial = make_trial(
        "best",
        model="tiny-llama",
        deepspeed="train/deepspeed/zero2.json",
        max_steps=12,
        eval_steps=6,
        load_best=True,
        early_stopping_goal="maximize",  # the loss: the first evaluation is the best
        response_score_prompts=2,
    ).run(*LAUNCH)
    assert trial.last()["best_step"] == 6
    best = AutoModelForCausalLM.from_pretrained(trial.checkpoints / "checkpoint-6")
    answers = (trial.root / "responses.jsonl").read_text().splitlines()
    assert {json.loads(line)["weights"] for line in answers} == {scoring.fingerprint(best)}


@pytest.mark.slow
def test_lora_under_zero3_is_the_same_training_and_resumes(make_trial, train_here):
    arguments = {"model": "tiny-llama", "finetuning": "lora", "max_steps": 24, "logging_steps": 1}
    alone = train_here("alone", **arguments)
    arguments["deepspeed"] = "train/deepspeed/zero3.json"
    whole = make_trial("whole", **arguments).run(*LAUNCH)
    assert_same_curve(whole, alone, 1e-3)
    cut = make_trial("cut", **arguments)
    process = cut.start(*LAUNCH, slow_after=8)
    cut.wait_for_step(process, 8)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=300) == 75, cut.log()
    cut.run(*LAUNCH)
    assert cut.curve() == whole.curve()
    adapters = [t.checkpoints / "checkpoint-24/adapter_model.safetensors" for t in (cut, whole)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


@pytest.mark.slow
def test_zero3_resumes_where_it_was_stopped(make_trial):
    arguments = {**ZERO2, "deepspeed": "train/deepspeed/zero3.json", "max_steps": 24}
    whole = make_trial("whole", **arguments).run(*LAUNCH)
    cut = make_trial("cut", **arguments)
    process = cut.start(*LAUNCH, slow_after=8)
    cut.wait_for_step(process, 8)
    process.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=300) == 75, cut.log()
    assert 8 <= cut.steps_saved()[-1] < 24
    cut.run(*LAUNCH)
    assert cut.curve() == whole.curve()
    assert_same_weights(cut, whole, 0)


@pytest.mark.parametrize("signum", [signal.SIGUSR2, signal.SIGTERM])
def test_launched_ranks_checkpoint_together(make_trial, signum):
    whole = make_trial("whole", max_steps=60).run(*LAUNCH)
    cut = make_trial("cut", max_steps=60)
    process = cut.start(*LAUNCH, slow_after=14)
    cut.wait_for_step(process, 14)
    process.send_signal(signum)  # the launcher alone: it passes the signal on
    assert process.wait(timeout=300) == 75, cut.log()
    stopped_at = cut.steps_saved()[-1]
    assert 14 <= stopped_at < 60
    cut.run(*LAUNCH)
    assert int(re.search(r"checkpoint-(\d+)", cut.log()).group(1)) == stopped_at
    assert cut.curve() == whole.curve()
    assert cut.weights() == whole.weights()


@pytest.mark.skipif(not shutil.which("env"), reason="needs env of coreutils 8.31")
def test_zero2_under_torchrun_resumes_after_the_user_signal(make_trial):
    arguments = {**ZERO2, "optimizer": "lamb", "max_steps": 40}
    whole = make_trial("whole", **arguments).run(*LAUNCH)
    cut = make_trial("cut", **arguments)
    process = cut.start(*TORCHRUN, slow_after=14)
    cut.wait_for_step(process, 14)
    for pid in (process.pid, *descendants(process.pid)):
        os.kill(pid, signal.SIGUSR2)  # as Slurm signals a step: every process of it
    # torchrun has one code for every failure; the attempt knows from its own signal what it was.
    assert process.wait(timeout=300) == 1, cut.log()
    stopped_at = cut.steps_saved()[-1]
    assert 14 <= stopped_at < 40
    cut.run(*LAUNCH)
    assert int(re.search(r"checkpoint-(\d+)", cut.log()).group(1)) == stopped_at
    assert cut.curve() == whole.curve()
    assert_same_weights(cut, whole, 0)

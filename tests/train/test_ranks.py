"""Several ranks: DeepSpeed ZeRO-2 on two CPU processes, and signals through the launchers."""

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
    # One report per step: rank 1 is silent.
    assert [line["step"] for line in both.metrics()] == [line["step"] for line in alone.metrics()]
    for mine, theirs in zip(both.metrics(), alone.metrics(), strict=True):
        assert mine.keys() == theirs.keys()
        for key in {"train_loss", "eval_loss", "current_learning_rate", "grad_norm"} & mine.keys():
            assert mine[key] == pytest.approx(theirs[key], rel=1e-3)
    assert_same_weights(both, alone, 1e-3)


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

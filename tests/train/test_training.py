"""Whole trainings in this process: what they report and leave behind."""

import json
import math

import pytest
import safetensors.torch
import torch
from arguments import ArgumentMistake

pytestmark = pytest.mark.train


def tensors(trial):
    return safetensors.torch.load(trial.weights())


def test_reports_and_learns(train_here):
    trial = train_here("a", max_steps=120, learning_rate=5e-3)
    curve = trial.metrics()
    losses = [line["train_loss"] for line in curve if "train_loss" in line]
    assert losses[-1] < losses[0] - 1
    assert [line["step"] for line in curve if "train_loss" in line] == [*range(7, 120, 7), 120]
    last = trial.last()
    assert last["eval_perplexity"] == pytest.approx(math.exp(last["eval_loss"]))
    assert last["steps"] == 120
    for name in (
        "tokens_per_second",
        "run_time_s",
        "peak_memory_gb",
        "current_learning_rate",
        "grad_norm",
    ):
        assert last[name] > 0 or name == "current_learning_rate"
    assert trial.steps_saved() == [110, 120]


@pytest.mark.parametrize("model", ["tiny-deepseek", "tiny-llama"])
def test_accumulation_changes_nothing(train_here, model):
    arguments = {"model": model, "max_steps": 3, "optimizer": "lamb", "learning_rate": 1e-2}
    whole = train_here("whole", **arguments)
    parts = train_here("parts", gradient_accumulation_steps=4, **arguments)
    micro = train_here("micro", micro_batch_size=2, **arguments)
    assert whole.last()["eval_loss"] == pytest.approx(parts.last()["eval_loss"], abs=1e-5)
    for name, tensor in tensors(whole).items():
        torch.testing.assert_close(tensors(parts)[name], tensor, atol=1e-5, rtol=0)
    assert micro.weights() == parts.weights()


def test_seed_decides(train_here):
    weights = [train_here(n, seed=s, max_steps=2).weights() for n, s in (("a", 1), ("b", 1))]
    assert weights[0] == weights[1]
    assert train_here("c", seed=2, max_steps=2).weights() != weights[0]


def test_divergence_is_reported_and_ends_the_program(train_here, capsys, monkeypatch):
    import transformers

    real = transformers.Trainer.training_step

    def diverge(self, *args, **kwargs):
        loss = real(self, *args, **kwargs)
        return loss * math.nan if self.state.global_step == 4 else loss

    monkeypatch.setattr(transformers.Trainer, "training_step", diverge)
    with pytest.raises(SystemExit) as caught:
        train_here("nan")
    assert caught.value.code == 65
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "train/main.py: loss is not finite at step 5"


def test_model_directory_is_taken_and_trained_on(train_here, tmp_path):
    base = train_here("base", max_steps=30, learning_rate=5e-3)
    rows = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(80)]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    directory = base.checkpoints / "checkpoint-30"
    trial = train_here("own", model=str(directory), data=str(file), max_steps=5, learning_rate=0)
    before, after = tensors(base), tensors(trial)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (trial.checkpoints / "checkpoint-5" / "tokenizer.json").is_file()
    with pytest.raises(ArgumentMistake, match=r"neither tiny-deepseek nor .+ nor a local"):
        train_here("wrong", model="deepseek-7b")

"""Whole trainings of each task: exact under accumulation, over ranks, and after a preemption."""

import json
import math
import sys

import pytest
import safetensors.torch
import torch
from arguments import ArgumentMistake

pytestmark = pytest.mark.train

TASKS = {
    "clm": {"task": "clm", "data": "texts", "eval_stride": 20},
    "classification": {"task": "classification", "data": "pairs", "seq_len": 48},
}
METRICS = {
    "clm": {"eval_loss", "eval_perplexity"},
    "classification": {"eval_loss", "eval_accuracy", "eval_f1"},
}


def tensors(trial):
    return safetensors.torch.load(trial.weights())


@pytest.fixture
def attempt(monkeypatch):
    """Run one attempt of a trial here; it is told to stop when it asks for the ``stop_at`` time."""

    def run(trial, number, stop_at=None):
        import main
        import torch
        from arguments import parse_arguments

        from orchestrator.runtime import session

        for key, value in {**trial.environ, "TRIAL_ATTEMPT": str(number)}.items():
            monkeypatch.setenv(key, value)
        asked = []

        def should_stop():
            asked.append(None)
            return stop_at is not None and len(asked) > stop_at

        monkeypatch.setattr(session, "should_stop", should_stop)
        threads = torch.get_num_threads()
        try:
            main._train(main._complete(parse_arguments(trial.command())))
        except SystemExit as end:
            return end.code
        finally:
            torch.set_num_threads(threads)
        return 0

    return run


@pytest.mark.parametrize("task", ["clm", "classification"])  # dialogues: test_resume
def test_interrupted_training_equals_uninterrupted(make_trial, attempt, task):
    arguments = {
        **TASKS[task],
        "max_steps": 14,
        "eval_steps": 5,
        "logging_steps": 4,
        "save_steps": 0,
        "gradient_accumulation_steps": 2,
        "attention_dropout": 0.1,
    }
    whole, cut = make_trial("whole", **arguments), make_trial("cut", **arguments)
    assert attempt(whole, 1) == 0
    # In the midst of a logging window; then while evaluating, for there are batches after step 5.
    assert attempt(cut, 1, stop_at=3) == 75
    assert attempt(cut, 2, stop_at=4) == 75
    assert attempt(cut, 3) == 0
    assert cut.curve() == whole.curve()
    assert cut.weights() == whole.weights()
    assert METRICS[task] <= whole.last().keys()
    assert {key for key in whole.last() if key.startswith("eval_")} == METRICS[task]


@pytest.mark.parametrize("model", ["tiny-deepseek", "tiny-llama"])
def test_accumulation_changes_nothing_for_classes(train_here, model):
    arguments = {**TASKS["classification"], "model": model, "max_steps": 3, "learning_rate": 1e-2}
    whole = train_here("whole", **arguments)
    parts = train_here("parts", gradient_accumulation_steps=4, **arguments)
    assert parts.last()["eval_loss"] == pytest.approx(whole.last()["eval_loss"], abs=1e-5)
    assert parts.last()["grad_norm"] == pytest.approx(whole.last()["grad_norm"], rel=1e-4)
    for name, tensor in tensors(whole).items():
        torch.testing.assert_close(tensors(parts)[name], tensor, atol=1e-4, rtol=0)


def test_classifier_learns_and_its_directory_keeps_its_classes(train_here, tmp_path):
    rows = [
        {"text": f"{word} {n}", "label": label}
        for n in range(60)
        for word, label in (("good", "praise"), ("bad", "blame"), ("so so", "neither"))
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = {"task": "classification", "data": str(file), "seq_len": 16, "eval_steps": 0}
    base = train_here("base", max_steps=60, learning_rate=5e-3, model="tiny-llama", **arguments)
    assert base.last()["eval_accuracy"] == base.last()["eval_f1"] == 1.0
    directory = base.checkpoints / "checkpoint-60"
    config = json.loads((directory / "config.json").read_text())
    assert config["id2label"] == {"0": "blame", "1": "neither", "2": "praise"}
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["pad_token_id"] == 0
    # Two of its classes: it keeps its three, and their numbers.
    file.write_text("".join(json.dumps(row) + "\n" for row in rows if row["label"] != "blame"))
    again = train_here("again", max_steps=1, learning_rate=0, model=str(directory), **arguments)
    assert again.last()["eval_accuracy"] == 1.0
    assert tensors(again)["score.weight"].shape[0] == 3
    with pytest.raises(ArgumentMistake, match="--seq_len=1000: longer than the 512 positions of"):
        train_here("long", model=str(directory), **{**arguments, "seq_len": 1000})


def test_language_model_becomes_a_classifier(train_here):
    base = train_here("base", max_steps=2)
    directory = base.checkpoints / "checkpoint-2"
    trial = train_here("own", model=str(directory), max_steps=1, **TASKS["classification"])
    before, after = tensors(base), tensors(trial)
    assert after["score.weight"].shape[0] == 2
    assert before["model.embed_tokens.weight"].shape == after["model.embed_tokens.weight"].shape


def test_texts_are_learnt(train_here):
    arguments = {**TASKS["clm"], "eval_stride": 0, "model": "tiny-llama"}
    trial = train_here("a", max_steps=30, learning_rate=1e-2, eval_steps=20, **arguments)
    evals = [line["eval_loss"] for line in trial.metrics() if "eval_loss" in line]
    assert evals[-1] < evals[0] < 5  # all tokens alike: ln 1024 = 6.9
    assert trial.last()["eval_perplexity"] == pytest.approx(math.exp(evals[-1]))


def test_own_chat_template_is_used_and_kept(train_here, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    file = tmp_path / "mine.jsonl"
    rows = ({"prompt": f"What is {n}?", "response": f"It is {n}."} for n in range(60))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trial = train_here("a", max_steps=1, data=str(file), chat_template=str(template))
    saved = trial.checkpoints / "checkpoint-1" / "chat_template.jinja"
    assert saved.read_text() == template.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["clm", "classification"])
def test_two_ranks_are_the_same_training(make_trial, train_here, task):
    arguments = {**TASKS[task], "max_steps": 6, "logging_steps": 1, "eval_batch_size": 7}
    alone = train_here("alone", **arguments)
    both = make_trial("both", gradient_accumulation_steps=2, **arguments)
    both.run(sys.executable, "train/launch.py", "--ranks=2")
    for mine, theirs in zip(both.metrics(), alone.metrics(), strict=True):
        assert mine.keys() == theirs.keys()
        for key in {"train_loss", "eval_loss", "eval_accuracy", "grad_norm"} & mine.keys():
            assert mine[key] == pytest.approx(theirs[key], rel=1e-4)
    for name, tensor in tensors(alone).items():
        torch.testing.assert_close(tensors(both)[name], tensor, atol=1e-3, rtol=0)

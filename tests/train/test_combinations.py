"""Features that were each tested alone, drawn together: interrupted, a trial ends to the same bit.

A case is drawn from its number alone. A trial runs through once, counting how often it asks whether
to stop (at the end of each step, between batches of evaluations and answers); then it is told to
stop at a drawn one of these instants, or dies there without notice, and again in the next attempt.
"""

import random

import main
import pytest
import torch
from arguments import Arguments, find_mistakes, parse_arguments, read_arguments
from machine import Machine
from trainer import TrialTrainer

from orchestrator.runtime import session

pytestmark = pytest.mark.train

QUICK = (0, 4, 7, 8, 10)  # together: most of what can be drawn
N_CASES = 40


class Killed(BaseException):
    """Ends an attempt without notice."""


def draw(number):
    """Draw arguments that go together, from all groups."""
    rng = random.Random(f"combination {number}")
    while True:
        drawn = _draw(rng)
        words = [f"--{name}={value}" for name, value in drawn.items()]
        if not list(find_mistakes(read_arguments(words)[0], Machine(1, False))):
            return drawn, rng


def _draw(rng):
    def maybe(chance, **arguments):
        return arguments if rng.random() < chance else {}

    task = rng.choice(["sft", "sft", "clm", "classification"])
    own = {"sft": "dialogues", "clm": "texts", "classification": "pairs"}[task]
    model = rng.choice(["tiny-deepseek", "tiny-llama"])
    max_steps = rng.randint(8, 13)
    schedule = rng.choice(["linear", "cosine", "cosine_with_restarts", "wsd", "exponential"])
    adapters = {
        "finetuning": "lora",
        "lora_variant": rng.choice(["lora", "rslora", "dora"]),
        "lora_dropout": rng.choice([0.0, 0.1]),
        "lora_rank": 4,
    }
    return {
        "task": task,
        "data": own,
        "model": model,
        "max_steps": max_steps,
        "warmup_steps": rng.randint(1, 3),
        "seq_len": rng.choice([32, 48]),
        "batch_size": 8,
        "gradient_accumulation_steps": rng.choice([1, 2]),
        "logging_steps": rng.randint(1, 4),
        "eval_steps": rng.randint(2, 5),
        "save_steps": rng.randint(2, 6),
        "eval_batch_size": 256,
        "max_train_examples": 64,
        "learning_rate": rng.choice([1e-3, 1e-2]),
        "attention_dropout": rng.choice([0.0, 0.1]),
        "optimizer": rng.choice(["adamw", "lamb", "adafactor", "lion", "muon", "sgd"]),
        "lr_schedule": schedule,
        "min_lr_ratio": 0.1 if schedule == "exponential" else rng.choice([0.0, 0.1]),
        **maybe(0.4, weight_decay_schedule="cosine", final_weight_decay=0.1),
        **maybe(0.4, layer_lr_decay=0.7),
        **maybe(0.4, packing=True),
        **maybe(0.4, curriculum=f"12:0,24:{rng.choice([0.2, 0.5])}"),
        **rng.choice([adapters, {"embedding_lr_ratio": 0.5}, {}]),
        **maybe(0.2, merge_adapters=True),
        **maybe(0.3, early_stopping_patience=1, early_stopping_min_delta=rng.choice([0.0, 0.5])),
        **maybe(0.3, load_best=True),
        **maybe(0.3, max_reports=3),
        **maybe(0.3, tensorboard=True),
        **maybe(0.3, response_score_prompts=2, response_max_tokens=6),
        **maybe(0.15, eval_quantized=rng.choice(["8bit", "4bit"])),
        **maybe(0.3, eval_stride=9),
        **maybe(0.2, gradient_checkpointing=True),
        **maybe(0.2, precision="bf16"),
        **maybe(0.2, attention=rng.choice(["eager", "sdpa"])),
    }


def attempt(trial, at=None, *, is_killed=False):
    """Run the next attempt, interrupted the ``at``-th time it asks; return exit code and count."""
    trial.attempt += 1
    n_asked = 0
    agree, threads = TrialTrainer.agree, torch.get_num_threads()

    def agree_and_count(self, step):
        nonlocal n_asked
        n_asked += 1
        if at is not None and n_asked >= at:
            if is_killed:
                raise Killed
            patch.setattr(session, "should_stop", lambda: True)
        return agree(self, step)

    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**trial.environ, "TRIAL_ATTEMPT": str(trial.attempt)}.items():
            patch.setenv(key, value)
        patch.setattr(TrialTrainer, "agree", agree_and_count)
        try:
            main._train(main._complete(parse_arguments(trial.command())))
        except SystemExit as left:
            return left.code, n_asked
        except Killed:
            return -9, n_asked
        finally:
            torch.set_num_threads(threads)
    return 0, n_asked


def end(trial):
    """Read what counts of a trial."""
    newest = trial.checkpoints / f"checkpoint-{trial.steps_saved()[-1]}"
    files = [*newest.glob("*.safetensors"), *trial.checkpoints.glob("merged/*/*.safetensors")]
    weights = {str(path.relative_to(trial.checkpoints)): path.read_bytes() for path in files}
    answers = trial.root / "responses.jsonl"
    return {
        "weights": weights,
        "curve": trial.curve(),
        "answers": answers.read_text() if answers.exists() else "",
    }


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in range(N_CASES)],
)
def test_interrupted_combination_ends_to_the_same_bit(make_trial, number):
    arguments, rng = draw(number)
    whole = make_trial("whole", **arguments)
    code, n_asked = attempt(whole)
    assert code == 0
    cut = make_trial("cut", **arguments)
    story = []
    for _ in range(2):
        is_killed = rng.random() < 0.4
        at = rng.randint(1, n_asked)
        story.append((at, is_killed, attempt(cut, at, is_killed=is_killed)[0]))
        assert story[-1][-1] in (0, 75, -9), story
        n_asked = max(1, n_asked - at)
    if story[-1][-1] != 0:
        assert attempt(cut)[0] == 0, story
    for what, expected in end(whole).items():
        assert end(cut)[what] == expected, (what, arguments, story)


def test_moved_trial_goes_on_with_half_the_micro_batch(make_trial, tmp_path, capfd):
    arguments = {"max_steps": 8, "eval_steps": 4, "logging_steps": 3, "max_train_examples": 64}
    whole = make_trial("whole", **arguments)
    assert attempt(whole)[0] == 0
    trial = make_trial("cut", **arguments)
    assert attempt(trial, 3)[0] == 75
    (tmp_path / "elsewhere").mkdir()
    trial.root = (tmp_path / "cut").rename(tmp_path / "elsewhere/cut")
    trial.environ |= {
        "TRIAL_DIR": str(trial.root),
        "TRIAL_METRICS": str(trial.metrics_file),
        "TRIAL_CHECKPOINT_DIR": str(trial.checkpoints),
        "TRIAL_MICRO_BATCH_DIVISOR": "2",
    }
    trial.arguments |= {"threads": 2, "attention": "eager", "packing": True}
    capfd.readouterr()
    assert attempt(trial)[0] == 0
    said = capfd.readouterr().err
    assert "attention auto -> eager, --packing False -> True, --threads 0 -> 2; numbers" in said
    assert "effective batch 8 = 4 x 2 accumulated" in said
    assert [line["step"] for line in trial.curve()] == [line["step"] for line in whole.curve()]
    for name in ("train_loss", "eval_loss"):
        assert trial.last()[name] == pytest.approx(whole.last()[name], rel=1e-4)


@pytest.mark.parametrize(
    ("changed", "package"),
    [
        ({"eval_quantized": "4bit"}, "bitsandbytes"),
        ({"finetuning": "qlora"}, "bitsandbytes"),
        ({"finetuning": "lora"}, "peft"),
        ({"precision": "fp8"}, "torchao"),
        ({"deepspeed": "train/deepspeed/zero2.json"}, "deepspeed"),
    ],
)
def test_what_a_trial_uses_is_not_hidden_from_it(changed, package):
    assert package in main._find_unused_packages(Arguments())
    assert package not in main._find_unused_packages(Arguments(**changed))


def test_program_does_it_all(make_trial):
    # As a program: what transformers does not see is hidden there, and imported all the same.
    trial = make_trial(
        "all",
        max_steps=2,
        max_train_examples=64,
        eval_batch_size=256,
        eval_quantized="4bit",
        response_score_prompts=2,
        response_max_tokens=4,
        tensorboard=True,
    ).run()
    assert {"eval_loss_4bit", "response_score"} <= trial.last().keys()
    assert (trial.root / "responses.jsonl").is_file()
    assert list((trial.root / "tensorboard").iterdir())

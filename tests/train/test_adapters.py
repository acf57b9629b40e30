"""LoRA and QLoRA: what is trained, saved, refused, merged; a preemption changes nothing."""

import json
import os

import pytest
import safetensors.torch
import torch
from adapters import OtherBase, choose_targets, fingerprint_base, load, refuse_other_base
from arguments import ArgumentMistake, parse_arguments
from machine import Machine
from options.finetuning import find_mistakes

from tests.train.attempts import run_attempt, run_preempted

pytestmark = pytest.mark.train

QUICK = {"max_steps": 12, "logging_steps": 5, "eval_steps": 5, "save_steps": 4}


def adapter_bytes(trial, step=12):
    return (trial.checkpoints / f"checkpoint-{step}" / "adapter_model.safetensors").read_bytes()


def logits_of(directory):
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model.eval()(torch.arange(5, 45).reshape(2, 20)).logits


@pytest.mark.parametrize(
    "arguments",
    [
        {"finetuning": "lora", "gradient_accumulation_steps": 2},
        {"finetuning": "lora", "model": "tiny-llama", "lora_dropout": 0.1, "lora_variant": "dora"},
        {"finetuning": "qlora", "model": "tiny-llama", "lora_dropout": 0.1},
        {"finetuning": "qlora"},
    ],
    ids=["lora-experts", "dora", "qlora", "qlora-experts"],
)
def test_preempted_trial_equals_uninterrupted(make_trial, arguments):
    whole = make_trial("whole", **QUICK, **arguments)
    assert run_attempt(whole) == 0
    # At 10 an evaluation is owed; 7 lies between two saves and two reports.
    cut = run_preempted(make_trial("cut", **QUICK, **arguments), 7, 10)
    assert adapter_bytes(cut) == adapter_bytes(whole)
    assert cut.curve() == whole.curve()
    saved = {path.name for path in (cut.checkpoints / "checkpoint-12").iterdir()}
    assert {"adapter_config.json", "base.json"} < saved
    assert not {"model.safetensors", "pytorch_model.bin", "README.md"} & saved


@pytest.mark.parametrize("finetuning", ["lora", "qlora"])
@pytest.mark.parametrize("model", ["tiny-deepseek", "tiny-llama"])
def test_merged_model_computes_what_the_adapters_do(train_here, finetuning, model):
    import transformers
    from peft import PeftModel

    arguments = {"finetuning": finetuning, "model": model, "learning_rate": 1e-2}
    trial = train_here("a", merge_adapters=True, max_steps=6, **arguments)
    merged = trial.checkpoints / "merged" / "checkpoint-6"
    assert json.loads((merged / "COMPLETE.json").read_text())["logits_differ_by"] < 1e-5
    assert (merged / "tokenizer.json").is_file()
    if finetuning == "lora":
        # As someone would load it elsewhere: the base's weights, and the adapters by peft.
        start = train_here("start", model=model, max_steps=1, learning_rate=0)
        base = transformers.AutoModelForCausalLM.from_pretrained(
            start.checkpoints / "checkpoint-1", dtype=torch.float32
        )
        adapted = PeftModel.from_pretrained(base, trial.checkpoints / "checkpoint-6").eval()
        with torch.no_grad():
            expected = adapted(torch.arange(5, 45).reshape(2, 20)).logits
        torch.testing.assert_close(logits_of(merged), expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(
            expected, logits_of(start.checkpoints / "checkpoint-1"), atol=1e-3
        )


def test_all_but_the_head_gets_an_adapter(train_here):
    trial = train_here("a", finetuning="lora", max_steps=1)
    names = safetensors.torch.load(adapter_bytes(trial, 1)).keys()
    layers = {name.partition(".lora_")[0].removeprefix("base_model.model.model.") for name in names}
    attention = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
    assert layers == {
        *(f"layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in attention),
        *(f"layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")),
        *(f"layers.1.mlp.shared_experts.{name}_proj" for name in ("gate", "up", "down")),
        "layers.1.mlp.experts",  # down_proj of all experts
        "layers.1.mlp.experts.base_layer",  # gate_up_proj of all experts
    }


def test_recomputed_activations_change_nothing(train_here):
    arguments = {"finetuning": "lora", "max_steps": 3, "model": "tiny-llama"}
    plain = train_here("plain", **arguments)
    again = train_here("again", gradient_checkpointing=True, **arguments)
    left, right = (safetensors.torch.load(adapter_bytes(t, 3)) for t in (plain, again))
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.parametrize("finetuning", ["lora", "qlora"])
def test_model_directory_is_a_base(train_here, finetuning):
    base = train_here("base", max_steps=30, learning_rate=5e-3)
    directory = str(base.checkpoints / "checkpoint-30")
    trial = train_here(
        "own", model=directory, finetuning=finetuning, max_steps=4, merge_adapters=True
    )
    # It goes on from the trained base, not from random weights.
    start = base.last()["eval_loss"]
    assert trial.last()["eval_loss"] == pytest.approx(start, abs=0.3)
    assert (trial.checkpoints / "merged" / "checkpoint-4" / "model.safetensors").is_file()


def test_adapters_of_another_base_are_refused(make_trial, cache_dir, monkeypatch):
    from data import load_data
    from models import build_model

    def build(**changes):
        options = {**trial.arguments, "seed": 3, **changes}
        arguments = parse_arguments([f"--{key}={value}" for key, value in options.items()])
        torch.manual_seed(arguments.seed)
        return build_model(arguments, load_data(arguments))

    trial = make_trial("a", finetuning="lora", max_steps=2)
    assert run_attempt(trial) == 0
    checkpoint = trial.checkpoints / "checkpoint-2"
    monkeypatch.setenv("TRAIN_CACHE", str(cache_dir))
    refuse_other_base(build(), checkpoint)
    with pytest.raises(
        OtherBase, match=r"another base \(tiny-deepseek, seed 3\), this is .* seed 4"
    ):
        refuse_other_base(build(seed=4), checkpoint)
    with pytest.raises(OtherBase, match="another base"):
        refuse_other_base(build(finetuning="qlora"), checkpoint)
    with pytest.raises(OtherBase, match="has no adapters"):
        refuse_other_base(build(), trial.root)
    with pytest.raises(OtherBase, match="not those of this training"):
        load(build(lora_rank=4), str(checkpoint))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--merge_adapters=true"], "--merge_adapters=true: with --finetuning=full there are no"),
        (["--finetuning=lora", "--lora_dropout=0.1"], "--lora_dropout=0.1: peft knows no dropout"),
        (["--finetuning=lora", "--lora_variant=dora"], "--lora_variant=dora: peft knows no DoRA"),
        (["--finetuning=lora", "--lora_dropout=1"], "--lora_dropout=1.0: use 0 to 1"),
        (["--finetuning=lora", "--lora_rank=0"], "--lora_rank=0: use a number of at least 1"),
        (["--finetuning=lore"], "--finetuning=lore: not known; allowed: full, lora, qlora"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(words, found):
    with pytest.raises(ArgumentMistake) as caught:
        parse_arguments(words)
    assert str(caught.value).startswith(found)


def test_zero3_is_refused_with_four_bits_and_merging(tmp_path):
    config = tmp_path / "zero3.json"
    config.write_text('{"zero_optimization": {"stage": 3}}')
    words = [f"--deepspeed={config}", "--model=tiny-llama"]
    arguments = parse_arguments([*words, "--finetuning=lora"])
    assert list(find_mistakes(arguments, Machine())) == []
    with pytest.raises(ArgumentMistake, match="--finetuning=qlora: not with ZeRO stage 3"):
        parse_arguments([*words, "--finetuning=qlora"])
    with pytest.raises(ArgumentMistake, match="--merge_adapters=true: not with ZeRO stage 3"):
        parse_arguments([*words, "--finetuning=lora", "--merge_adapters=true"])


class Small(torch.nn.Module):
    """A mixture of experts as transformers 5 holds it, without the rest."""

    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(4, 4)
        self.up_proj = torch.nn.Linear(4, 4)
        self.lm_head = torch.nn.Linear(4, 9)
        self.experts = torch.nn.Module()
        self.experts.up_proj = torch.nn.Parameter(torch.zeros(2, 4, 4))

    def get_output_embeddings(self):
        return self.lm_head


def test_targets_by_name():
    def choose(*words):
        found = choose_targets(Small(), parse_arguments(["--model=tiny-llama", *words]))
        return found.modules, found.parameters, found.left_out

    assert choose() == (["q_proj"], ["experts.up_proj", "up_proj.weight"], [])
    assert choose("--finetuning=qlora") == (["q_proj"], ["experts.up_proj"], ["up_proj"])
    assert choose("--lora_targets=q_proj", "--lora_dropout=0.1") == (["q_proj"], [], [])
    assert choose("--lora_targets=experts.up_proj") == ([], ["experts.up_proj"], [])
    with pytest.raises(ArgumentMistake, match="ends in 'k_proj'; this model has q_proj, up_proj"):
        choose("--lora_targets=q_proj,k_proj")
    with pytest.raises(ArgumentMistake, match="such as q_proj"):
        choose("--lora_dropout=0.1")


def test_fingerprint_tells_weights_apart():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 2))
    first = fingerprint_base(model)
    assert fingerprint_base(model) == first
    with torch.no_grad():
        model[0].weight[-1, -1] += 1e-6
    assert fingerprint_base(model) != first


@pytest.mark.slow
def test_lora_under_zero2_on_two_ranks_resumes(make_trial):
    import signal
    import sys

    launch = (sys.executable, "train/launch.py", "--ranks=2")
    arguments = {
        "finetuning": "lora",
        "deepspeed": "train/deepspeed/zero2.json",
        "max_steps": 30,
        "logging_steps": 1,
        "merge_adapters": True,
    }
    whole = make_trial("whole", **arguments).run(*launch)
    cut = make_trial("cut", **arguments)
    process = cut.start(*launch, slow_after=14)
    cut.wait_for_step(process, 14)
    os.kill(process.pid, signal.SIGUSR2)
    assert process.wait(timeout=300) == 75, cut.log()
    cut.run(*launch)
    assert cut.curve() == whole.curve()
    assert adapter_bytes(cut, 30) == adapter_bytes(whole, 30)
    # Never the base: neither beside the adapters nor in DeepSpeed's own files.
    large = [p for p in (cut.checkpoints / "checkpoint-30").rglob("*") if p.stat().st_size > 6e5]
    assert large == []

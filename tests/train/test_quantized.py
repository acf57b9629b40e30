"""The same weights in fewer bits: what they take, what they answer, how they compare."""

import json
import sys

import pytest
import torch
from arguments import ArgumentMistake, Arguments, parse_arguments
from machine import Machine

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def built(cache_dir):
    """A model of each architecture, and the data."""
    from data import load_data
    from models import build_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAIN_CACHE", str(cache_dir))
        made = {}
        for name in ("tiny-deepseek", "tiny-llama"):
            arguments = Arguments(model=name, seq_len=32)
            data = load_data(arguments)
            torch.manual_seed(0)
            made[name] = (build_model(arguments, data).eval(), data)
        return made


def logits_of(model, data):
    batch = torch.from_numpy(data.eval.ids[:64].astype("int64")).reshape(2, 32)
    with torch.no_grad():
        return model(input_ids=batch).logits.float()


@pytest.mark.parametrize("name", ["tiny-deepseek", "tiny-llama"])
def test_formats_shrink_the_weights_and_keep_the_answers(built, name):
    import quantized

    model, data = built[name]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    exact = logits_of(model, data)
    sizes, errors = [], []
    for format_ in quantized.FORMATS:
        copy = quantized.convert(model, format_)
        assert not any(p.is_meta for p in (*copy.parameters(), *copy.buffers()))
        sizes.append(quantized.weight_bytes(copy))
        # On average: where rounding leads a token to another expert, its numbers are others.
        errors.append(float((logits_of(copy, data) - exact).abs().mean() / exact.abs().mean()))
    assert errors[0] == 0, "fp32 is a copy"
    assert sizes[0] == quantized.weight_bytes(model)
    # Some buffers stay in fp32. Embeddings are more than a third of these models, and stay in bf16.
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3]
    assert 0 < errors[1] < 0.1
    assert errors[2] < 0.2
    assert errors[2] < errors[3] < 0.8
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())


def test_sizes_are_what_the_bits_say(built):
    import quantized

    model, _ = built["tiny-deepseek"]
    kept = model.get_output_embeddings()
    n_linear = sum(
        module.weight.numel()
        for module in model.modules()
        if type(module) is torch.nn.Linear and module is not kept
    )
    n_experts = sum(p.numel() for p in model.parameters() if p.dim() == 3)
    n_all = sum(p.numel() for p in model.parameters())
    rest = 2 * (n_all - n_linear - n_experts)
    assert n_experts > 0
    for format_, bits in quantized.BITS.items():
        weights = (n_linear + n_experts) * bits / 8
        size = quantized.weight_bytes(quantized.convert(model, format_))
        assert weights + rest < size < 1.35 * (weights + rest), "scales are the difference"


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("tiny-llama", {"target_modules": ["q_proj", "down_proj"]}),
        (
            "tiny-deepseek",
            {
                "target_modules": ["o_proj"],
                "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
            },
        ),
    ],
)
def test_adapters_are_merged_for_a_copy_and_answer_as_they_are(built, name, targets):
    import copy

    import peft
    import quantized
    import scoring
    from prompts import Prompt
    from tokenizer import load_tokenizer

    model, data = built[name]
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **targets)
    adapted = peft.get_peft_model(copy.deepcopy(model), config).eval()
    exact = logits_of(adapted, data)
    assert not torch.allclose(exact, logits_of(model, data), atol=1e-2)
    with quantized.merged(adapted) as whole:
        assert quantized.weight_bytes(whole) == quantized.weight_bytes(model)
        made = {bits: quantized.convert(whole, bits) for bits in ("fp32", "8bit")}
    torch.testing.assert_close(logits_of(made["fp32"], data), exact, atol=1e-3, rtol=1e-3)
    assert type(made["8bit"]) is type(model)
    torch.testing.assert_close(logits_of(adapted, data), exact, atol=1e-3, rtol=1e-3)
    tokenizer = load_tokenizer(data.tokenizer_dir)
    prompts = [Prompt("p1", ({"role": "user", "content": "What is 1 plus 2?"},), "3")]
    questions = scoring.encode_prompts(prompts, tokenizer)
    rows = scoring.score_responses(adapted, tokenizer, questions, {}, batch_size=1)
    assert scoring.summarize(rows)["response_score_n"] == 1


def test_trial_reports_loss_and_size_in_fewer_bits(train_here):
    trial = train_here("a", max_steps=4, eval_quantized="8bit,4bit")
    last = trial.last()
    assert last["eval_loss_8bit"] == pytest.approx(last["eval_loss"], abs=0.02)
    assert last["eval_loss_4bit"] == pytest.approx(last["eval_loss"], abs=0.2)
    sizes = [last[f"model_size_mb{suffix}"] for suffix in ("", "_8bit", "_4bit")]
    assert sizes == sorted(sizes, reverse=True)
    plain = train_here("b", max_steps=4)
    assert plain.weights() == trial.weights()
    assert "model_size_mb" not in plain.last()


def test_checkpoint_is_compared_in_one_table(train_here, tmp_path, capsys):
    import compare_quantized

    rows = [{"prompt": f"What is {i}?", "response": f"It is {i}."} for i in range(200)]
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trial = train_here("a", max_steps=4, data=str(mine))
    capsys.readouterr()
    file = tmp_path / "found.json"
    arguments = [
        f"--checkpoint={trial.checkpoints}",
        f"--data={mine}",
        "--seq_len=32",
        "--generate_tokens=2",
        "--device=cpu",
    ]
    scored = [*arguments, "--response_score_prompts=2", f"--json={file}"]
    assert compare_quantized.main(scored) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["fp32", "bf16", "8bit", "4bit"]
    assert lines[3].startswith("size MB ")
    assert lines[-1].startswith("response score ")
    assert max(map(len, lines[1:])) <= 80
    found = json.loads(file.read_text())
    rows = {row["format"]: row for row in found["formats"]}
    assert rows["fp32"]["eval_loss"] == pytest.approx(trial.last()["eval_loss"], rel=1e-6)
    assert rows["bf16"]["size_ratio"] == pytest.approx(0.5, rel=0.01)
    assert rows["4bit"]["size_mb"] < rows["8bit"]["size_mb"] < rows["bf16"]["size_mb"]
    for row in rows.values():
        difference = row["eval_loss"] - rows["fp32"]["eval_loss"]
        assert row["eval_loss_difference"] == difference
        assert row["eval_tokens_per_second"] > 0
        assert row["generated_tokens_per_second"] > 0
        assert 0 <= row["response_score"] <= 5
    assert compare_quantized.main([*arguments, "--formats=bf16", "--json=-"]) == 0
    assert [row["format"] for row in json.loads(capsys.readouterr().out)["formats"]] == ["bf16"]


def test_classifier_is_measured_by_its_own_metrics(train_here, capsys):
    import compare_quantized

    task = {"task": "classification", "data": "pairs", "seq_len": 64}
    trial = train_here("a", max_steps=2, eval_quantized="4bit", **task)
    last = trial.last()
    assert last["eval_loss_4bit"] == pytest.approx(last["eval_loss"], abs=0.2)
    assert 0 <= last["eval_accuracy_4bit"] <= 1
    capsys.readouterr()
    words = [f"--{name}={value}" for name, value in task.items()]
    words += [f"--checkpoint={trial.checkpoints}", "--formats=fp32,8bit", "--device=cpu"]
    assert compare_quantized.main(words) == 0
    table = capsys.readouterr().out
    assert "\naccuracy " in table
    assert "generated" not in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--checkpoint=/nowhere"], "neither a model's directory nor one of complete checkpoints"),
        ([], "the following arguments are required: --checkpoint"),
        (["--checkpoint=MODEL", "--formats=fp8"], "--formats=fp8: allowed are fp32, bf16, 8bit"),
        (["--checkpoint=MODEL", "--json=/nowhere/x.json"], "x.json: no file can be written there"),
        (["--checkpoint=MODEL", "--json=MODEL"], "no file can be written there; name another"),
        (["--checkpoint=MODEL", "--device=tpu"], "--device=tpu: not here; use cpu"),
        (["--checkpoint=MODEL", "--seq_len=1"], "--seq_len=1: use a number of at least 2"),
        (["--checkpoint=MODEL", "--generate_tokens=0"], "--generate_tokens=0: use at least 1"),
    ],
)
def test_comparison_that_cannot_be_made_is_refused_in_a_line(tmp_path, capsys, words, said):
    import compare_quantized

    (tmp_path / "config.json").write_text("{}")
    for name in ("pytorch_model.bin", "tokenizer.json"):
        (tmp_path / name).touch()
    argv = [word.replace("MODEL", str(tmp_path)) for word in words]
    assert compare_quantized.main(argv) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_formats_are_known_without_torch():
    import compare_quantized
    import quantized

    assert quantized.FORMATS == compare_quantized._FORMATS


def test_wrong_formats_are_refused_before_training(monkeypatch, tmp_path):
    from options.evaluation import find_mistakes

    with pytest.raises(ArgumentMistake, match=r"fp8: not known; allowed: 8bit, 4bit"):
        parse_arguments(["--eval_quantized=8bit,fp8"])
    zero3 = tmp_path / "zero3.json"
    zero3.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(ArgumentMistake, match="not with ZeRO stage 3"):
        parse_arguments(["--eval_quantized=4bit", f"--deepspeed={zero3}"])
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    arguments = Arguments(eval_quantized="4bit")
    on_node = list(find_mistakes(arguments, Machine(1, has_gpu=False, is_here=True)))
    assert on_node == [
        "--eval_quantized=4bit: bitsandbytes is not installed; make setup-train installs it "
        "(on Linux)"
    ]
    for elsewhere in (Machine(), Machine(1, has_gpu=True)):
        found = list(find_mistakes(arguments, elsewhere))
        assert found == [], "a login node needs no bitsandbytes"

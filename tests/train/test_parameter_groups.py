"""Parameter groups: every trainable parameter exactly once, each with its learning rate."""

import pytest
import torch
from arguments import ArgumentMistake
from options.optimizer import OPTIMIZERS, OptimizerOptions
from parameter_groups import find_trained, group_parameters, holds_matrices
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

LLAMA = {
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
}


def llama(*, tied=False):
    return LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=tied))


def llama_classifier():
    return LlamaForSequenceClassification(LlamaConfig(**LLAMA, num_labels=2))


def bert_classifier():
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return BertForSequenceClassification(config)


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2))


def llama_with_adapters():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(llama(), config)


MODELS = {
    "llama": llama,
    "tied": lambda: llama(tied=True),
    "llama_classifier": llama_classifier,
    "bert_classifier": bert_classifier,
    "gpt2": gpt2,
    "adapters": llama_with_adapters,
    "plain": lambda: torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)),
}


def rates(model, **options):
    """Give the learning rate of each trainable parameter by its name."""
    groups = group_parameters(model, OptimizerOptions(learning_rate=1.0, **options))
    by_id = {id(p): group["lr"] for group in groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("one_each", [False, True])
@pytest.mark.parametrize("splits_hidden", [False, True])
@pytest.mark.parametrize("has_ratios", [False, True])
def test_every_trainable_parameter_is_in_one_group(model, one_each, splits_hidden, has_ratios):
    built = MODELS[model]()
    options = OptimizerOptions()
    if has_ratios and model != "plain":
        options = OptimizerOptions(layer_lr_decay=0.5)
    groups = group_parameters(built, options, one_each=one_each, splits_hidden=splits_hidden)
    grouped = [id(p) for group in groups for p in group["params"]]
    trainable = [id(p) for p in built.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    assert len(set(grouped)) == len(grouped)
    assert all(group["params"] for group in groups)
    for group in groups:
        assert {p.ndim >= 2 for p in group["params"]} == {holds_matrices(group)}
        assert group["weight_decay"] == (options.weight_decay if holds_matrices(group) else 0.0)


def test_without_ratios_the_groups_are_matrices_then_vectors():
    model = llama(tied=True)
    decayed, others = group_parameters(model, OptimizerOptions(learning_rate=0.1))
    assert [id(p) for p in decayed["params"]] == [id(p) for p in model.parameters() if p.ndim == 2]
    assert [id(p) for p in others["params"]] == [id(p) for p in model.parameters() if p.ndim == 1]
    assert decayed["lr"] == others["lr"] == 0.1


def test_frozen_parameters_are_left_out():
    model = llama()
    model.model.embed_tokens.requires_grad_(False)
    assert "model.embed_tokens.weight" not in rates(model)
    model.requires_grad_(False)
    with pytest.raises(ArgumentMistake, match="no trainable parameter"):
        rates(model)


@pytest.mark.parametrize(
    ("model", "embeddings", "head"),
    [
        ("llama", {"model.embed_tokens.weight"}, {"lm_head.weight"}),
        ("tied", {"model.embed_tokens.weight"}, set()),
        ("llama_classifier", {"model.embed_tokens.weight"}, {"score.weight"}),
        (
            "bert_classifier",
            {
                "bert.embeddings.word_embeddings.weight",
                "bert.embeddings.position_embeddings.weight",
                "bert.embeddings.token_type_embeddings.weight",
                "bert.embeddings.LayerNorm.weight",
                "bert.embeddings.LayerNorm.bias",
            },
            {"classifier.weight", "classifier.bias"},
        ),
        ("gpt2", {"transformer.wte.weight", "transformer.wpe.weight"}, set()),
        ("adapters", set(), set()),
    ],
)
def test_embeddings_and_head_are_found(model, embeddings, head):
    trained = find_trained(MODELS[model]())
    assert {item.name for item in trained if item.part == "embedding"} == embeddings
    assert {item.name for item in trained if item.part == "head"} == head


def test_ratios_multiply_the_rate_of_their_part():
    found = rates(llama(), embedding_lr_ratio=0.25, head_lr_ratio=4.0)
    assert found.pop("model.embed_tokens.weight") == 0.25
    assert found.pop("lm_head.weight") == 4.0
    assert set(found.values()) == {1.0}


def test_a_tied_head_follows_the_embeddings():
    assert rates(llama(tied=True), embedding_lr_ratio=0.25)["model.embed_tokens.weight"] == 0.25


@pytest.mark.parametrize("model", ["llama", "bert_classifier"])
def test_layers_decay_from_the_top(model):
    found = rates(MODELS[model](), layer_lr_decay=0.5)
    expected = {"layers.0.": 0.25, "layer.0.": 0.25, "layers.1.": 0.5, "layer.1.": 0.5}
    expected.update({"embed": 0.125})
    for name, rate in found.items():
        assert rate == next((r for part, r in expected.items() if part in name), 1.0), name


def test_adapters_decay_by_the_layers_of_their_model():
    found = rates(llama_with_adapters(), layer_lr_decay=0.5)
    assert len(found) == 8  # A and B on two projections of two layers
    assert {rate for name, rate in found.items() if "layers.0." in name} == {0.25}
    assert {rate for name, rate in found.items() if "layers.1." in name} == {0.5}


def test_the_rate_itself_comes_first_for_it_is_reported():
    model = llama()
    options = OptimizerOptions(
        learning_rate=1.0, layer_lr_decay=0.5, head_lr_ratio=2.0, embedding_lr_ratio=3.0
    )
    assert group_parameters(model, options)[0]["lr"] == 1.0


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("tied", {"head_lr_ratio": 2.0}, "--head_lr_ratio=2: no head of its own is trained"),
        ("adapters", {"embedding_lr_ratio": 0.5}, "--embedding_lr_ratio=0.5: no embedding of its"),
        ("plain", {"layer_lr_decay": 0.9}, "--layer_lr_decay=0.9: no numbered layers"),
    ],
)
def test_a_ratio_for_what_is_not_there_is_refused(model, options, message):
    with pytest.raises(ArgumentMistake, match=message):
        rates(MODELS[model](), **options)


def test_only_muon_marks_groups():
    for name in OPTIMIZERS:
        groups = group_parameters(llama(), OptimizerOptions(), splits_hidden=name == "muon")
        assert any("use_muon" in group for group in groups) == (name == "muon")


def test_muon_has_the_hidden_matrices():
    model = llama()
    groups = group_parameters(model, OptimizerOptions(), splits_hidden=True)
    hidden = {id(p) for group in groups if group["use_muon"] for p in group["params"]}
    assert {name for name, p in model.named_parameters() if id(p) in hidden} == {
        name for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name
    }

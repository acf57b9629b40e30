"""FLOPs per token by formula equal those that torch counts while it trains."""

import dataclasses

import numpy as np
import pytest
import torch
from arguments import Arguments
from flops import TokenCost, flops_per_token, token_cost, typical_seq_len
from tasks import Task, find_task
from torch.utils.flop_counter import FlopCounterMode

SEQ_LEN = 64


@dataclasses.dataclass
class FakeData:
    vocab_size: int = 500
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    labels: tuple = ()
    task: Task = dataclasses.field(default_factory=lambda: find_task("sft"))


def build(model):
    import models

    torch.manual_seed(0)
    built = models.build_model(Arguments(model=model), FakeData())
    # The counter does not know the CPU's fused attention, nor grouped matrix products.
    built.set_attn_implementation("eager")
    built.set_experts_implementation("eager")
    return built.train()


def counted_per_token(model):
    ids = torch.randint(3, 500, (4, SEQ_LEN))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    return counter.get_total_flops() / ids.numel()


def by_formula(model):
    return flops_per_token(token_cost(model), SEQ_LEN)


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-deepseek"])
def test_formula_equals_what_torch_counts(model):
    built = build(model)
    assert by_formula(built) == pytest.approx(counted_per_token(built), rel=1e-3)


def test_frozen_weights_need_no_gradient_of_their_own():
    peft = pytest.importorskip("peft")
    whole = token_cost(build("tiny-llama"))
    model = peft.get_peft_model(
        build("tiny-llama"), peft.LoraConfig(r=4, target_modules="all-linear")
    )
    cost = token_cost(model)
    assert cost.frozen == whole.trained
    assert cost.attention_width == whole.attention_width
    assert cost.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert by_formula(model) == pytest.approx(counted_per_token(model), rel=0.05)


def test_quantised_weights_count_as_what_they_stand_for():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(64, 32, bias=False)
    layer.weight = bitsandbytes.nn.Params4bit(torch.zeros(1024, 1, dtype=torch.uint8), False)
    assert token_cost(torch.nn.Sequential(layer)) == TokenCost(0.0, 64.0 * 32, 0.0)


def test_only_the_chosen_share_of_experts_counts():
    model = build("tiny-deepseek")
    before = token_cost(model).trained
    model.config.num_experts_per_tok *= 2  # of 4
    n_routed = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert token_cost(model).trained - before == n_routed / 2


def test_formula_by_hand():
    # PaLM, appendix B: 6 N + 12 L H Q T.
    cost = TokenCost(trained=100.0, frozen=0.0, attention_width=2 * 4 * (16 + 16))
    assert flops_per_token(cost, 128) == 6 * 100 + 12 * 2 * 4 * 16 * 128
    assert flops_per_token(TokenCost(0.0, 100.0, 0.0), 128) == 400


def test_typical_length_is_that_of_the_mean_token():
    assert typical_seq_len(np.array([1, 3])) == (1 + 9) / 4
    assert typical_seq_len(np.array([], dtype=int)) == 0

"""Parameter groups, and LAMB against the paper's formula by hand."""

import math

import optimizers
import pytest
import torch


def small_model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_vectors_do_not_decay(name):
    model = small_model()
    optimizer = optimizers.build_optimizer(name, model, 1e-3, 0.1)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {n: decay[id(p)] for n, p in model.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def lamb_by_hand(weights, gradients, learning_rate, weight_decay, n_steps):
    """LAMB of arXiv 1904.00962 without bias correction, on lists of numbers."""
    m, v = [0.0] * len(weights), [0.0] * len(weights)
    for _ in range(n_steps):
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradients, strict=True)]
        update = [
            a / (math.sqrt(b) + 1e-6) + weight_decay * w
            for a, b, w in zip(m, v, weights, strict=True)
        ]
        weight_norm = min(math.hypot(*weights), 10.0)
        ratio = weight_norm / (math.hypot(*update) + 1e-6)
        weights = [w - learning_rate * ratio * u for w, u in zip(weights, update, strict=True)]
    return weights


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_lamb_by_hand(is_sharded, n_steps):
    weights, gradients = [0.5, -1.0, 2.0, 0.25], [0.1, 0.2, -0.3, 0.05]
    model = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(weights).view(2, 2))
    optimizer = optimizers.build_optimizer("lamb", model, 0.01, 0.1, is_sharded=is_sharded)
    for _ in range(n_steps):
        model.weight.grad = torch.tensor(gradients).view(2, 2)
        optimizer.step()
    expected = lamb_by_hand(weights, gradients, 0.01, 0.1, n_steps)
    assert model.weight.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_first_lamb_step_is_one_learning_rate_long():
    # With pytorch_optimizer's default it would be ten.
    model = torch.nn.Linear(4, 4, bias=False)
    before = model.weight.detach().clone()
    optimizer = optimizers.build_optimizer("lamb", model, 0.01, 0.0)
    model.weight.grad = torch.randn(4, 4)
    optimizer.step()
    length = (model.weight - before).norm() / before.norm()
    assert length.item() == pytest.approx(0.01, rel=1e-3)

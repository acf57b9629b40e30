"""Every optimizer step by step against its paper's formula, written here once more, on its own."""

import concurrent.futures
import math
import threading

import optimizers
import pytest
import torch
from muon import MuonWithAdamW, orthogonalise
from options.optimizer import OPTIMIZERS, OptimizerOptions


def small_model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))


def build(name, model, lr=0.01, weight_decay=0.1, *, is_sharded=False, **options):
    arguments = OptimizerOptions(
        optimizer=name, learning_rate=lr, weight_decay=weight_decay, **options
    )
    return optimizers.build_optimizer(arguments, model, is_sharded=is_sharded)


def gradients(shape, n_steps, seed=1):
    torch.manual_seed(seed)
    return [torch.randn(shape) for _ in range(n_steps)]


def train_matrix(name, start, grads, **options):
    """Step a lone matrix, as a model without bias; give its values after each step."""
    model = torch.nn.Linear(start.shape[1], start.shape[0], bias=False)
    with torch.no_grad():
        model.weight.copy_(start)
    optimizer = build(name, model, **options)
    values = []
    for grad in grads:
        model.weight.grad = grad.clone()
        optimizer.step()
        values.append(model.weight.detach().clone())
    return values


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_vectors_do_not_decay(name):
    model = small_model()
    optimizer = build(name, model)
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert {n: decay[id(p)] for n, p in model.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def lamb_by_hand(weights, grads, learning_rate, weight_decay, betas, eps):
    """LAMB of arXiv 1904.00962 without bias correction, on lists of numbers."""
    m, v = [0.0] * len(weights), [0.0] * len(weights)
    for gradient in grads:
        m = [betas[0] * a + (1 - betas[0]) * g for a, g in zip(m, gradient, strict=True)]
        v = [betas[1] * a + (1 - betas[1]) * g * g for a, g in zip(v, gradient, strict=True)]
        update = [
            a / (math.sqrt(b) + eps) + weight_decay * w
            for a, b, w in zip(m, v, weights, strict=True)
        ]
        weight_norm = min(math.hypot(*weights), 10.0)
        ratio = weight_norm / (math.hypot(*update) + eps)
        weights = [w - learning_rate * ratio * u for w, u in zip(weights, update, strict=True)]
        yield weights


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize(
    ("options", "betas", "eps"),
    [
        ({}, (0.9, 0.999), 1e-6),
        ({"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-3}, (0.8, 0.95), 1e-3),
    ],
)
def test_every_lamb_step_is_the_papers(is_sharded, options, betas, eps):
    start = torch.tensor([[0.5, -1.0], [2.0, 0.25]])
    grads = gradients((2, 2), 5)
    values = train_matrix("lamb", start, grads, is_sharded=is_sharded, **options)
    flat = [grad.flatten().tolist() for grad in grads]
    expected = lamb_by_hand(start.flatten().tolist(), flat, 0.01, 0.1, betas, eps)
    for value, by_hand in zip(values, expected, strict=True):
        assert value.flatten().tolist() == pytest.approx(by_hand, abs=2e-6)


def test_every_lamb_step_over_two_ranks_is_the_papers(monkeypatch):
    # ZeRO's cut: each rank has a flat piece of every tensor, and of a small one perhaps nothing.
    starts, decays = [torch.linspace(-1, 2, 24), torch.tensor([0.5, -0.25])], (0.1, 0.0)
    cuts = [slice(0, 10), slice(10, 24)], [slice(0, 2), slice(2, 2)]
    grads = [gradients((24,), 4), gradients((2,), 4, seed=2)]
    barrier, sums = threading.Barrier(2, timeout=300), {}

    def sum_over_ranks(values):
        sums[threading.get_ident()] = values
        barrier.wait()
        total = sum(sums.values())
        barrier.wait()
        return total

    monkeypatch.setattr(optimizers, "_sum_over_ranks", sum_over_ranks)

    def train_rank(rank):
        parts = [
            torch.nn.Parameter(start[cut[rank]].clone())
            for start, cut in zip(starts, cuts, strict=True)
        ]
        groups = [{"params": [p], "weight_decay": d} for p, d in zip(parts, decays, strict=True)]
        lamb = optimizers.ShardedLamb(groups, 0.01)
        seen = []
        for step in range(4):
            for part, cut, steps in zip(parts, cuts, grads, strict=True):
                part.grad = steps[step][cut[rank]].clone()
            lamb.step()
            seen.append([part.detach().clone() for part in parts])
        return seen

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(train_rank, (0, 1))
    for index, decay in enumerate(decays):
        flat = [grad.tolist() for grad in grads[index]]
        expected = lamb_by_hand(starts[index].tolist(), flat, 0.01, decay, (0.9, 0.999), 1e-6)
        for one, other, by_hand in zip(first, second, expected, strict=True):
            joined = torch.cat([one[index], other[index]])
            assert joined.tolist() == pytest.approx(by_hand, abs=2e-6)


def test_first_lamb_step_is_one_learning_rate_long():
    # With pytorch_optimizer's default it would be ten.
    start = torch.randn(4, 4)
    (after,) = train_matrix("lamb", start, gradients((4, 4), 1), weight_decay=0.0)
    assert ((after - start).norm() / start.norm()).item() == pytest.approx(0.01, rel=1e-3)


def test_every_adamw_step_is_the_papers():
    # arXiv 1711.05101, algorithm 2, in double precision.
    start, grads = torch.randn(3, 4), gradients((3, 4), 5)
    values = train_matrix("adamw", start, grads, adam_beta1=0.8, adam_beta2=0.95)
    weights, m, v = start.double(), torch.zeros(3, 4).double(), torch.zeros(3, 4).double()
    for t, (grad, value) in enumerate(zip(grads, values, strict=True), start=1):
        m = 0.8 * m + 0.2 * grad
        v = 0.95 * v + 0.05 * grad.double() ** 2
        adam = (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-8)
        weights = weights - 0.01 * (adam + 0.1 * weights)
        torch.testing.assert_close(value.double(), weights, atol=1e-6, rtol=0)


def test_fused_adamw_is_the_same_up_to_rounding():
    start, grads = torch.randn(3, 4), gradients((3, 4), 5)
    plain = train_matrix("adamw", start, grads, fused="false")
    fused = train_matrix("adamw", start, grads, fused="true")
    torch.testing.assert_close(plain, fused, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("fused", "on_gpu", "expected"),
    [("auto", False, None), ("auto", True, True), ("true", False, True), ("false", True, False)],
)
def test_adamw_is_fused_on_a_gpu_or_when_asked(fused, on_gpu, expected):
    arguments = OptimizerOptions(fused=fused)
    optimizer = optimizers.build_optimizer(arguments, small_model(), on_gpu=on_gpu)
    assert all(group["fused"] is expected for group in optimizer.param_groups)


def test_every_lion_step_is_the_papers():
    # arXiv 2302.06675, algorithm 2.
    start, grads = torch.randn(3, 4), gradients((3, 4), 5)
    values = train_matrix("lion", start, grads)
    weights, m = start.double(), torch.zeros(3, 4).double()
    for grad, value in zip(grads, values, strict=True):
        sign = (0.9 * m + 0.1 * grad).sign()
        weights = weights - 0.01 * (sign + 0.1 * weights)
        m = 0.99 * m + 0.01 * grad
        torch.testing.assert_close(value.double(), weights, atol=1e-6, rtol=0)


def test_every_sgd_step_has_momentum():
    start, grads = torch.randn(3, 4), gradients((3, 4), 5)
    values = train_matrix("sgd", start, grads, momentum=0.8)
    weights, buffer = start.double(), torch.zeros(3, 4).double()
    for grad, value in zip(grads, values, strict=True):
        buffer = 0.8 * buffer + (grad + 0.1 * weights)
        weights = weights - 0.01 * buffer
        torch.testing.assert_close(value.double(), weights, atol=1e-6, rtol=0)


def rms(tensor):
    return tensor.square().mean().sqrt()


def test_every_adafactor_step_is_the_papers():
    # arXiv 1804.04235, algorithms 4 and 6 (sums there, means here: their ratio is the same), with
    # the learning rate as the bound on the relative step and decoupled weight decay.
    start, grads = torch.randn(3, 4), gradients((3, 4), 5)
    values = train_matrix("adafactor", start, grads)
    weights = start.double()
    rows, columns = torch.zeros(3).double(), torch.zeros(4).double()
    for t, (grad, value) in enumerate(zip(grads, values, strict=True), start=1):
        square, beta2 = grad.double() ** 2, 1 - t**-0.8
        rows = beta2 * rows + (1 - beta2) * square.sum(dim=1)
        columns = beta2 * columns + (1 - beta2) * square.sum(dim=0)
        update = grad / (torch.outer(rows, columns) / rows.sum()).sqrt()
        update = update / max(1.0, rms(update))
        length = max(1e-3, rms(weights)) * min(0.01, t**-0.5)
        weights = weights - 0.01 * 0.1 * weights - length * update
        torch.testing.assert_close(value.double(), weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_every_muon_step_is_torchs(shape):
    start, grads = torch.randn(shape), gradients(shape, 5)
    values = train_matrix("muon", start, grads)
    reference = torch.nn.Parameter(start.clone())
    muon = torch.optim.Muon([reference], 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    for grad, value in zip(grads, values, strict=True):
        reference.grad = grad.clone()
        muon.step()
        # Both work in bfloat16 (8 bits), on steps of 0.01 x 0.2 x sqrt(6) at most.
        torch.testing.assert_close(value, reference.detach(), atol=5e-4, rtol=0)


def test_muon_brings_singular_values_near_one_and_keeps_directions():
    matrix = torch.randn(8, 5, generator=torch.Generator().manual_seed(3))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalise(matrix).float() @ v.T
    assert (inner.diagonal() > 0.6).all()
    assert (inner.diagonal() < 1.3).all()
    assert (inner - inner.diagonal().diag()).abs().max() < 0.05


def test_muon_takes_each_matrix_of_a_stack_by_itself():
    stack = torch.randn(3, 4, 6)
    whole = orthogonalise(stack)
    for one, matrix in zip(whole, stack, strict=True):
        torch.testing.assert_close(one, orthogonalise(matrix), atol=2e-2, rtol=0)


def test_muon_leaves_embedding_head_and_vectors_to_adamw():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {
            "embed_tokens": torch.nn.Embedding(5, 4),
            "layers": torch.nn.ModuleList([torch.nn.Linear(4, 4)]),
            "norm": torch.nn.LayerNorm(4),
            "lm_head": torch.nn.Linear(4, 5, bias=False),
        }
    )
    optimizer = build("muon", model)
    twin = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    others = {name: p for name, p in twin.items() if name != "layers.0.weight"}
    decayed = [p for p in others.values() if p.ndim >= 2]
    adamw = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.1},
            {"params": [p for p in others.values() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    for _ in range(3):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            twin[name].grad = parameter.grad.clone()
        optimizer.step()
        adamw.step()
    for name, parameter in model.named_parameters():
        is_same = torch.equal(parameter, twin[name])
        assert is_same == (name != "layers.0.weight"), name
    assert isinstance(optimizer, MuonWithAdamW)
    assert set(optimizer.state[model["layers"][0].weight]) == {"momentum_buffer"}

"""The optimizers by name, with parameter groups; LAMB also under DeepSpeed's ZeRO.

AdamW (arXiv 1711.05101), Adafactor (1804.04235) and SGD are torch's, LAMB (1904.00962) and Lion
(2302.06675) pytorch_optimizer's (the Trainer of transformers knows no LAMB), Muon is in ``muon``.

Under ZeRO every rank updates flat parts of the tensors: right for AdamW, Lion and SGD, which take
element by element; LAMB has ``ShardedLamb`` for stages 1 and 2; Adafactor and Muon need whole
matrices and are refused (``options.optimizer.sharding_mistake``), as all three are with tensor
parallelism. Fused AdamW on a GPU has not been measured here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from parameter_groups import group_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from options.optimizer import OptimizerOptions

# pytorch_optimizer's bound on the norm of the weights, phi of the paper's section 3.
LAMB_MAX_WEIGHT_NORM = 10.0


def build_optimizer(
    options: OptimizerOptions,
    model: torch.nn.Module,
    *,
    is_sharded: bool = False,
    on_gpu: bool = False,
) -> torch.optim.Optimizer:
    """Build the optimizer of ``--optimizer``.

    Args:
        options: The arguments, checked.
        model: The model whose parameters are trained.
        is_sharded: True under ZeRO 1 and 2, where each rank holds a part of every group.
        on_gpu: Whether it will step on a GPU: then AdamW is fused, unless told otherwise.

    Raises:
        ArgumentMistake: A ratio for a part of the model that is not trained.
    """
    name, lr = options.optimizer, options.learning_rate
    groups = group_parameters(
        model,
        options,
        one_each=is_sharded and name == "lamb",
        splits_hidden=name == "muon",
    )
    if name == "adamw":
        fused = {"auto": on_gpu or None, "true": True, "false": False}[options.fused]
        return torch.optim.AdamW(groups, lr, betas=_betas(options), eps=_eps(options), fused=fused)
    if name == "lamb":
        return _build_lamb(options, groups, is_sharded=is_sharded)
    if name == "adafactor":
        return torch.optim.Adafactor(groups, lr)
    if name == "lion":
        # Lazy here and below: importing pytorch_optimizer takes 0.4 s.
        from pytorch_optimizer.optimizer.lion import Lion

        return Lion(groups, lr, betas=_betas(options, beta2=0.99))
    if name == "muon":
        from muon import MuonWithAdamW

        momentum = _or_own(options.momentum, 0.95)
        return MuonWithAdamW(
            groups, lr, momentum=momentum, betas=_betas(options), eps=_eps(options)
        )
    if name == "sgd":
        return torch.optim.SGD(groups, lr, momentum=_or_own(options.momentum, 0.9))
    raise ValueError(f"no such optimizer: {name}")


def _build_lamb(
    options: OptimizerOptions, groups: list[dict[str, Any]], *, is_sharded: bool
) -> torch.optim.Optimizer:
    lr, betas, eps = options.learning_rate, _betas(options), _eps(options, 1e-6)
    if is_sharded:
        return ShardedLamb(groups, lr, betas, eps)
    from pytorch_optimizer.optimizer.lamb import Lamb

    return Lamb(
        groups,
        lr=lr,
        betas=betas,
        eps=eps,
        # Adds the decay to the update before the trust ratio, as the paper does.
        weight_decouple=False,
        # By default 4.1 divides the step by 1 - beta1^t after the trust ratio: the first steps
        # would be 10, 5.3, 3.7, ... times the learning rate, which undoes a warm-up.
        adam_debias=True,
    )


def _betas(options: OptimizerOptions, beta2: float = 0.999) -> tuple[float, float]:
    return _or_own(options.adam_beta1, 0.9), _or_own(options.adam_beta2, beta2)


def _eps(options: OptimizerOptions, own: float = 1e-8) -> float:
    return _or_own(options.adam_epsilon, own)


def _or_own(value: float, own: float) -> float:
    return own if value < 0 else value


class ShardedLamb(torch.optim.Optimizer):
    """LAMB for tensors that are split over ranks, as ZeRO 1 and 2 split each group.

    The trust ratio of a layer needs the norms of the whole layer; a rank has only a piece. So the
    squared norms of all pieces are summed over the ranks, in one small all-reduce per step. The
    update is that of ``build_optimizer``'s other LAMB, up to the order of sums.

    Each group must hold one tensor (``group_parameters(one_each=True)``).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
    ):
        """Set up; weight decay comes with the groups."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update the parameters that have gradients; every rank must have the same ones."""
        pieces = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    pieces.append((group, weight, self._adam_update(group, weight)))
        if not pieces:
            return
        squares = torch.stack(
            [t.float().square().sum() for _, weight, update in pieces for t in (weight, update)]
        )  # (2 x tensors,)
        # (tensors, 2): norm of the weights, norm of the update
        norms = _sum_over_ranks(squares).sqrt().view(-1, 2)
        weight_norms = norms[:, 0].clamp(max=LAMB_MAX_WEIGHT_NORM)
        eps = self.defaults["eps"]
        ratios = torch.where(
            (norms[:, 0] > 0) & (norms[:, 1] > 0), weight_norms / (norms[:, 1] + eps), 1.0
        )
        for (group, weight, update), ratio in zip(pieces, ratios, strict=True):
            weight.add_(update.mul_(ratio), alpha=-group["lr"])

    def _adam_update(self, group: dict[str, Any], weight: torch.Tensor) -> torch.Tensor:
        state = self.state[weight]
        if not state:
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(weight.grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
        update = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"])
        return update.add_(weight, alpha=group["weight_decay"])


def _sum_over_ranks(values: torch.Tensor) -> torch.Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    # NCCL reduces on GPUs only, and offloaded optimizer states live on the CPU.
    moved = values.cuda() if torch.distributed.get_backend() == "nccl" else values
    torch.distributed.all_reduce(moved)
    return moved.to(values.device)

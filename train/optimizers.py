"""AdamW and LAMB with parameter groups for weight decay, also under DeepSpeed's ZeRO.

The Trainer of transformers knows no LAMB (``--optim lamb`` is refused there), so it comes from
pytorch_optimizer. LAMB: arXiv 1904.00962.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8
LAMB_EPS = 1e-6
# pytorch_optimizer's bound on the norm of the weights, phi of the paper's section 3.
LAMB_MAX_WEIGHT_NORM = 10.0


def group_parameters(
    model: torch.nn.Module, weight_decay: float, *, one_each: bool = False
) -> list[dict[str, Any]]:
    """Group the trainable parameters: matrices decay, vectors (norms, biases) do not.

    Args:
        model: The model; tied weights count once.
        weight_decay: Weight decay of the matrices, per unit of learning rate.
        one_each: Put every tensor into a group of its own. ZeRO joins the tensors of a group into
            one flat tensor; a group each keeps the layers apart for LAMB.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trainable if p.ndim >= 2]
    others = [p for p in trainable if p.ndim < 2]
    if one_each:
        return [
            {"params": [p], "weight_decay": weight_decay if p.ndim >= 2 else 0.0}
            for p in (*decayed, *others)
        ]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def build_optimizer(
    name: str,
    model: torch.nn.Module,
    learning_rate: float,
    weight_decay: float,
    *,
    is_sharded: bool = False,
) -> torch.optim.Optimizer:
    """Build ``adamw`` or ``lamb``.

    Args:
        name: One of ``arguments.OPTIMIZERS``.
        model: The model whose parameters are trained.
        learning_rate: Peak learning rate.
        weight_decay: For matrices.
        is_sharded: True under DeepSpeed, where each rank holds a part of every group.
    """
    if name == "adamw":
        groups = group_parameters(model, weight_decay)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=ADAM_BETAS, eps=ADAM_EPS)
    groups = group_parameters(model, weight_decay, one_each=is_sharded)
    if is_sharded:
        return ShardedLamb(groups, lr=learning_rate)
    # Lazy: importing pytorch_optimizer takes 0.4 s.
    from pytorch_optimizer.optimizer.lamb import Lamb

    return Lamb(
        groups,
        lr=learning_rate,
        betas=ADAM_BETAS,
        eps=LAMB_EPS,
        # Adds the decay to the update before the trust ratio, as the paper does.
        weight_decouple=False,
        # By default 4.1 divides the step by 1 - beta1^t after the trust ratio: the first steps
        # would be 10, 5.3, 3.7, ... times the learning rate, which undoes a warm-up.
        adam_debias=True,
    )


class ShardedLamb(torch.optim.Optimizer):
    """LAMB for tensors that are split over ranks, as ZeRO 1 and 2 split each group.

    The trust ratio of a layer needs the norms of the whole layer; a rank has only a piece. So the
    squared norms of all pieces are summed over the ranks, in one small all-reduce per step. The
    update is that of ``build_optimizer``'s other LAMB, up to the order of sums.

    Each group must hold one tensor (``group_parameters(one_each=True)``).
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float):
        """Set up; weight decay comes with the groups."""
        super().__init__(params, {"lr": lr, "betas": ADAM_BETAS, "eps": LAMB_EPS})

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
        ratios = torch.where(
            (norms[:, 0] > 0) & (norms[:, 1] > 0), weight_norms / (norms[:, 1] + LAMB_EPS), 1.0
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

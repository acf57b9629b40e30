"""Muon for hidden matrices and AdamW for all else, as one optimizer that saves and resumes as one.

torch's Muon (2.13) takes matrices only and pytorch_optimizer's (4.1) flattens a stack of expert
matrices into one; here each matrix of a stack is orthogonalised by itself. Muon: Keller Jordan,
https://kellerjordan.github.io/posts/muon/; with the step length of Moonlight (arXiv 2502.16982,
equation 4), so that one learning rate and one weight decay suit both parts.

Not here: tensors cut over ranks (ZeRO, tensor parallel); ``options.optimizer`` refuses them.
"""

# In shapes: S matrices in a stack, M rows, N columns.

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.adamw import adamw

# Quintic iteration of the post above: the steepest at zero that stays bounded.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_N_ITERATIONS = 5
_MIN_NORM = 1e-7
# AdamW's updates have a root mean square of about 0.2 to 0.4 (Moonlight, section 2.2).
_RMS_OF_ADAMW = 0.2


@torch.no_grad()
def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Bring all singular values near 1 (0.7 to 1.2), in bfloat16.

    Args:
        matrices: (..., M, N), any leading dimensions.
    """
    x = matrices.bfloat16()
    is_tall = x.size(-2) > x.size(-1)
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_MIN_NORM)
    for _ in range(_N_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if is_tall else x


class MuonWithAdamW(torch.optim.Optimizer):
    """Steps groups marked ``use_muon`` by Muon, the others by torch's AdamW."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        """Set up; weight decay and ``use_muon`` come with the groups."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update the parameters that have gradients."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if group["use_muon"]:
                for weight in weights:
                    self._step_muon(group, weight)
            elif weights:
                self._step_adamw(group, weights)

    def _step_muon(self, group: dict[str, Any], weight: torch.Tensor) -> None:
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum, lr = group["momentum"], group["lr"]
        state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
        update = weight.grad.lerp(state["momentum_buffer"], momentum)  # Nesterov
        length = _RMS_OF_ADAMW * math.sqrt(max(weight.shape[-2:]))
        weight.mul_(1 - lr * group["weight_decay"])
        weight.add_(orthogonalise(update), alpha=-lr * length)

    def _step_adamw(self, group: dict[str, Any], weights: list[torch.Tensor]) -> None:
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(weight)
                state["exp_avg_sq"] = torch.zeros_like(weight)
        states = [self.state[weight] for weight in weights]
        adamw(
            weights,
            [weight.grad for weight in weights if weight.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

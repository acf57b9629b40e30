"""The exact loss over all answer tokens of a data set, and its perplexity.

Not a mean of batch means: batches hold different numbers of answer tokens.
"""

from __future__ import annotations

# B batch, T tokens, V vocabulary, N answer tokens of the batch
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from batches import collate
from tokenizer import IGNORED

if TYPE_CHECKING:
    from batches import Examples


class EvaluationStopped(Exception):
    """A preemption was asked for while evaluating."""


@torch.no_grad()
def evaluate_answers(
    model: torch.nn.Module,
    examples: Examples,
    *,
    batch_size: int,
    pad_id: int,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> float:
    """Return the mean negative log-likelihood in nats over all answer tokens.

    Every rank takes every ``world_size``-th batch, and all run the same number of batches, since
    a sharded model needs all ranks in each forward pass. No random number is drawn.

    Args:
        model: A causal language model.
        examples: The evaluation data.
        batch_size: Sequences per forward pass and rank.
        pad_id: Token id that fills short sequences.
        device: Where the model is.
        rank: This process.
        world_size: Number of processes.
        should_stop: Asked before each batch; all ranks must get the same answer.

    Raises:
        EvaluationStopped: ``should_stop`` said so.
    """
    was_training = model.training
    model.eval()
    order = np.argsort(-examples.lengths(), kind="stable")  # similar lengths: little padding
    n_batches = math.ceil(len(order) / batch_size)
    total = torch.zeros(2, dtype=torch.float64)  # summed loss in nats, number of answer tokens
    try:
        for first in range(0, n_batches, world_size):
            if should_stop():
                raise EvaluationStopped
            index = first + rank
            is_mine = index < n_batches
            chosen = order[index * batch_size : (index + 1) * batch_size] if is_mine else order[:1]
            batch = collate([examples[int(i)] for i in chosen], pad_id)
            labels = batch.pop("labels").to(device)  # (B, T)
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            logits = model(**batch).logits  # (B, T, V)
            if is_mine:
                total += sum_loss(logits, labels).cpu()
    finally:
        model.train(was_training)
    if world_size > 1:
        moved = total.to(device)
        torch.distributed.all_reduce(moved)
        total = moved.cpu()
    return float(total[0] / total[1])


def sum_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum the loss over the answer tokens; token t + 1 is predicted at position t.

    Returns:
        Two float64 numbers: loss in nats, and the number of answer tokens.
    """
    targets = labels[:, 1:]  # (B, T - 1)
    chosen = targets != IGNORED
    picked = logits[:, :-1][chosen].float()  # (N, V): the softmax only where it counts
    losses = torch.nn.functional.cross_entropy(picked, targets[chosen], reduction="none")  # (N,)
    return torch.stack([losses.double().sum(), chosen.sum().double()])


def perplexity(loss: float) -> float:
    """Return ``exp(loss)``; infinite where that overflows, NaN for NaN."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf

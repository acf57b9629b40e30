"""Exact evaluation: what a task measures, summed over all of a data set's tokens or pairs.

Not a mean of batch means: batches hold different numbers of labelled tokens. Sums are float64, so
the batch size and the number of ranks change the result by rounding only.
"""

from __future__ import annotations

# B batch, T tokens, V vocabulary, C classes, N labelled tokens of the batch
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tasks import find_task
from tokenizer import IGNORED

if TYPE_CHECKING:
    from batches import Examples
    from tasks import Task


class EvaluationStopped(Exception):
    """A preemption was asked for while evaluating."""


@torch.no_grad()
def sum_over(
    task: Task,
    model: torch.nn.Module,
    examples: Examples,
    *,
    batch_size: int,
    pad_id: int,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> torch.Tensor:
    """Sum what a task measures over a data set, each example once.

    Every rank takes every ``world_size``-th batch, and all run the same number of batches, since
    a sharded model needs all ranks in each forward pass. No random number is drawn.

    Args:
        task: Says how examples are stacked and what is measured.
        model: A model of the task's class.
        examples: The evaluation data.
        batch_size: Sequences per forward pass and rank.
        pad_id: Token id that fills short sequences.
        device: Where the model is.
        rank: This process.
        world_size: Number of processes.
        should_stop: Asked before each batch; all ranks must get the same answer.

    Returns:
        ``task.measure`` summed over all batches and ranks: float64 numbers on the CPU.

    Raises:
        EvaluationStopped: ``should_stop`` said so.
    """
    was_training = model.training
    model.eval()
    order = np.argsort(-examples.lengths(), kind="stable")  # similar lengths: little padding
    n_batches = math.ceil(len(order) / batch_size)
    total = torch.zeros((), dtype=torch.float64)
    try:
        for first in range(0, n_batches, world_size):
            if should_stop():
                raise EvaluationStopped
            index = first + rank
            is_mine = index < n_batches
            chosen = order[index * batch_size : (index + 1) * batch_size] if is_mine else order[:1]
            batch = task.collate([examples[int(i)] for i in chosen], pad_id)
            labels = batch.pop("labels").to(device)  # (B, T) or (B,)
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            logits = model(**batch).logits  # (B, T, V) or (B, C)
            sums = task.measure(logits, labels).cpu()
            total = total + (sums if is_mine else torch.zeros_like(sums))
    finally:
        model.train(was_training)
    if world_size > 1:
        moved = total.to(device)
        torch.distributed.all_reduce(moved)
        total = moved.cpu()
    return total


def evaluate(
    task: Task, model: torch.nn.Module, examples: Examples, **options: Any
) -> dict[str, float]:
    """Return the task's metrics over a data set; arguments and exceptions as ``sum_over``."""
    return task.summarize(sum_over(task, model, examples, **options))


def evaluate_answers(model: torch.nn.Module, examples: Examples, **options: Any) -> float:
    """Return the mean negative log-likelihood in nats over all labelled tokens.

    Arguments and exceptions as ``sum_over``; the model predicts tokens.
    """
    return evaluate(find_task("sft"), model, examples, **options)["eval_loss"]


def sum_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum the loss over the labelled tokens; token t + 1 is predicted at position t.

    Returns:
        Two float64 numbers: loss in nats, and the number of labelled tokens.
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

"""Sequence packing: several examples in one row, apart from each other.

Padding is work thrown away; packing fills each row of ``seq_len`` tokens with whole examples. What
keeps them apart is their positions: each begins at 0 again, and where a batch has no attention
mask, transformers (5.23, ``masking_utils.find_packed_sequence_indices``) makes from such positions
a mask that is causal within each example and blind between them; flash attention takes the
examples' bounds from them. No example is cut. So the loss and its gradients are those of the padded
batch, up to the order of sums.

Examples are packed within a micro-batch only: which example belongs to which optimizer step does
not change, and the effective batch remains a number of sequences. A micro-batch of one sequence is
not packed, so use a larger one with fewer accumulation steps.

Not covered: models that take no ``position_ids`` or mix tokens by other means than attention
(state-space models, convolutions over time) would see across the bounds.
"""

from __future__ import annotations

# R rows, T tokens of a row
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tokenizer as tokenizers_
import torch
from batches import PAD_TO_MULTIPLE_OF

if TYPE_CHECKING:
    from arguments import Arguments
    from data import Data

N_TOKENS = "n_tokens"

Collate = Callable[[Sequence[Mapping[str, np.ndarray]]], dict[str, torch.Tensor]]


def pack_rows(lengths: Sequence[int], row_length: int | None) -> list[list[int]]:
    """Spread examples over rows by first-fit decreasing; the same lengths give the same rows.

    It needs at most 11/9 of the fewest possible rows, plus one (Johnson 1973).

    Args:
        lengths: Length of each example in tokens.
        row_length: Tokens that fit into a row; None: one row for all. A longer example gets a row
            of its own.

    Returns:
        The examples' indices of each row, in the order in which they stand there.
    """
    if row_length is None:
        return [list(range(len(lengths)))]
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):  # stable
        length = lengths[index]
        fitting = next((row for row, free in enumerate(room) if length <= free), None)
        if fitting is None:
            rows.append([index])
            room.append(row_length - length)
        else:
            rows[fitting].append(index)
            room[fitting] -= length
    return rows


def collate_packed(
    examples: Sequence[Mapping[str, np.ndarray]], *, pad_id: int, row_length: int | None
) -> dict[str, torch.Tensor]:
    """Pack examples into rows.

    Args:
        examples: Of one micro-batch.
        pad_id: Token id that fills rows.
        row_length: As of ``pack_rows``. One row for all is not padded: flash attention knows
            bounds in a single row only.

    Returns:
        A batch without an attention mask (see the module's docstring), and the number of its
        tokens without padding, which ``count_tokens`` takes out again.
    """
    lengths = [len(example["input_ids"]) for example in examples]
    rows = pack_rows(lengths, row_length)
    width = max(sum(lengths[index] for index in row) for row in rows)
    if row_length is not None:
        width = -(-width // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    shape = (len(rows), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)  # (R, T)
    labels = torch.full(shape, tokenizers_.IGNORED, dtype=torch.long)  # (R, T)
    position_ids = torch.zeros(shape, dtype=torch.long)  # (R, T), 0 where an example begins
    for at, row in enumerate(rows):
        start = 0
        for index in row:
            part = slice(start, start + lengths[index])
            example = examples[index]
            input_ids[at, part] = torch.from_numpy(example["input_ids"].astype(np.int64))
            labels[at, part] = torch.from_numpy(example["labels"].astype(np.int64))
            labels[at, start] = tokenizers_.IGNORED  # else the example before would predict it
            position_ids[at, part] = torch.arange(lengths[index])
            start = part.stop
        position_ids[at, start:] = torch.arange(width - start)  # padding is one more example
    return {
        "input_ids": input_ids,
        "labels": labels,
        "position_ids": position_ids,
        N_TOKENS: torch.tensor(sum(lengths)),
    }


def choose_collate(arguments: Arguments, data: Data) -> Collate:
    """Choose how the training's micro-batches are made of examples: padded or packed."""
    pad_id = data.pad_id
    if not arguments.packing:
        return functools.partial(data.task.collate, pad_id=pad_id)
    row_length = None if arguments.attention == "flash_attention_2" else arguments.seq_len
    return functools.partial(collate_packed, pad_id=pad_id, row_length=row_length)


def count_tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Count the tokens of a batch without padding; takes out what the model would not know."""
    if N_TOKENS in batch:
        return batch.pop(N_TOKENS)
    return batch["attention_mask"].sum()

"""From encoded examples to batches: storage, the order of a training, padding."""

from __future__ import annotations

# B batch, T tokens of the longest sequence in the batch, rounded up to a multiple of 8
from collections.abc import Mapping, Sequence

import numpy as np
import tokenizer as tokenizers_
import torch

PAD_TO_MULTIPLE_OF = 8


class Examples:
    """Encoded dialogues in three flat arrays; item ``i`` is ``ids[starts[i]:starts[i + 1]]``."""

    def __init__(self, ids: np.ndarray, labels: np.ndarray, starts: np.ndarray):
        """Wrap arrays: token ids and labels of all examples (int32), and their bounds (int64)."""
        self.ids, self.labels, self.starts = ids, labels, starts

    @classmethod
    def from_pairs(cls, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Examples:
        """Join encoded dialogues: pairs of token ids and labels."""
        starts = np.cumsum([0, *(len(ids) for ids, _ in pairs)], dtype=np.int64)
        flat = [np.fromiter((t for p in pairs for t in p[k]), np.int32) for k in (0, 1)]
        return cls(flat[0], flat[1], starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        part = slice(self.starts[index], self.starts[index + 1])
        return {"input_ids": self.ids[part], "labels": self.labels[part]}

    def lengths(self) -> np.ndarray:
        """Length of each example in tokens."""
        return np.diff(self.starts)


class TrainingOrder(torch.utils.data.Dataset):
    """All examples a training sees, in order: shuffled passes, one after the other.

    Item ``i`` belongs to optimizer step ``i // batch_size``, whatever the number of ranks and of
    accumulation steps, so a trial that is moved to other resources sees the same batches, and
    resuming at a step is a matter of an index.
    """

    def __init__(self, examples: Examples, n_items: int, seed: int):
        """Order ``examples`` for a training of ``n_items`` = steps x effective batch."""
        self.examples, self.n_items, self.seed = examples, n_items, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return self.n_items

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        epoch, offset = divmod(position, len(self.examples))
        if epoch != self._epoch:
            # RandomState's stream is frozen (NEP 19), so every version gives the same order.
            self._order = np.random.RandomState([self.seed, epoch]).permutation(len(self.examples))
            self._epoch = epoch
        return self.examples[int(self._order[offset])]


def collate(examples: Sequence[Mapping[str, np.ndarray]], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad examples on the right and stack them."""
    longest = max(len(example["input_ids"]) for example in examples)
    width = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
    shape = (len(examples), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)  # (B, T)
    labels = torch.full(shape, tokenizers_.IGNORED, dtype=torch.long)  # (B, T)
    attention_mask = torch.zeros(shape, dtype=torch.long)  # (B, T), 1 = token, 0 = padding
    for row, example in enumerate(examples):
        n_tokens = len(example["input_ids"])
        input_ids[row, :n_tokens] = torch.from_numpy(example["input_ids"].astype(np.int64))
        labels[row, :n_tokens] = torch.from_numpy(example["labels"].astype(np.int64))
        attention_mask[row, :n_tokens] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}

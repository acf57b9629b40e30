"""Causal language modelling on plain texts: every token is learnt.

A row is ``{"text": ...}`` (or the column of ``--text_columns``), or a ``.txt`` file. A text stands
between the tokenizer's begin-of-text token, if it has one, and its end-of-text token.

Training: the texts stand one after the other, in the order of the data, and are cut into blocks of
``seq_len`` tokens: no padding. A block begins with the last token of the one before, so that every
token but the very first is predicted once in each pass; attention crosses from one text to the
next within a block.

Evaluation: each text by itself, so that a text's loss does not depend on its neighbours. A text
longer than ``seq_len`` is read in windows; each token is counted once, in the first window that
holds it, with at least ``seq_len - eval_stride`` tokens of context from the second window on
(``eval_stride`` = ``seq_len - 1`` reads each token once; smaller ones give more context).

Not covered: texts that go on over rows, and loss on parts of a text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from arguments import ArgumentMistake, Arguments
from batches import Examples
from language_model import LanguageModelTask
from tasks import Encoded, Row, Split
from tokenizer import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COLUMN = "text"
_CHUNK = 1000  # texts per call of the tokenizer, which works on them in parallel


class TextTask(LanguageModelTask):
    """Plain texts, with a loss on all tokens."""

    name = "clm"
    rows = "blocks"
    own_data = "texts"

    def parse(self, record: Any, where: str, arguments: Arguments) -> str:
        """Take the text out of a row."""
        column = arguments.text_columns or _COLUMN
        if not isinstance(record, Mapping):
            raise ArgumentMistake(f"{where}: found {type(record).__name__}, an object is needed")
        if column not in record:
            raise ArgumentMistake(
                f"{where}: found the keys {', '.join(map(str, record)) or 'none'}; needed is "
                f"{column}; name another one by --text_columns"
            )
        text = record[column]
        if not isinstance(text, str):
            raise ArgumentMistake(f"{where}: {column}: found {type(text).__name__}, not a text")
        return text

    def texts(self, rows: Iterable[Row]) -> list[str]:
        """List the texts."""
        return [text for text, _ in rows]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, arguments: Arguments
    ) -> Encoded:
        """Cut the training texts into blocks, the others into windows."""
        seq_len = arguments.seq_len
        ids = list(itertools.chain.from_iterable(encode_texts(tokenizer, split.train)))
        blocks = cut_blocks(ids, seq_len)
        stride = arguments.eval_stride or seq_len - 1
        windows = [
            window
            for text in encode_texts(tokenizer, split.eval)
            for window in cut_windows(with_context(text, tokenizer), seq_len, stride)
        ]
        if not blocks or not windows:
            name = "train on" if not blocks else "evaluate"
            raise ArgumentMistake(
                f"--data={arguments.data}: {len(split.train)} texts of {len(ids)} tokens to train "
                f"on and {len(split.eval)} to evaluate leave no token to {name}; give more text"
            )
        return Encoded(Examples.from_pairs(blocks), Examples.from_pairs(windows))


def encode_texts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> Iterator[list[int]]:
    """Encode texts one by one, each with its begin and end; empty ones are left out."""
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for first in range(0, len(rows), _CHUNK):
        texts = [text for text, _ in rows[first : first + _CHUNK] if text.strip()]
        if texts:
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                yield [*begin, *ids, tokenizer.eos_token_id]


def with_context(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Give a text's first token what stands before it in training: the end of another text."""
    return ids if tokenizer.bos_token_id is not None else [tokenizer.eos_token_id, *ids]


def cut_blocks(ids: Sequence[int], seq_len: int) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Cut tokens into blocks of ``seq_len`` that overlap by one; the last one may be shorter.

    Returns:
        Ids and labels, which are the same: the first label of a block is never used.
    """
    starts = range(0, max(0, len(ids) - 1), seq_len - 1)
    return [(block, block) for block in (ids[start : start + seq_len] for start in starts)]


def cut_windows(
    ids: Sequence[int], seq_len: int, stride: int
) -> list[tuple[Sequence[int], Sequence[int]]]:
    """Cut a text into windows of at most ``seq_len``, each with up to ``stride`` new tokens.

    Returns:
        Ids and labels; what an earlier window has counted is ``IGNORED``. Every token but the
        first is counted once; nothing for a text of fewer than two tokens.
    """
    windows = []
    n_counted = 1  # there is nothing to predict the first token from
    end = min(seq_len, len(ids))
    while n_counted < end:
        start = max(0, end - seq_len)
        ignored = [IGNORED] * (n_counted - start)
        windows.append((ids[start:end], [*ignored, *ids[n_counted:end]]))
        n_counted, end = end, min(end + stride, len(ids))
    return windows

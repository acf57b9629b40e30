"""Held-out prompts with a reference answer: which ones a response score is taken on.

Pure but for reading the rows. They are chosen by content alone, so every trial of a sweep is asked
the same, whatever its seed, tokenizer or sequence length, and adding rows moves few of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from arguments import Arguments
from rows import Row, split_rows

_ID_CHARS = 12  # 48 bits: two of a thousand prompts collide once in 500 million times


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A question, in its dialogue, and the answer that the data has for it."""

    id: str
    """``p`` and the beginning of a digest of messages and reference; the same in every trial."""
    messages: tuple[Mapping[str, str], ...]
    """The dialogue up to the answer."""
    reference: str
    """What the data answers."""

    def text(self) -> str:
        """Spell the dialogue for people; of a single question, the question alone."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n".join(f"{m['role']}: {m['content']}" for m in self.messages)


def held_out_prompts(arguments: Arguments, n: int) -> list[Prompt]:
    """Choose ``n`` prompts of the evaluation rows, or all if there are fewer.

    Raises:
        ArgumentMistake: The data cannot be read.
    """
    return choose_prompts(split_rows(arguments).eval, n)


def choose_prompts(rows: Iterable[Row], n: int) -> list[Prompt]:
    """Choose the ``n`` prompts with the smallest digests; equal ones count once, blank ones not."""
    found = (make_prompt(messages) for messages, _ in rows)
    distinct = {prompt.id: prompt for prompt in found if prompt.reference.strip()}
    return [distinct[id_] for id_ in sorted(distinct)[:n]]


def make_prompt(messages: Sequence[Mapping[str, str]]) -> Prompt:
    """Part a dialogue before its last answer; it must have one (``rows.check_row``)."""
    last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    before, reference = tuple(messages[:last]), messages[last]["content"]
    text = json.dumps([*before, reference], ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    # A letter first, else a spreadsheet takes 123e45 for a number.
    return Prompt("p" + digest[:_ID_CHARS], before, reference)

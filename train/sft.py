"""Supervised fine-tuning on dialogues: only what the assistant says is learnt.

A row is ``{"messages": [{"role": ..., "content": ...}, ...]}`` or
``{"prompt": ..., "response": ...}``. Dialogues are rendered by the tokenizer's chat template, by
the one of ``--chat_template``, or by ``tokenizer.PLAIN_TEMPLATE`` where there is none.

Not covered: tools, images, and messages whose content is a list of parts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tokenizer as tokenizers_
from arguments import ArgumentMistake, Arguments
from batches import Examples
from language_model import LanguageModelTask
from tasks import Encoded, Row, Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")


class DialogueTask(LanguageModelTask):
    """Dialogues, with a loss on answers only."""

    name = "sft"
    rows = "dialogues"
    own_data = "dialogues"

    def parse(self, record: Any, where: str, arguments: Arguments) -> list[dict[str, str]]:
        """Bring a row into the form of messages."""
        return check_dialogue(record, where)

    def texts(self, rows: Iterable[Row]) -> list[str]:
        """List what is said."""
        return [message["content"] for messages, _ in rows for message in messages]

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, split: Split, arguments: Arguments
    ) -> Encoded:
        """Encode both sides; what does not fit into ``seq_len`` is cut on the right."""
        held_back_source = arguments.eval_data or arguments.data
        return Encoded(
            _encode_side(tokenizer, split.train, arguments.seq_len, arguments.data),
            _encode_side(tokenizer, split.eval, arguments.seq_len, held_back_source),
        )


def check_dialogue(row: Any, where: str) -> list[dict[str, str]]:
    """Bring a row into the form of messages.

    Raises:
        ArgumentMistake: The row has another form, or no answer.
    """
    if not isinstance(row, Mapping):
        raise ArgumentMistake(f"{where}: found {type(row).__name__}, an object is needed")
    if "messages" in row:
        messages = row["messages"]
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            raise ArgumentMistake(f"{where}: messages: a list of at least one message is needed")
    elif "prompt" in row and "response" in row:
        messages = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["response"]},
        ]
    else:
        raise ArgumentMistake(
            f"{where}: found the keys {', '.join(map(str, row)) or 'none'}; needed are messages, "
            "or prompt and response"
        )
    for index, message in enumerate(messages):
        place = f"{where}: messages[{index}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ArgumentMistake(f"{place}: an object with role and content is needed")
        if message["role"] not in ROLES:
            raise ArgumentMistake(
                f"{place}: role {message['role']!r} is not known; allowed: {', '.join(ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise ArgumentMistake(f"{place}: content is not a text")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles or roles[0] == "assistant":
        raise ArgumentMistake(f"{where}: needs a question and an answer (role assistant) after it")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _encode_side(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], seq_len: int, source: str
) -> Examples:
    pairs = []
    n_dropped = n_unsaid = 0
    for messages, where in rows:
        try:
            ids, labels = tokenizers_.encode_dialogue(tokenizer, messages)
        except tokenizers_.TemplateRefusal as refusal:
            raise ArgumentMistake(
                f"{where}: the chat template refuses this dialogue (roles "
                f"{', '.join(message['role'] for message in messages)}): {refusal}; change the row "
                "or give a template by --chat_template"
            ) from None
        n_unsaid += tokenizers_.leaves_out_system(tokenizer, messages)
        ids, labels = ids[:seq_len], labels[:seq_len]
        # The first token is never predicted.
        if any(label != tokenizers_.IGNORED for label in labels[1:]):
            pairs.append((ids, labels))
        else:
            n_dropped += 1
    if not pairs:
        raise ArgumentMistake(
            f"--seq_len={seq_len}: none of {len(rows)} dialogues of {source} has an answer within "
            "it; use a larger one"
        )
    if n_dropped:
        sys.stderr.write(
            f"{source}: {n_dropped} of {len(rows)} dialogues have no answer within the first "
            f"{seq_len} tokens and are left out\n"
        )
    if n_unsaid:
        sys.stderr.write(
            f"warning: {source}: the chat template leaves out what the role system says in "
            f"{n_unsaid} of {len(rows)} dialogues; give a template by --chat_template\n"
        )
    return Examples.from_pairs(pairs)

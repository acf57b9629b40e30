"""The tokenizer of the self-made data, and how any tokenizer turns a dialogue into labels.

The own tokenizer is a byte-level BPE with a chat template, trained in a second when the cache of
``data.py`` is empty; a local model directory brings its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from arguments import ArgumentMistake

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCAB_SIZE = 1024
IGNORED = -100  # the label that the loss passes over
PAD, BOS, END, SYSTEM, USER, ASSISTANT = (
    "<|pad|>",
    "<|begin|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
CHAT_TEMPLATE = (
    BOS + "{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}" + END + "{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)
# For a model directory whose tokenizer has no template (a base model).
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Assistant: {{ message['content'] }}{{ eos_token }}"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}\n\n"
    "{% else %}{{ message['content'] }}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE on ``texts``; any text can be encoded, Chinese by its bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        # Digits one by one, so that sums can be learnt.
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(directory: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a local model directory; missing template and padding are filled in.

    Raises:
        ArgumentMistake: There is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ArgumentMistake(f"{directory}: no tokenizer that loads here: {first_line}") from None
    if tokenizer.eos_token is None:
        raise ArgumentMistake(f"{directory}: the tokenizer has no eos_token")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def read_template(path: str) -> str:
    """Read a chat template and check that it is one.

    Raises:
        ArgumentMistake: Not there, not text, or not Jinja.
    """
    # Lazy: only with --chat_template. As transformers renders it: loop controls, {% generation %}.
    from jinja2 import TemplateSyntaxError
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        with open(path, encoding="utf-8") as file:
            template = file.read()
        _compile_jinja_template(template)
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentMistake(f"--chat_template={path}: cannot be read: {error}") from None
    except TemplateSyntaxError as error:
        raise ArgumentMistake(f"{path}:{error.lineno}: not a Jinja template: {error}") from None
    return template


def encode_dialogue(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]
) -> tuple[list[int], list[int]]:
    """Encode a dialogue; only what the assistant says is a label.

    Where a turn's answer begins and ends is found by rendering the dialogue up to it, with and
    without its answer. A template that rewrites earlier turns (such as one that drops former
    reasoning) leaves only the turns whose rendering is a prefix of the whole.

    Returns:
        Token ids, and labels of the same length, ``IGNORED`` outside of answers. The end-of-turn
        token after an answer is a label too: the model has to learn to stop.

    Raises:
        TemplateRefusal: The template raises, for a role or an order of roles.
    """
    whole = _render(tokenizer, messages, prompt=False)
    labels = [IGNORED] * len(whole)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, messages[:index], prompt=True)
        after = _render(tokenizer, messages[: index + 1], prompt=False)
        if whole[: len(after)] == after and after[: len(before)] == before:
            labels[len(before) : len(after)] = after[len(before) :]
    return whole, labels


class TemplateRefusal(Exception):
    """A chat template does not take a dialogue, such as one with the role system."""


def leaves_out_system(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]]
) -> bool:
    """Say whether the chat template drops without a word what the role system says."""
    said = [message["content"].strip() for message in messages if message["role"] == "system"]
    if not any(said):
        return False
    text = str(tokenizer.apply_chat_template(list(messages), tokenize=False))
    return not all(content in text for content in said)


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], *, prompt: bool
) -> list[int]:
    from jinja2 import TemplateError  # lazy: only where a template is rendered

    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=prompt
        )
    except TemplateError as error:
        raise TemplateRefusal(str(error).splitlines()[0] if str(error) else "no reason") from None
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return list(ids)

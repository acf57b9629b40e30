"""The response score: a model answers held-out prompts, and chrF compares with the references.

``score = 5 x chrF / 100``, from 0 to 5, the mean over the prompts. chrF (Popović 2015, sacrebleu's)
counts character n-grams, so it works for Chinese and English alike. It is a stand-in for a judge
and none itself: it rewards the reference's wording and cannot tell a right answer in other words
from a wrong one. For what people think, have them rate the answers (``make ratings``).

Decoding is greedy: the same weights give the same answers, up to rounding between kinds of device.
Answers end at the end of a turn, or at twice the reference's tokens (at least 16).

Covered: one rank or several, ZeRO 0 to 3 (with stage 3 all ranks take part in each forward pass).
Not covered: models that only encode; images. Runs on the compute node.
"""

from __future__ import annotations

# B batch, P tokens of the longest prompt, N new tokens
import contextlib
import dataclasses
import math
import statistics
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import responses
import torch
from arguments import ArgumentMistake
from evaluation import EvaluationStopped
from prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LEAST_NEW_TOKENS = 16
_MARK = "31415926"  # an answer that no template has words of its own like


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt as tokens."""

    prompt: Prompt
    """What is asked."""
    ids: tuple[int, ...]
    """The rendered dialogue, ready for the answer."""
    max_new_tokens: int
    """How long the answer may become."""


@dataclasses.dataclass(frozen=True)
class Ranks:
    """How the work is divided; the batches are the same for any number of ranks."""

    rank: int = 0
    """This process."""
    size: int = 1
    """Processes; all run the same number of forward passes' rounds."""
    is_synced: bool = False
    """Whether each forward pass needs all ranks (ZeRO stage 3)."""


def encode_prompts(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int | None = None,
    max_new_tokens: int = 0,
) -> list[Question]:
    """Render prompts by the chat template; those that do not fit the model are passed over.

    Args:
        prompts: What is asked.
        tokenizer: The model's; it has a chat template (``tokenizer.load_tokenizer``).
        context: Tokens that prompt and reference may have together; None: any number.
        max_new_tokens: Longest answer; 0: twice its reference, at least ``LEAST_NEW_TOKENS``.

    Raises:
        ArgumentMistake: None fits.
    """
    from jinja2 import TemplateError  # lazy: only where a template is rendered

    found = []
    for prompt in prompts:
        messages = [dict(message) for message in prompt.messages]
        try:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError:  # as in training: the template takes no such dialogue
            continue
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        n_reference = len(tokenizer(prompt.reference, add_special_tokens=False)["input_ids"])
        limit = max_new_tokens or max(LEAST_NEW_TOKENS, 2 * n_reference)
        if context is not None:
            if len(ids) + n_reference > context:
                continue
            limit = min(limit, context - len(ids))
        if ids and limit > 0:
            found.append(Question(prompt, tuple(ids), limit))
    if not found:
        raise ArgumentMistake(
            f"--response_score_prompts: none of {len(prompts)} held-out prompts fits the model's "
            f"{context} tokens with its answer"
        )
    return found


def stop_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """List the tokens that end an answer: the end of the text, and of a turn in the template."""
    own = getattr(model.generation_config, "eos_token_id", None)
    known = own if isinstance(own, list) else [own]
    answered = [{"role": "user", "content": "1"}, {"role": "assistant", "content": _MARK}]
    text = tokenizer.apply_chat_template(answered, tokenize=False)
    tail = tokenizer(text.rpartition(_MARK)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    found = {tokenizer.eos_token_id, *known, *(id_ for id_ in tail if id_ in special)}
    return sorted(id_ for id_ in found if isinstance(id_, int))


def fingerprint(model: torch.nn.Module) -> str:
    """Digest the weights, so that answers are not taken for another model's."""
    digest = 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = getattr(parameter, "ds_tensor", parameter)  # this rank's shard in ZeRO 3
            total = torch.sum(tensor, dtype=torch.float64).item()
            digest = zlib.crc32(f"{name}={total.hex()}".encode(), digest)
    return f"{digest:08x}"


def batches_of(questions: Sequence[Question], batch_size: int) -> list[list[Question]]:
    """Group questions of similar length; longest first: memory runs out at once or never."""
    order = sorted(questions, key=lambda q: (-len(q.ids) - q.max_new_tokens, q.prompt.id))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def pad_left(batch: Sequence[Question], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prompts (B, P), padded on the left, and their mask: 1 = token, 0 = padding."""
    width = max(len(question.ids) for question in batch)
    input_ids = torch.full((len(batch), width), pad_id, dtype=torch.long)  # (B, P)
    attention_mask = torch.zeros_like(input_ids)  # (B, P)
    for row, question in enumerate(batch):
        input_ids[row, width - len(question.ids) :] = torch.tensor(question.ids)
        attention_mask[row, width - len(question.ids) :] = 1
    return input_ids, attention_mask


@torch.no_grad()
def answer_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: Sequence[Question],
    ends: Sequence[int],
    *,
    is_synced: bool = False,
) -> list[str]:
    """Generate an answer to each question of a batch."""
    device = next(model.parameters()).device
    pad_id: Any = tokenizer.pad_token_id
    input_ids, attention_mask = pad_left(batch, pad_id)
    made = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        max_new_tokens=max(question.max_new_tokens for question in batch),
        synced_gpus=is_synced,
    )  # (B, P + N)
    answers = []
    for question, new in zip(batch, made[:, input_ids.shape[1] :].tolist(), strict=True):
        kept = new[: question.max_new_tokens]
        end = next((i for i, id_ in enumerate(kept) if id_ in ends), len(kept))
        text = tokenizer.decode(kept[:end], skip_special_tokens=True)
        answers.append(str(text).strip())
    return answers


@contextlib.contextmanager
def greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]
) -> Iterator[None]:
    """Let the model generate greedily, with its cache; its own settings come back afterwards."""
    from transformers import GenerationConfig  # lazy: only trials that generate pay for it

    # Replaced, not passed: generate() fills what is not set with the model's own settings, such as
    # a repetition penalty.
    was_training, own = model.training, model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(ends) or None,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.eval()
    try:
        yield
    finally:
        model.generation_config = own
        model.train(was_training)


def score_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    author: responses.Row,
    *,
    batch_size: int,
    ranks: Ranks | None = None,
    done: dict[str, responses.Row] | None = None,
    on_rows: Callable[[list[responses.Row]], None] = lambda rows: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[responses.Row]:
    """Answer all questions and compare with the references.

    Args:
        model: The model itself, not DeepSpeed's engine around it.
        tokenizer: Its tokenizer.
        questions: What is asked.
        author: Put into each row: ``step`` and ``weights``.
        batch_size: Prompts per forward pass and rank.
        ranks: How the work is divided; None: this process alone.
        done: Rows that are there already, by prompt; the same on all ranks.
        on_rows: Gets the rows of each round, on every rank.
        should_stop: Asked before each round; all ranks must get the same answer.

    Returns:
        A row for each question, by prompt id; on every rank.

    Raises:
        EvaluationStopped: ``should_stop`` said so.
    """
    from sacrebleu.metrics import CHRF  # lazy: as above

    ranks, rows = ranks or Ranks(), dict(done or {})
    chrf = CHRF()
    left = [
        batch
        for batch in batches_of(questions, batch_size)
        if any(question.prompt.id not in rows for question in batch)
    ]
    ends = stop_ids(tokenizer, model)
    with greedy(model, tokenizer, ends):
        for first in range(0, len(left), ranks.size):
            if should_stop():
                raise EvaluationStopped
            is_mine = first + ranks.rank < len(left)
            batch = left[first + ranks.rank] if is_mine else left[first][:1]
            fresh = []
            if is_mine or ranks.is_synced:
                answers = answer_batch(model, tokenizer, batch, ends, is_synced=ranks.is_synced)
                for question, answer in zip(batch, answers, strict=True):
                    reference = question.prompt.reference
                    texts = {
                        "prompt": question.prompt.text(),
                        "reference": reference,
                        "answer": answer,
                    }
                    score = chrf.sentence_score(answer, [reference]).score
                    fresh.append(responses.make_row(question.prompt.id, texts, score, author))
            fresh = _gather(fresh if is_mine else [], ranks.size)
            rows.update((row["prompt_id"], row) for row in fresh)
            on_rows(fresh)
    return [rows[id_] for id_ in sorted(question.prompt.id for question in questions)]


def _gather(rows: list[responses.Row], world_size: int) -> list[responses.Row]:
    if world_size == 1:
        return rows
    parts: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]


def summarize(rows: Sequence[responses.Row]) -> dict[str, float]:
    """Return the mean score, its standard deviation over prompts, and how many there are."""
    scores = [row["score"] for row in rows]
    return {
        "response_score": math.fsum(scores) / len(scores),
        "response_score_std": statistics.pstdev(scores),
        "response_score_n": len(scores),
    }

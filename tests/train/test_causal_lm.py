"""Plain texts: blocks, windows, and a perplexity in which each token counts once."""

import hashlib
import json
import math

import causal_lm
import dialogues
import evaluation
import pytest
import tasks
import tokenizer as tokenizers_
import torch
from arguments import ArgumentMistake, Arguments
from batches import Examples

TASK = tasks.find_task("clm")


@pytest.fixture(scope="module")
def own_tokenizer():
    return tokenizers_.train_tokenizer(dialogues.make_texts())


def test_texts_are_the_same_everywhere():
    made = dialogues.make_texts()
    text = json.dumps(made[:100], ensure_ascii=False).encode()
    # A change of the rules changes this on purpose: numbers before and after do not compare.
    assert hashlib.sha256(text).hexdigest()[:16] == "c139bb48dcae587a"
    assert len(set(made)) == len(made) == dialogues.N_TEXTS


@pytest.mark.parametrize(("n", "seq_len"), [(2, 2), (9, 4), (10, 4), (11, 4), (3, 8), (100, 8)])
def test_blocks_predict_every_token_but_the_first_once(n, seq_len):
    blocks = causal_lm.cut_blocks(range(n), seq_len)
    assert [token for ids, _ in blocks for token in ids[1:]] == list(range(1, n))
    assert all(len(ids) == seq_len for ids, _ in blocks[:-1])
    assert all(ids == labels for ids, labels in blocks)


def test_blocks_of_next_to_nothing():
    assert causal_lm.cut_blocks([], 8) == causal_lm.cut_blocks([1], 8) == []


@pytest.mark.parametrize("n", [2, 7, 8, 9, 15, 30])
@pytest.mark.parametrize("stride", [1, 3, 7])
def test_windows_count_every_token_but_the_first_once(n, stride):
    windows = causal_lm.cut_windows(list(range(n)), 8, stride)
    counted = [label for _, labels in windows for label in labels[1:] if label != -100]
    assert counted == list(range(1, n))
    for index, (ids, labels) in enumerate(windows):
        assert len(ids) == len(labels) == min(n, 8)  # as much context as there is
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        n_new = sum(label != -100 for label in labels)
        assert n_new <= stride or index == 0


def test_text_of_one_token_has_nothing_to_predict():
    assert causal_lm.cut_windows([5], 8, 7) == []


def split(*texts):
    rows = [(text, f"row {number}") for number, text in enumerate(texts, 1)]
    return tasks.Split(rows, rows)


def test_texts_stand_between_begin_and_end(own_tokenizer):
    encoded = TASK.encode(own_tokenizer, split("One.", " ", "Two."), Arguments(seq_len=512))
    assert len(encoded.train) == 1  # all in one block
    stream = "<|begin|>One.<|end|><|begin|>Two.<|end|>"
    assert own_tokenizer.decode(encoded.train[0]["input_ids"]) == stream
    texts = [own_tokenizer.decode(encoded.eval[index]["input_ids"]) for index in (0, 1)]
    assert texts == ["<|begin|>One.<|end|>", "<|begin|>Two.<|end|>"]


def test_tokenizer_without_a_begin_gives_the_first_token_context(own_tokenizer):
    import copy

    tokenizer = copy.deepcopy(own_tokenizer)
    tokenizer.bos_token = None
    encoded = TASK.encode(tokenizer, split("One.", "Two."), Arguments(seq_len=512))
    assert tokenizer.decode(encoded.eval[1]["input_ids"]) == "<|end|>Two.<|end|>"
    assert tokenizer.decode(encoded.train[0]["input_ids"]) == "One.<|end|>Two.<|end|>"


def test_nothing_to_train_on_or_to_evaluate_is_refused(own_tokenizer):
    with pytest.raises(ArgumentMistake, match="leave no token to train on; give more text"):
        TASK.encode(own_tokenizer, split(" "), Arguments(seq_len=8))
    rows = tasks.Split(split("One.").train, split("").train)
    with pytest.raises(ArgumentMistake, match="1 to evaluate leave no token to evaluate"):
        TASK.encode(own_tokenizer, rows, Arguments(seq_len=8))


@pytest.mark.parametrize(
    ("row", "arguments", "message"),
    [
        ("a", {}, "row 1: found str, an object is needed"),
        ({"content": "a"}, {}, "found the keys content; needed is text; name another one by"),
        ({"text": 1}, {}, "text: found int, not a text"),
        ({"text": "a"}, {"text_columns": "content"}, "needed is content"),
    ],
)
def test_mistake_in_a_row_names_its_place(row, arguments, message):
    with pytest.raises(ArgumentMistake) as caught:
        TASK.parse(row, "row 1", Arguments(task="clm", **arguments))
    assert message in str(caught.value)


def tiny_model(vocab_size):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config)


def test_loss_is_the_same_for_any_batch_size_and_number_of_ranks(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(50, (n,), generator=generator).tolist() for n in (3, 40, 9, 17, 2, 25)]
    model = tiny_model(50)
    by_hand = torch.zeros(2, dtype=torch.float64)
    examples = []
    for ids in texts:
        for window, labels in causal_lm.cut_windows(ids, 12, 5):
            examples.append((window, labels))
            with torch.no_grad():
                scores = model(torch.tensor([window])).logits[0].double().log_softmax(-1)
            for at in range(1, len(window)):
                if labels[at] != -100:
                    by_hand += torch.tensor([-scores[at - 1, window[at]].item(), 1])
    assert by_hand[1] == sum(map(len, texts)) - len(texts)  # each token but the first of a text
    expected = float(by_hand[0] / by_hand[1])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    for batch_size in (1, 4, 7, 100):
        for world_size in (1, 2, 3):
            sums = sum(
                evaluation.sum_over(
                    TASK,
                    model,
                    Examples.from_pairs(examples),
                    batch_size=batch_size,
                    pad_id=0,
                    rank=rank,
                    world_size=world_size,
                )
                for rank in range(world_size)
            )
            metrics = TASK.summarize(sums)
            assert metrics["eval_loss"] == pytest.approx(expected, abs=1e-6)
            assert metrics["eval_perplexity"] == pytest.approx(math.exp(expected), rel=1e-6)

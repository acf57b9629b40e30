"""Sentence pairs: rows, classes, encoding, exact loss and metrics."""

import hashlib
import itertools
import json
import types

import evaluation
import pairs
import pytest
import tasks
import tokenizer as tokenizers_
import torch
from arguments import ArgumentMistake, Arguments
from batches import Examples
from classification import _share_room, number_classes, score_f1

TASK = tasks.find_task("classification")


def parse(row, **arguments):
    return TASK.parse(row, "mine.tsv:7", Arguments(task="classification", **arguments))


@pytest.fixture(scope="module")
def own_tokenizer():
    rows = [(parse(pair), "") for pair in pairs.make_pairs()]
    return tokenizers_.train_tokenizer(TASK.texts(rows))


def test_pairs_are_the_same_everywhere_and_balanced():
    made = pairs.make_pairs()
    text = json.dumps(made[:200], ensure_ascii=False).encode()
    # A change of the rules changes this on purpose: numbers before and after do not compare.
    assert hashlib.sha256(text).hexdigest()[:16] == "c7f4474a85de159d"
    assert len({repr(pair) for pair in made}) == len(made) == pairs.N_PAIRS
    assert sum(pair["label"] for pair in made) == pairs.N_PAIRS // 2
    assert all(pair["sentence1"] != pair["sentence2"] for pair in made)


@pytest.mark.parametrize(
    ("row", "arguments", "content"),
    [
        ({"sentence1": "a", "sentence2": "b", "label": 1}, {}, (["a", "b"], 1)),
        ({"#1 String": "a", "#2 String": "b", "Quality": "0"}, {}, (["a", "b"], 0)),
        ({"text_a": "a", "text_b": "b", "label": "yes"}, {}, (["a", "b"], "yes")),
        ({"text": "a", "label": True}, {}, (["a"], 1)),
        (
            {"q": "a", "r": "b", "c": 2.0, "label": 0},
            {"text_columns": "q, r", "label_column": "c"},
            (["a", "b"], 2),
        ),
    ],
)
def test_row_in_its_forms(row, arguments, content):
    assert parse(row, **arguments) == {"texts": content[0], "label": content[1]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "found list, an object is needed"),
        ({"a": 1}, "found the keys a; needed are the texts sentence1 and sentence2 or text_a and"),
        ({"text": "a"}, "needed is the class, label or Quality; name another column by --label"),
        ({"text": 1, "label": 1}, "text: found int, not a text"),
        ({"text": "a", "label": -1}, "label: found -1: this row has no class"),
        ({"text": "a", "label": None}, "label: found None: this row has no class"),
        ({"text": "a", "label": 3.8}, "label: found 3.8; a class is a text or a number from 0"),
    ],
)
def test_mistake_in_a_row_names_its_place(row, message):
    with pytest.raises(ArgumentMistake) as caught:
        parse(row)
    assert str(caught.value).startswith("mine.tsv:7: ")
    assert message in str(caught.value)


def rows_of(*labels):
    return [({"texts": ["a"], "label": label}, f"row {i}") for i, label in enumerate(labels, 1)]


@pytest.mark.parametrize(
    ("labels", "of_data", "of_model", "names", "numbers"),
    [
        ((1, 0, 1), (), (), ("0", "1"), {0: 0, 1: 1}),
        ((5, 10, 1), (), (), ("1", "5", "10"), {1: 0, 5: 1, 10: 2}),
        (("no", "yes"), (), (), ("no", "yes"), {"no": 0, "yes": 1}),
        ((0, 2), ("x", "y", "z"), (), ("x", "y", "z"), {0: 0, 2: 2}),
        # A model that is a classifier keeps its numbers; names, where there are some, decide.
        (("no", "yes"), (), ("yes", "no"), ("yes", "no"), {"no": 1, "yes": 0}),
        ((0, 1), ("no", "yes"), ("yes", "no"), ("yes", "no"), {0: 1, 1: 0}),
        ((0, 1), (), ("yes", "no", "perhaps"), ("yes", "no", "perhaps"), {0: 0, 1: 1}),
        (("no", "maybe"), (), ("yes", "no"), ("maybe", "no"), {"maybe": 0, "no": 1}),
    ],
)
def test_classes_are_numbered(labels, of_data, of_model, names, numbers):
    assert number_classes(rows_of(*labels), of_data, of_model) == (names, numbers)


@pytest.mark.parametrize(
    ("labels", "of_data", "message"),
    [
        ((1, "yes"), (), "row 2: the class is 'yes', but 1 at row 1: all must be numbers, or all"),
        ((1, 1), (), "row 1: found 1 classes in 2 rows"),
        ((0, 2), ("x", "y"), "row 2: class 2, but names for 2 classes"),
    ],
)
def test_classes_that_do_not_fit_are_refused(labels, of_data, message):
    with pytest.raises(ArgumentMistake) as caught:
        number_classes(rows_of(*labels), of_data)
    assert str(caught.value).startswith(message)


def encode(tokenizer, train, held_back=None, **arguments):
    split = tasks.Split(
        [(parse(row), "row") for row in train], [(parse(row), "row") for row in held_back or train]
    )
    return TASK.encode(tokenizer, split, Arguments(task="classification", **arguments))


def test_pair_is_encoded_and_shortened(own_tokenizer, capsys):
    row = {"sentence1": "Ann lives in Rome.", "sentence2": "小安。", "label": "yes"}
    encoded = encode(own_tokenizer, [row, {**row, "label": "no"}])
    assert encoded.labels == ("no", "yes")
    example = encoded.train[0]
    assert own_tokenizer.decode(example["input_ids"]) == (
        "<|begin|>Ann lives in Rome.<|end|>小安。<|end|>"
    )
    assert example["labels"].tolist() == [-100] * (len(example["input_ids"]) - 1) + [1]
    assert capsys.readouterr().err == ""
    short = encode(own_tokenizer, [row, {**row, "label": "no"}], seq_len=8)
    assert short.train.lengths().tolist() == [8, 8]
    assert own_tokenizer.decode(short.train[0]["input_ids"][-3:]).endswith("。<|end|>")
    assert "dialogues: 2 of 2 rows are longer than --seq_len=8" in capsys.readouterr().err
    with pytest.raises(ArgumentMistake, match="--seq_len=4: leaves no token"):
        encode(own_tokenizer, [row, {**row, "label": "no"}], seq_len=4)
    sides = [row], [row, {**row, "label": "no"}]
    with pytest.raises(ArgumentMistake, match="row: the class 'no' does not occur in training; "):
        encode(own_tokenizer, *sides, eval_data="mine.jsonl")
    encode(own_tokenizer, *sides)  # chance has it when a share is held back
    warning = "warning: row: the class 'no' does not occur in training, as in 1 of 2 rows\n"
    assert capsys.readouterr().err == warning
    empty = {"sentence1": " ", "sentence2": "", "label": "no"}
    with pytest.raises(ArgumentMistake, match="row: the texts are empty"):
        encode(own_tokenizer, [row, empty])


def test_encoder_style_tokenizer_joins_in_its_own_way(own_tokenizer):
    import copy

    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(own_tokenizer)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A <|end|>",
        pair="<|begin|> $A <|end|> $B:1 <|end|>:1",
        special_tokens=[("<|begin|>", begin), ("<|end|>", end)],
    )
    tokenizer.sep_token = "<|end|>"
    rows = [{"text_a": "Ann lives in Rome.", "text_b": "Ben.", "label": n} for n in (0, 1)]
    whole = encode(tokenizer, rows).train[0]["input_ids"]
    assert tokenizer.decode(whole) == "<|begin|>Ann lives in Rome.<|end|>Ben.<|end|>"
    assert encode(tokenizer, rows, seq_len=7).train.lengths().tolist() == [7, 7]


@pytest.mark.parametrize("lengths", list(itertools.product(range(1, 7), repeat=2)))
def test_room_is_shared_as_by_cutting_the_longer(lengths):
    for room in range(2, 12):
        left = list(lengths)
        while sum(left) > room:
            # Of two that are equally long, the first: which one is a convention.
            left[left.index(max(left))] -= 1
        assert sorted(_share_room(lengths, room)) == sorted(left)


def test_f1_by_hand():
    # 3 of 4 right in class 1, 1 false alarm: precision 3/4, recall 3/4.
    assert score_f1([[5, 1], [1, 3]]) == pytest.approx(0.75)
    assert score_f1([[4, 0], [3, 0]]) == 0.0
    assert score_f1([[4, 0], [0, 0]]) == 0.0
    # Macro: 2*2/(3+2), 2*1/(1+2), and a class that is nowhere is left out.
    three = [[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    assert score_f1(three) == pytest.approx((4 / 5 + 2 / 3 + 1) / 3)


class Scores(torch.nn.Module):
    """Scores three classes by the first token of a row."""

    def forward(self, input_ids, attention_mask):
        assert attention_mask[:, 0].all()  # padding is on the right
        return types.SimpleNamespace(logits=torch.eye(3)[input_ids[:, 0] % 3] * 2.0)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_metrics_count_each_row_once(batch_size, world_size, monkeypatch):
    said, true = (0, 1, 2, 0, 1), (0, 1, 1, 0, 2)
    examples = Examples.from_pairs(
        [
            ([token, *[9] * n], [-100] * n + [c])
            for n, (token, c) in enumerate(zip(said, true, strict=True))
        ]
    )
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    sums = sum(
        evaluation.sum_over(
            TASK,
            Scores(),
            examples,
            batch_size=batch_size,
            pad_id=8,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    )
    metrics = TASK.summarize(sums)
    right, wrong = (-torch.log_softmax(torch.tensor([2.0, 0, 0]), 0)[:2]).tolist()
    assert metrics["eval_loss"] == pytest.approx((3 * right + 2 * wrong) / 5, abs=1e-6)
    assert metrics["eval_accuracy"] == 3 / 5
    assert metrics["eval_f1"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_loss_is_that_of_the_whole_effective_batch():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 1, 0])
    whole = torch.nn.functional.cross_entropy(logits, labels)
    parts = sum(
        TASK.compute_loss({"logits": logits[part]}, labels[part], num_items_in_batch=6)
        for part in (slice(0, 1), slice(1, 4), slice(4, 6))
    )
    torch.testing.assert_close(parts, whole)

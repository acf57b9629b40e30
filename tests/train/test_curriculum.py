"""The curriculum of lengths: pure rules, and that a preemption does not move it."""

import numpy as np
import pytest
from arguments import ArgumentMistake, parse_arguments
from batches import Examples
from curriculum import CurriculumMistake, Stage, cut, length_at, parse_curriculum
from curriculum_order import CurriculumOrder
from tokenizer import IGNORED

from tests.train.attempts import run_attempt, run_preempted

pytestmark = pytest.mark.train


def test_parse():
    assert parse_curriculum("none") == ()
    assert parse_curriculum("64:0,128:0.3") == (Stage(64, 0.0), Stage(128, 0.3))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "'' is not length:share"),
        ("64", "'64' is not length:share"),
        ("64:0.1", "begins at 0.1; the first share must be 0"),
        ("64:0,32:0.5", "32:0.5 after 64:0.0; lengths and shares must grow"),
        ("64:0,128:0", "128:0.0 after 64:0.0; lengths and shares must grow"),
        ("1:0", "length 1; use at least 2"),
        ("64:0,128:1", "share 1; use a number from 0 to below 1"),
        ("64:nan", "share nan; use"),
    ],
)
def test_parse_refuses(text, found):
    with pytest.raises(CurriculumMistake) as caught:
        parse_curriculum(text)
    assert str(caught.value).startswith(found)


def test_longer_than_the_data_is_refused():
    with pytest.raises(ArgumentMistake, match="128 tokens are more than --seq_len=64; use at most"):
        parse_arguments(["--curriculum=32:0,128:0.5", "--seq_len=64"])


def test_length_grows_with_the_step():
    stages = parse_curriculum("8:0,16:0.3,32:0.5")
    assert [length_at(stages, step, 10) for step in range(10)] == [8] * 3 + [16] * 2 + [32] * 5


def example(n_prompt, n_answer):
    ids = np.arange(n_prompt + n_answer)
    labels = np.concatenate([np.full(n_prompt, IGNORED), ids[n_prompt:]])
    return {"input_ids": ids, "labels": labels}


@pytest.mark.parametrize(
    ("n_prompt", "n_answer", "kept"),
    [
        (3, 3, range(6)),  # short enough
        (3, 20, range(8)),
        (7, 20, range(8)),
        (8, 20, range(4, 12)),  # on the right all would be prompt
        (30, 2, range(24, 32)),
    ],
)
def test_cut_leaves_an_answer(n_prompt, n_answer, kept):
    found = cut(example(n_prompt, n_answer), 8, IGNORED)
    assert found["input_ids"].tolist() == list(kept)
    assert (found["labels"][1:] != IGNORED).any()


def test_order_cuts_by_the_step_of_a_position():
    pairs = [(list(range(20)), list(range(20))) for _ in range(5)]
    order = CurriculumOrder(Examples.from_pairs(pairs), 12, 0, parse_curriculum("4:0,16:0.5"), 3)
    assert [len(order[i]["input_ids"]) for i in range(12)] == [4] * 6 + [16] * 6


def test_preempted_curriculum_equals_uninterrupted(make_trial):
    arguments = {
        "curriculum": "8:0,16:0.4,32:0.7",
        "max_steps": 10,
        "logging_steps": 2,
        "eval_steps": 5,
        "gradient_accumulation_steps": 2,
    }
    whole = make_trial("whole", **arguments)
    assert run_attempt(whole) == 0
    lengths = [line["current_seq_len"] for line in whole.metrics() if "current_seq_len" in line]
    assert lengths == [8, 8, 16, 32, 32]
    cut_off = run_preempted(make_trial("cut", **arguments), 3, 6)
    assert cut_off.curve() == whole.curve()
    assert cut_off.weights() == whole.weights()
    plain = make_trial("plain", **{**arguments, "curriculum": "none"})
    assert run_attempt(plain) == 0
    assert plain.weights() != whole.weights()

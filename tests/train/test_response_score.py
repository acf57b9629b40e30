"""The response score: which prompts, what is kept of the answers, and what a preemption costs."""

import json
import math
import sys

import pytest
from arguments import ArgumentMistake, parse_arguments

pytestmark = pytest.mark.train
SCORED = {"max_steps": 8, "response_score_prompts": 6, "eval_batch_size": 2}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_are_chosen_by_content_alone():
    from prompts import choose_prompts

    rows = [
        ([{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}], i)
        for i in range(20)
    ]
    blank = ([{"role": "user", "content": "q"}, {"role": "assistant", "content": " \n"}], 0)
    chosen = choose_prompts(rows, 5)
    assert len({prompt.id for prompt in chosen}) == 5
    assert choose_prompts([blank, *reversed(rows), *rows], 5) == chosen
    assert [(p.text()[1:], p.reference[1:]) for p in chosen] == [
        (p.reference[1:],) * 2 for p in chosen
    ]
    assert len(choose_prompts(rows, 100)) == 20


def test_prompt_is_the_dialogue_before_the_last_answer():
    from prompts import make_prompt

    messages = [
        {"role": role, "content": text}
        for role, text in (("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "3"))
    ]
    prompt = make_prompt([*messages, {"role": "assistant", "content": "4"}])
    assert (prompt.messages, prompt.reference) == (tuple(messages), "4")
    assert prompt.text() == "system: s\nuser: 1\nassistant: 2\nuser: 3"


def test_score_and_answers_of_a_trial(train_here):
    trial = train_here("a", **SCORED)
    rows = read(trial.root / "responses.jsonl")
    last = trial.last()
    assert [row["prompt_id"] for row in rows] == sorted({row["prompt_id"] for row in rows})
    assert len(rows) == last["response_score_n"] == 6
    for row in rows:
        assert row["score"] == 5 * row["chrf"] / 100
        assert row["step"] == 8
        assert 0 <= row["score"] <= 5
        assert row["reference"]
    scores = [row["score"] for row in rows]
    assert last["response_score"] == pytest.approx(math.fsum(scores) / 6)
    assert last["response_score_std"] >= 0
    assert not (trial.root / ".responses.jsonl.part").exists()
    other = train_here("b", **{**SCORED, "seed": 9, "seq_len": 24, "model": "tiny-llama"})
    theirs = read(other.root / "responses.jsonl")
    for name in ("prompt_id", "prompt", "reference"):
        assert [row[name] for row in theirs] == [row[name] for row in rows]
    plain = train_here("c", **{**SCORED, "response_score_prompts": 0})
    assert plain.weights() == trial.weights()
    assert not (plain.root / "responses.jsonl").exists()
    assert "response_score" not in plain.last()


def test_answers_do_not_depend_on_the_batch(train_here):
    one = train_here("one", **{**SCORED, "eval_batch_size": 1})
    many = train_here("many", **{**SCORED, "eval_batch_size": 64})
    left, right = (read(trial.root / "responses.jsonl") for trial in (one, many))
    # All but one: where two tokens are as likely, rounding decides.
    assert sum(a["answer"] == b["answer"] for a, b in zip(left, right, strict=True)) >= 5


def test_stopped_scoring_goes_on_without_training_again(train_here, make_trial, monkeypatch):
    import main
    import scoring
    import torch

    from orchestrator.runtime import session

    whole = train_here("whole", **SCORED)
    trial = make_trial("cut", **SCORED)
    for key, value in {**trial.environ, "TRIAL_ATTEMPT": "1"}.items():
        monkeypatch.setenv(key, value)
    asked = []
    real = scoring.answer_batch

    def note(model, tokenizer, batch, ends, **kwargs):
        asked.append([question.prompt.id for question in batch])
        return real(model, tokenizer, batch, ends, **kwargs)

    def attempt():
        main._train(main._complete(parse_arguments(trial.command())))

    monkeypatch.setattr(scoring, "answer_batch", note)
    monkeypatch.setattr(session, "should_stop", lambda: len(asked) == 1)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as stopped:
            attempt()
        assert stopped.value.code == 75
        assert len(read(trial.root / ".responses.jsonl.part")) == 2
        assert not (trial.root / "responses.jsonl").exists()
        monkeypatch.setattr(session, "should_stop", lambda: False)
        with open(trial.root / ".responses.jsonl.part", "a") as file:
            file.write('{"prompt_id": "torn')  # as a kill leaves it
        steps = []
        train = torch.optim.AdamW.step
        monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a, **k: steps.append(1) or train(*a))
        attempt()
        assert len(asked) == 3, "each batch is answered once"
        attempt()  # as if it was killed after its last report
        assert (len(asked), steps) == (3, [])
    finally:
        torch.set_num_threads(threads)
    responses = [(t.root / "responses.jsonl").read_bytes() for t in (whole, trial)]
    assert responses[0] == responses[1]
    assert whole.curve() == trial.curve()


def test_prompts_longer_than_the_model_are_passed_over():
    from prompts import Prompt
    from scoring import encode_prompts
    from tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["a b c"] * 9)
    short, long = (
        Prompt(str(n), ({"role": "user", "content": "x y" * n},), "x" * 5) for n in (1, 99)
    )
    found = encode_prompts([short, long], tokenizer, context=40)
    assert [(question.prompt, question.max_new_tokens) for question in found] == [(short, 16)]
    assert encode_prompts([short], tokenizer, max_new_tokens=3)[0].max_new_tokens == 3
    with pytest.raises(ArgumentMistake, match="none of 1 held-out prompts fits the model's 40"):
        encode_prompts([long], tokenizer, context=40)


def test_texts_in_the_file_are_bounded():
    import responses

    texts = {"prompt": "p", "reference": "r", "answer": "a" * 9999}
    row = responses.make_row("id", texts, 50.0, {"step": 1, "weights": "0"})
    assert (len(row["answer"]), row["score"]) == (responses.MAX_TEXT_CHARS, 2.5)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("response_score_prompts=2001", "use at most 2000"),
        ("response_score_prompts=-1", "use a number of at least 0"),
        ("response_score_prompts=5 --task=clm --data=texts", "with --task=sft only"),
    ],
)
def test_wrong_arguments_are_refused(argument, said):
    with pytest.raises(ArgumentMistake, match=said):
        parse_arguments(f"--{argument}".split())


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_two_ranks_answer_the_same_prompts_once(make_trial, stage):
    launch = (sys.executable, "train/launch.py", "--ranks=2")
    arguments = {**SCORED, "response_score_prompts": 7}
    if stage != "zero3":  # refused there
        arguments["eval_quantized"] = "4bit"
    both = make_trial("both", deepspeed=f"train/deepspeed/{stage}.json", **arguments).run(*launch)
    alone = make_trial("alone", **arguments).run()
    left, right = (read(trial.root / "responses.jsonl") for trial in (both, alone))
    assert [row["prompt_id"] for row in left] == [row["prompt_id"] for row in right]
    assert len(left) == both.last()["response_score_n"] == 7
    for name in {"eval_loss_4bit", "model_size_mb_4bit"} & alone.last().keys():
        assert both.last()[name] == pytest.approx(alone.last()[name], rel=1e-2)

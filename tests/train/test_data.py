"""Dialogues, tokenizer, labels, split, cache, order and padding."""

import hashlib
import json
import os
import shutil

import batches
import data
import dialogues
import numpy as np
import pytest
import tasks
import tokenizer as tokenizers_
from arguments import ArgumentMistake, Arguments
from rows import read_rows, split_rows


@pytest.fixture(scope="module")
def own_tokenizer():
    texts = [m["content"] for dialogue in dialogues.make_dialogues() for m in dialogue]
    return tokenizers_.train_tokenizer(texts)


def is_chinese(text):
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def test_dialogues_are_the_same_everywhere():
    text = json.dumps(dialogues.make_dialogues(200), ensure_ascii=False).encode()
    # A change of the rules changes this on purpose: numbers before and after do not compare.
    assert hashlib.sha256(text).hexdigest()[:16] == "a0fa2fc5cba26332"


def test_dialogues_are_right_and_in_two_languages():
    made = dialogues.make_dialogues()
    assert len({repr(dialogue) for dialogue in made}) == len(made) == dialogues.N_DIALOGUES
    n_chinese = sum(is_chinese(dialogue[0]["content"]) for dialogue in made)
    assert abs(n_chinese / len(made) - 0.5) < 0.1
    for dialogue in made:
        assert [m["role"] for m in dialogue] == ["user", "assistant"] * (len(dialogue) // 2)
        for message in dialogue[1::2]:
            if " plus " in message["content"]:
                a, _, b, _, total = message["content"].strip(".").split()
                assert int(a) + int(b) == int(total)


def test_tokenizer_returns_any_text(own_tokenizer):
    assert 600 < len(own_tokenizer) <= tokenizers_.VOCAB_SIZE
    for text in ("What is 12 plus 7?", "中国的首都是北京。", "naïve — 𝛼 🙂", "  two  spaces\n"):
        ids = own_tokenizer(text)["input_ids"]
        assert own_tokenizer.decode(ids) == text
    assert len(own_tokenizer("1234")["input_ids"]) == 4  # digits stand alone


def test_tokenizer_training_is_deterministic(own_tokenizer):
    texts = [m["content"] for dialogue in dialogues.make_dialogues() for m in dialogue]
    again = tokenizers_.train_tokenizer(texts)
    assert again.backend_tokenizer.to_str() == own_tokenizer.backend_tokenizer.to_str()


def test_only_answers_are_labels(own_tokenizer):
    messages = [
        {"role": "user", "content": "什么？"},
        {"role": "assistant", "content": "一。"},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "Two."},
    ]
    ids, labels = tokenizers_.encode_dialogue(own_tokenizer, messages)
    assert len(ids) == len(labels)
    assert all(label in (token, -100) for token, label in zip(ids, labels, strict=True))
    said = own_tokenizer.decode([label for label in labels if label != -100])
    assert said == "一。<|end|>Two.<|end|>"
    assert own_tokenizer.decode(ids) == (
        "<|begin|><|user|>什么？<|end|><|assistant|>一。<|end|>"
        "<|user|>And then?<|end|><|assistant|>Two.<|end|>"
    )


def test_template_that_drops_earlier_turns_labels_the_last_answer(own_tokenizer):
    import copy

    tokenizer = copy.deepcopy(own_tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' or loop.last %}[{{ m.content }}]"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{% endif %}"
    )
    messages = [
        {"role": r, "content": c}
        for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    ids, labels = tokenizers_.encode_dialogue(tokenizer, messages)
    assert tokenizer.decode(ids) == "[a][c][d]"
    assert tokenizer.decode([label for label in labels if label != -100]) == "[d]"


def test_template_without_system_role_names_the_row(own_tokenizer, capsys):
    import copy

    tokenizer = copy.deepcopy(own_tokenizer)
    said = [("system", "Be brief."), ("user", "a"), ("assistant", "b")]
    messages = [{"role": role, "content": content} for role, content in said]
    rows = [(messages, "mine.jsonl:3"), (messages[1:], "mine.jsonl:4")]
    split = tasks.Split(rows, rows)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('System role not supported') }}"
        "{% endif %}[{{ m.content }}]{% endfor %}"
    )
    with pytest.raises(ArgumentMistake) as caught:
        tasks.find_task("sft").encode(tokenizer, split, Arguments())
    assert str(caught.value) == (
        "mine.jsonl:3: the chat template refuses this dialogue (roles system, user, assistant): "
        "System role not supported; change the row or give a template by --chat_template"
    )
    # One that drops it without a word: said once.
    tokenizer.chat_template = (
        "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}"
    )
    tasks.find_task("sft").encode(tokenizer, tasks.Split(rows, rows[1:]), Arguments())
    assert capsys.readouterr().err == (
        "warning: dialogues: the chat template leaves out what the role system says in 1 of 2 "
        "dialogues; give a template by --chat_template\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "t.jinja: cannot be read"),
        (b"{% for %}", "t.jinja:1: not a Jinja template"),
        (b"\xff", "t.jinja: cannot be read"),
    ],
)
def test_chat_template_that_is_none_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "cache"))
    template = tmp_path / "t.jinja"
    if content is not None:
        template.write_bytes(content)
    with pytest.raises(ArgumentMistake) as caught:
        data.load_data(Arguments(chat_template=str(template)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "found list, an object is needed"),
        ('{"text": "a"}', "found the keys text; needed are messages, or prompt and response"),
        ('{"messages": []}', "messages: a list of at least one message is needed"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "messages[0]: role 'bot' is not known"),
        ('{"messages": [{"role": "user"}]}', "messages[0]: an object with role and content"),
        ('{"prompt": "a", "response": 1}', "messages[1]: content is not a text"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "needs a question and an answer"),
    ],
)
def test_mistake_in_jsonl_names_file_and_line(tmp_path, line, message):
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "a", "response": "b"}\n\n' + line + "\n")
    with pytest.raises(ArgumentMistake) as caught:
        list(read_rows(str(file)))
    assert str(caught.value).startswith(f"{file}:3: ")
    assert message in str(caught.value)


def test_own_data_in_all_forms(tmp_path):
    from datasets import Dataset

    rows = [{"prompt": f"q{i}", "response": f"a{i}"} for i in range(40)]
    jsonl = tmp_path / "mine.jsonl"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    directory = tmp_path / "saved"
    Dataset.from_list(rows).save_to_disk(str(directory))
    from_jsonl = [messages for messages, _ in read_rows(str(jsonl))]
    assert from_jsonl == [messages for messages, _ in read_rows(str(directory))]
    assert from_jsonl[3] == [
        {"role": "user", "content": "q3"},
        {"role": "assistant", "content": "a3"},
    ]


def test_split_goes_by_content(tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [json.dumps({"prompt": f"q{i % 100}", "response": "a"}) + "\n" for i in range(200)]
    file.write_text("".join(rows))
    split = split_rows(Arguments(data=str(file), eval_fraction=0.2))
    train, held_back = split.train, split.eval
    texts = [{repr(messages) for messages, _ in side} for side in (train, held_back)]
    assert not texts[0] & texts[1]  # each question stands twice, always on one side
    assert len(train) + len(held_back) == 200
    assert 20 <= len(held_back) <= 60


def test_cache_is_built_once_and_read_only_checkouts_work(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "cache"))
    first = data.load_data(Arguments(seq_len=32))
    monkeypatch.setattr(data, "split_rows", lambda *_: pytest.fail("built again"))
    second = data.load_data(Arguments(seq_len=32))
    assert (first.train.ids == second.train.ids).all()
    assert len(list((tmp_path / "cache").iterdir())) == 1  # no temporary directory is left
    assert second.vocab_size > second.train.ids.max()
    assert (second.train.lengths() <= 32).all()

    monkeypatch.undo()
    monkeypatch.delenv("TRAIN_CACHE", raising=False)
    monkeypatch.setattr(data, "_HERE", tmp_path / "not-writable")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(data.tempfile, "tempdir", None)
    (tmp_path / "not-writable").write_text("a file: no directory can be made in it")
    assert [place.parent for place in data.cache_places(Arguments())][1] == tmp_path
    assert data._make_staging(data.cache_places(Arguments())).parent.parent == tmp_path


def test_two_builders_at_once_leave_one_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path))
    places = data.cache_places(Arguments())
    entries = [data._build_entry(Arguments(), "", places, "key") for _ in range(2)]
    assert entries[0] == entries[1]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "train.ids.npy").write_bytes(b""),
        lambda entry: os.truncate(entry / "eval.labels.npy", 200),
        lambda entry: (entry / "eval.starts.npy").unlink(),
        lambda entry: (entry / "meta.json").write_text("{"),
        lambda entry: (entry / "meta.json").write_text('{"labels": []}'),
        lambda entry: np.save(entry / "train.ids.npy", np.zeros(3, np.int32)),
        lambda entry: shutil.rmtree(entry / "tokenizer"),
    ],
)
def test_damaged_cache_entry_is_built_anew(tmp_path, monkeypatch, capsys, damage):
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f'{{"prompt": "q{n}", "response": "a{n}"}}\n' for n in range(50)))
    arguments = Arguments(data=str(file))
    whole = data.load_data(arguments)
    expected = np.array(whole.train.ids)
    (entry,) = (tmp_path / "cache").iterdir()
    damage(entry)
    again = data.load_data(arguments)
    assert (again.train.ids == expected).all()
    warning = capsys.readouterr().err
    assert f"warning: {entry}: the cached data is damaged" in warning
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [entry.name]
    data.load_data(arguments)
    assert capsys.readouterr().err == ""


def test_cache_key_tells_tasks_and_settings_apart(tmp_path):
    template = tmp_path / "t.jinja"
    keys = set()
    different = [
        {},
        {"seq_len": 65},
        {"task": "clm"},
        {"eval_stride": 3},
        {"max_train_examples": 5},
        {"label_column": "x"},
        {"eval_split": "test"},
        {"eval_data": "texts"},
        {"chat_template": str(template)},
    ]
    template.write_text("a")
    for arguments in different:
        keys.add(data._cache_key(Arguments(**arguments), ""))
    template.write_text("b")
    keys.add(data._cache_key(Arguments(chat_template=str(template)), ""))
    assert len(keys) == len(different) + 1
    assert data._cache_key(Arguments(seed=5, learning_rate=1), "") in keys


def test_too_short_sequences_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAIN_CACHE", str(tmp_path))
    with pytest.raises(ArgumentMistake, match="--seq_len=3: none of"):
        data.load_data(Arguments(seq_len=3))


def examples(*lengths):
    pairs = [(list(range(1, n + 1)), [-100] + list(range(2, n + 1))) for n in lengths]
    return batches.Examples.from_pairs(pairs)


def test_collate_pads_with_nothing_to_learn():
    some = examples(3, 9)
    batch = batches.collate([some[0], some[1]], pad_id=0)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["input_ids"][0, :4].tolist() == [1, 2, 3, 0]
    assert batch["labels"][0].tolist() == [-100, 2, 3] + [-100] * 13
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 9]


def test_training_order_is_shuffled_passes():
    some = examples(*range(2, 12))
    order = batches.TrainingOrder(some, n_items=25, seed=1)
    lengths = [len(order[i]["input_ids"]) for i in range(25)]
    assert sorted(lengths[:10]) == sorted(lengths[10:20]) == list(range(2, 12))
    assert lengths[:10] != lengths[10:20]
    assert lengths == [len(batches.TrainingOrder(some, 25, 1)[i]["input_ids"]) for i in range(25)]
    other = [len(batches.TrainingOrder(some, 25, 2)[i]["input_ids"]) for i in range(25)]
    assert lengths != other
    assert isinstance(order[0]["input_ids"], np.ndarray)

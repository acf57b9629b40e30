"""What cannot work of tasks and data, said before anything is loaded."""

import json

import pytest
from arguments import ArgumentMistake, parse_arguments
from options import data as options
from sources import OWN


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task=mlm"], "--task=mlm: not known; allowed: sft, clm, classification"),
        (
            ["--task=clm"],
            "--data=dialogues: for --task=sft, not clm; use --data=texts or your own rows",
        ),
        (
            ["--data=pairs"],
            "--data=pairs: for --task=classification, not sft; use --data=dialogues or your own",
        ),
        (
            ["--task=clm", "--data=texts", "--eval_data=pairs"],
            "--eval_data=pairs: for --task=classification, not clm",
        ),
        (["--label_column=x"], "--label_column: with --task=classification only; found --task=sft"),
        (["--text_columns=x"], "--text_columns: with --task=clm or classification only"),
        (
            ["--task=clm", "--data=texts", "--chat_template=x"],
            "--chat_template: with --task=sft only; found --task=clm",
        ),
        (
            ["--task=clm", "--data=texts", "--text_columns=a,b"],
            "--text_columns=a,b: 2 columns; --task=clm reads one",
        ),
        (
            ["--task=clm", "--data=texts", "--eval_stride=64"],
            "--eval_stride=64: use less than --seq_len=64, or tokens would have no context",
        ),
        (
            ["--task=classification", "--data=pairs", "--packing=true"],
            "--packing: with --task=sft or clm only; found --task=classification",
        ),
        (
            ["--task=classification", "--data=pairs", "--curriculum=0:8"],
            "--curriculum: with --task=sft or clm only",
        ),
        (["--eval_data=dialogues", "--eval_split=test"], "--eval_split=test: dialogues has no"),
        (["--max_train_examples=-1"], "--max_train_examples=-1: use a number of at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(words, message):
    with pytest.raises(ArgumentMistake) as caught:
        parse_arguments(words)
    assert str(caught.value).startswith(message)


def test_every_own_data_set_has_its_task():
    assert options.OWN_DATA.keys() == OWN.keys()
    assert sorted(options.OWN_DATA.values()) == sorted(options.CHOICES["task"])


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024, "n_ctx": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 256}}, 256),
        # Linear and dynamic scaling stretch; the others state the stretched number.
        ({"max_position_embeddings": 512, "rope_scaling": {"type": "linear", "factor": 4.0}}, 2048),
        (
            {
                "max_position_embeddings": 163840,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 40,
                    "original_max_position_embeddings": 4096,
                },
            },
            163840,
        ),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default"}}, 512),
        ({"max_position_embeddings": -1}, None),  # no bound
        ({"model_type": "mamba"}, None),
        ([], None),
    ],
)
def test_position_limit_is_read_from_the_configuration(tmp_path, config, limit):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert options.find_position_limit(str(tmp_path)) == limit


def test_sequences_longer_than_the_model_are_refused(tmp_path):
    assert options.find_position_limit("tiny-llama") is None
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 128}')
    for name in ("pytorch_model.bin", "tokenizer.json"):
        (tmp_path / name).touch()
    words = [f"--model={tmp_path}", "--seq_len=129"]
    with pytest.raises(ArgumentMistake, match="--seq_len=129: longer than the 128 positions of"):
        parse_arguments(words)
    parse_arguments([*words[:1], "--seq_len=128"])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArgumentMistake, match="is no JSON object"):
        parse_arguments(words)

"""Other programs' names of our arguments: translated, or refused with the reason."""

import dataclasses

import aliases
import arguments
import pytest
from arguments import ArgumentMistake, Arguments, read_arguments

FOUNDING = (
    "--local_rank=1 --model_name_or_path tiny-llama --learning_rate 3e-5 "
    "--per_device_train_batch_size 32 --weight_decay 0.05 --warmup_steps 500 --optim lamb "
    "--output_dir out"
)
REST = (
    "--num_train_epochs 3 --max_steps 100 --lr_scheduler_type cosine --bf16 "
    "--gradient_checkpointing --logging_steps 10 --save_steps 50 --save_total_limit 1 "
    "--eval_steps 20 --train_file a.jsonl --validation_file b.jsonl --max_seq_length 128 --seed 7 "
    "--overwrite_output_dir --evaluation_strategy steps --report_to none "
    "--per_device_eval_batch_size 4 --push_to_hub False --do_train --do_eval"
)


def changed(line, world_size=1):
    found, _ = read_arguments(line.split(), world_size)
    fields = dataclasses.fields(Arguments)
    return {f.name: v for f in fields if (v := getattr(found, f.name)) != f.default}


def test_founding_line_is_ours():
    assert changed(FOUNDING, world_size=8) == {
        "model": "tiny-llama",
        "learning_rate": 3e-5,
        "batch_size": 256,
        "weight_decay": 0.05,
        "warmup_steps": 500,
        "optimizer": "lamb",
        "output_dir": "out",
    }


def test_everything_else_of_such_lines_is_ours_too():
    assert changed(REST) == {
        "max_steps": 100,
        "lr_schedule": "cosine",
        "precision": "bf16",
        "gradient_checkpointing": True,
        "logging_steps": 10,
        "save_steps": 50,
        "eval_steps": 20,
        "data": "a.jsonl",
        "eval_data": "b.jsonl",
        "seq_len": 128,
        "seed": 7,
        "eval_batch_size": 4,
    }


def test_ranks_that_share_a_model_see_the_same_sequences(tmp_path):
    (tmp_path / "ds.json").write_text('{"tensor_parallel": {"autotp_size": 2}}')
    line = f"--deepspeed {tmp_path}/ds.json --per_device_train_batch_size 3"
    assert changed(line, world_size=4)["batch_size"] == 6


def test_what_was_not_taken_word_by_word_is_said():
    _, notes = read_arguments([*FOUNDING.split(), *REST.split()], 2)
    said = "\n".join(notes)
    assert "32 x 1 accumulated x 2 ranks: an effective --batch_size=64" in said
    assert "--max_steps rules over --num_train_epochs" in said
    assert "--save_total_limit=1: two are kept" in said
    assert "not needed here: --overwrite_output_dir (" in said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--per_device_train_batch_size=4 --gradient_accumulation_steps=2", {"batch_size": 24}),
        ("--num_train_epochs=2 --max_steps=-1", {"epochs": 2.0}),
        ("--max_steps -1", {"epochs": 3.0}),
        ("--bf16=false", {"precision": "fp32"}),
        ("--bf16 --tf32", {"precision": "bf16"}),
        ("--fp16 true", {"precision": "fp16"}),
        ("--optim=adamw_torch", {}),
        ("--lr_scheduler_type=constant_with_warmup", {"lr_schedule": "constant"}),
        (
            "--save_strategy=no --save_steps=9 --eval_strategy=no",
            {"save_steps": 0, "eval_steps": 0},
        ),
        ("--learning-rate 1e-3 --optim LAMB", {"learning_rate": 1e-3, "optimizer": "lamb"}),
        ("--label_smoothing_factor=0.0 --load_best_model_at_end false", {}),
        ("--steps_scale=0.5 --batch_size 6", {"steps_scale": 0.5, "batch_size": 6}),
    ],
)
def test_meaning_is_kept(line, expected):
    found = changed(line, world_size=3)
    found.pop("gradient_accumulation_steps", None)
    assert found == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--batch_size=64 --per_device_train_batch_size=8", "--batch_size is the effective batch"),
        ("--micro_batch_size=4 --per_device_train_batch_size=8", "give one of them"),
        ("--per_device_train_batch_size=many", "use a whole number"),
        ("--per_device_train_batch_size=0", "use a whole number of at least 1"),
        ("--per_device_train_batch_size", "use a whole number of at least 1"),
        ("--bf16 --fp16", "--bf16 and --fp16: give one"),
        ("--precision=fp32 --bf16", "they are the same; give one"),
        ("--optim=lamb --optimizer=adamw", "they are the same; give one"),
        ("--train_file=a --dataset_name=b", "they are the same; give one"),
        ("--save_strategy=epoch", "--save_strategy=epoch: use steps, and --save_steps"),
        ("--push_to_hub", "--push_to_hub=true: nothing is uploaded"),
        ("--trust_remote_code=True", "no code of a model's repository is run"),
        ("--label_smoothing_factor 0.1", "cross-entropy"),
        ("--fsdp full_shard", "use --deepspeed"),
        ("--fp16=maybe", "use true or false"),
        ("--optim=lamp", "not known; allowed: adamw, lamb"),
        ("--model_name_or_pth=x", "did you mean --model_name_or_path?"),
        ("--num_train_epoch=3", "did you mean --num_train_epochs?"),
        ("--learning_rte=3", "did you mean --learning_rate?"),
        ("--model_name_or_path", "expected one argument"),
        ("stray", "unknown argument stray"),
    ],
)
def test_what_has_no_meaning_here_is_refused(line, message):
    with pytest.raises(ArgumentMistake) as caught:
        read_arguments(line.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_alias_has_a_target_and_one_meaning():
    tables = [
        aliases._MAIN_ALIASES,
        aliases._NEEDLESS,
        aliases._REFUSED,
        aliases._STRATEGIES,
        dict.fromkeys(aliases._PER_DEVICE),
        dict.fromkeys(aliases._PRECISIONS),
    ]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    # Those that may have no counterpart say so themselves.
    own = set(arguments._field_types()) | {"attention", "compile"}
    assert set(aliases._MAIN_ALIASES.values()) | set(aliases._STRATEGIES.values()) <= own


@pytest.mark.train
def test_names_are_those_of_transformers():
    from transformers import TrainingArguments

    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    ours = set(arguments._field_types())
    # A name that is ours as well is ours: an argument added later needs no change of the table.
    own = {name for name in ours & theirs if aliases.is_alias(name)}
    assert own <= {"adafactor", "label_smoothing_factor", "torch_compile"}
    known = {name for name in theirs if aliases.is_alias(name)} | (ours & theirs)
    founding = {word.partition("=")[0] for word in (FOUNDING + " " + REST).split()}
    assert {name for name in theirs if f"--{name}" in founding} <= known

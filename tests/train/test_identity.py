"""What makes two trainings different, and what does not."""

import dataclasses
import json
import shutil

import identity
import numpy as np
import pytest
from arguments import parse_arguments
from batches import Examples
from safetensors.numpy import save_file


@dataclasses.dataclass
class Encoded:
    train: Examples
    eval: Examples


@pytest.fixture
def encoded():
    pairs = [([1, 2, 3], [-100, 2, 3]), ([4, 5], [4, 5])]
    return Encoded(Examples.from_pairs(pairs), Examples.from_pairs(pairs[:1]))


def describe(encoded, *argv, world_size=1, trial="/somewhere/00003-abc"):
    described = identity.describe_training(
        parse_arguments(argv), encoded, world_size, {"TRIAL_DIR": trial} if trial else {}
    )
    return json.loads(json.dumps(described))  # as it comes back from a file


@pytest.mark.parametrize(
    "argv",
    [
        ["--threads=3", "--output_dir=elsewhere", "--save_steps=5", "--keep_checkpoints=4"],
        ["--gradient_accumulation_steps=2", "--gradient_checkpointing=true"],
        ["--logging_steps=3", "--eval_steps=4", "--eval_batch_size=9", "--max_reports=3"],
        ["--attention=eager", "--packing=true", "--compile=true", "--micro_batch_size=4"],
    ],
)
def test_other_way_to_run_is_the_same_training(encoded, argv):
    assert identity.find_differences(describe(encoded), describe(encoded, *argv)) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"argv": ["--learning_rate=0.5"]}, ["--learning_rate=0.0003, not 0.5"]),
        (
            {"argv": ["--seed=4", "--max_steps=7"]},
            ["--max_steps=2000, not 7", "--seed=-1, not 4"],
        ),
        ({"argv": ["--model=tiny-llama"]}, ["another model (tiny-deepseek, not tiny-llama)"]),
        ({"trial": "/elsewhere/00004-def"}, ["trial 00003-abc, not 00004-def"]),
        ({"trial": "/elsewhere/00003-abc"}, []),
        ({"trial": ""}, []),
        ({"world_size": 8}, []),  # the effective batch stays
        (
            {"argv": ["--deepspeed=train/deepspeed/zero2.json"]},
            ["another --deepspeed configuration"],
        ),
    ],
)
def test_differences_are_named(encoded, changed, expected):
    changed = dict(changed)
    now = describe(encoded, *changed.pop("argv", []), **changed)
    assert identity.find_differences(describe(encoded), now) == expected


def test_ranks_of_deepspeed_must_stay(encoded):
    argv = ["--deepspeed=train/deepspeed/zero2.json"]
    saved, now = (describe(encoded, *argv, world_size=n) for n in (2, 4))
    assert identity.find_differences(saved, now) == [
        "2 ranks, not 4 (DeepSpeed's files fit no other)"
    ]


def test_other_tokens_are_other_data(encoded):
    saved = describe(encoded)
    encoded.eval.ids = encoded.eval.ids + np.int32(1)
    assert identity.find_differences(saved, describe(encoded)) == ["other eval data"]


def test_large_arrays_are_sampled(encoded, monkeypatch):
    monkeypatch.setattr(identity, "_WHOLE_BYTES", 64)
    monkeypatch.setattr(identity, "_PIECE_BYTES", 16)
    encoded.train.ids = np.arange(1000, dtype=np.int32)
    saved = describe(encoded)
    encoded.train.ids = encoded.train.ids.copy()
    encoded.train.ids[-1] += 1
    assert identity.find_differences(saved, describe(encoded)) == ["other train data"]


def test_model_directory_counts_by_content(encoded, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (base / name).write_text("{}")
    save_file({"w": np.zeros(2)}, base / "model.safetensors")
    saved = describe(encoded, f"--model={base}")
    moved = shutil.copytree(base, tmp_path / "moved" / "renamed")
    assert identity.find_differences(saved, describe(encoded, f"--model={moved}")) == []
    save_file({"w": np.ones(2)}, base / "model.safetensors")
    found = identity.find_differences(saved, describe(encoded, f"--model={base}"))
    assert found == ["another model (base, not base)"]


def test_argument_of_another_version_stands_at_its_default(encoded):
    saved, now = describe(encoded), describe(encoded)
    del saved["arguments"]["weight_decay"]
    saved["arguments"]["given_up"] = 3
    assert identity.find_differences(saved, now) == []
    now["arguments"]["weight_decay"] = 0.5
    assert identity.find_differences(saved, now) == ["--weight_decay=0.01, not 0.5"]


def test_chat_template_counts_by_what_it_makes_of_the_data(encoded, tmp_path):
    here, moved = tmp_path / "chat.jinja", tmp_path / "moved.jinja"
    for path in (here, moved):
        path.write_text("{{ messages }}")
    saved = describe(encoded, f"--chat_template={here}")
    assert identity.find_differences(saved, describe(encoded, f"--chat_template={moved}")) == []


def test_what_moves_last_digits_is_named(encoded):
    argv = ["--threads=2", "--packing=true", "--save_steps=5"]
    saved, now = describe(encoded), describe(encoded, *argv, world_size=2)
    assert identity.find_differences(saved, now) == []
    assert identity.find_roundings(saved, now) == [
        "--packing False -> True",
        "--threads 0 -> 2",
        "ranks 1 -> 2",
    ]


def test_upgrades_are_named(encoded):
    saved, now = describe(encoded), describe(encoded)
    saved["libraries"]["torch"] = "1.0"
    assert identity.find_roundings(saved, now) == [f"torch 1.0 -> {now['libraries']['torch']}"]

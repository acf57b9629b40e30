"""Names, aliases and refusals of the optimizer's arguments."""

import json

import pytest
from arguments import ArgumentMistake, Arguments, parse_arguments
from deepspeed_config import zero_stage
from options.optimizer import ALIASES, CHOICES, sharding_mistake
from plans import plan_steps

from tests.train.conftest import ROOT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AdamW", "adamw"),
        ("adamw_torch", "adamw"),
        ("adamw_hf", "adamw"),
        ("LAMB", "lamb"),
        ("Lion", "lion"),
        ("Adafactor", "adafactor"),
        ("MUON", "muon"),
        ("SGD", "sgd"),
    ],
)
def test_optimizer_has_aliases_in_any_case(text, expected):
    assert parse_arguments([f"--optimizer={text}"]).optimizer == expected


def test_schedule_has_the_aliases_of_transformers():
    assert parse_arguments(["--lr_schedule=constant_with_warmup"]).lr_schedule == "constant"
    assert parse_arguments(["--lr_schedule=warmup_stable_decay"]).lr_schedule == "wsd"


def test_every_alias_stands_for_a_choice_and_hides_none():
    for field, aliases in ALIASES.items():
        assert set(aliases.values()) <= set(CHOICES[field])
        assert not set(aliases) & set(CHOICES[field])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--optimizer=Adam8"], "--optimizer=Adam8: not known; allowed: adamw, lamb, adafactor, "),
        (["--lr_schedule=step"], "--lr_schedule=step: not known; allowed: linear, cosine, "),
        (["--decay_shape=x"], "--decay_shape=x: not known; allowed: linear, cosine, sqrt"),
        (["--fused=maybe"], "--fused=maybe: not known; allowed: auto, true, false"),
        (["--warmup_steps=5", "--warmup_ratio=0.1"], "--warmup_steps and --warmup_ratio: give one"),
        (["--warmup_ratio=5"], "--warmup_ratio=5: is a share; use a number from 0 to 1"),
        (["--min_lr_ratio=1.5"], "--min_lr_ratio=1.5: is a share"),
        (["--lr_cycles=0"], "--lr_cycles=0: use a number of at least 1"),
        (["--lr_schedule=exponential"], "say with --min_lr_ratio what it ends at"),
        (["--final_weight_decay=0.1"], "read only with --weight_decay_schedule=linear or cosine"),
        (["--weight_decay_schedule=cosine"], "give its end with --final_weight_decay"),
        (["--layer_lr_decay=0"], "--layer_lr_decay=0: use a number above 0, at most 1"),
        (["--layer_lr_decay=1.1"], "--layer_lr_decay=1.1: use a number above 0, at most 1"),
        (["--adam_beta1=1"], "--adam_beta1=1: use a number of at least 0 and below 1, or -1"),
        (["--adam_beta2=-0.5"], "--adam_beta2=-0.5: use a number of at least 0 and below 1"),
        (["--adam_epsilon=-0.5"], "--adam_epsilon=-0.5: use a number of at least 0, or -1"),
        (["--momentum=0.9"], "--momentum=0.9: adamw has none; leave it out (only muon, sgd have"),
        (["--optimizer=lion", "--adam_epsilon=1e-8"], "--adam_epsilon=1e-08: lion has none"),
        (["--optimizer=lamb", "--fused=true"], "--fused=true: not with --optimizer=lamb"),
    ],
)
def test_mistake_is_named(argv, message):
    with pytest.raises(ArgumentMistake) as caught:
        parse_arguments(argv)
    assert message in str(caught.value)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("optimizer", CHOICES["optimizer"])
def test_optimizer_that_needs_whole_tensors_is_refused_under_zero(tmp_path, stage, optimizer):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    argv = [f"--optimizer={optimizer}", f"--deepspeed={path}"]
    least = {"adafactor": 1, "muon": 1, "lamb": 3}.get(optimizer, 4)
    if stage < least:
        assert parse_arguments(argv).optimizer == optimizer
        return
    with pytest.raises(ArgumentMistake, match=f"--optimizer={optimizer}: .*ZeRO stage {stage}"):
        parse_arguments(argv)


@pytest.mark.parametrize("optimizer", CHOICES["optimizer"])
def test_optimizer_that_needs_whole_layers_is_refused_under_tensor_parallelism(optimizer):
    mistake = sharding_mistake(optimizer, 1, 2)
    needs_layers = optimizer in ("lamb", "adafactor", "muon")
    assert ("tensor parallelism cuts them over 2 ranks" in mistake) == needs_layers
    path = ROOT / "train" / "deepspeed" / "tensor_parallel2.json"
    argv = [f"--optimizer={optimizer}", f"--deepspeed={path}"]
    if needs_layers:
        with pytest.raises(ArgumentMistake, match="needs whole layers"):
            parse_arguments(argv)
    else:
        parse_arguments(argv)


def test_zero_stage_is_read_from_the_file(tmp_path):
    assert zero_stage("none") == 0
    assert zero_stage(str(ROOT / "train" / "deepspeed" / "zero1.json")) == 1
    assert zero_stage(str(ROOT / "train" / "deepspeed" / "zero2.json")) == 2
    path = tmp_path / "ds.json"
    for text, expected in [
        ("{}", 0),
        ("{", None),
        ("[]", None),
        ('{"zero_optimization": 2}', None),
    ]:
        path.write_text(text)
        assert zero_stage(str(path)) == expected
    path.write_text('{"zero_optimization": {"stage": 7}}')
    assert zero_stage(str(path)) is None
    assert zero_stage(str(tmp_path / "nowhere.json")) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1),  # 100 by default, scaled
        ({"warmup_steps": 1000}, 10),
        ({"warmup_steps": 0}, 0),
        ({"warmup_ratio": 0.06}, 2),  # of the 20 that remain, rounded up
        ({"warmup_ratio": 1.0}, 20),
    ],
)
def test_warmup_follows_the_scale_of_steps(options, expected):
    assert plan_steps(Arguments(steps_scale=0.01, **options), 100).warmup_steps == expected

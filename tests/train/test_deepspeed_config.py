"""The linter of DeepSpeed configurations: what each rule says, and that ours pass."""

import functools
import json
import re
from pathlib import Path

import deepspeed_config
import pytest
from arguments import Arguments
from deepspeed_config import KNOWN_KEYS, find_mistakes, zero_stage
from machine import Machine

ROOT = Path(__file__).parents[2]
OURS = sorted((ROOT / "train/deepspeed").glob("*.json"))
CPU, GPUS = Machine(2, False), Machine(2, True)
RULES = [
    ({"tensor_model_parallel_size": 4}, {}, CPU, "no key of DeepSpeed: it is tensor_parallel"),
    ({"pipeline_model_parallel_size": 2}, {}, CPU, "no key of DeepSpeed: pipelines are built"),
    ({"zero_optimisation": {}}, {}, CPU, "did you mean zero_optimization?"),
    ({"nebula": {}}, {}, CPU, "it was removed"),
    ({"zero_optimization": 2}, {}, CPU, "2 is not allowed; use an object"),
    ({"zero_optimization": {"stage": 4}}, {}, CPU, "4 is not allowed; use 0, 1, 2 or 3"),
    ({"zero_optimization": {"stage": True}}, {}, CPU, "true is not allowed"),
    (
        {"zero_optimization": {"stage": 3}, "pipeline": {"stages": 2}},
        {},
        CPU,
        "3 is refused by DeepSpeed with pipeline parallelism",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}},
        {},
        CPU,
        "only stage 3 partitions parameters, and this is 2",
    ),
    (
        {"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}},
        {},
        CPU,
        "no optimizer state to offload with stage 0",
    ),
    (
        {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}},
        {},
        CPU,
        "needs an nvme_path",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}},
        {},
        CPU,
        "partial offloading needs stage 3",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
        {"optimizer": "lamb"},
        CPU,
        "DeepSpeed's Adam would train instead of --optimizer=lamb",
    ),
    ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, {}, GPUS, "takes one"),
    ({"fp16": {"enabled": True}}, {"precision": "fp16"}, CPU, "needs a GPU"),
    ({"bf16": {"enabled": True}}, {"precision": "fp32"}, GPUS, "true contradicts --precision=fp32"),
    ({"bf16": {"enabled": False}}, {"precision": "bf16"}, GPUS, "false contradicts"),
    ({"bf16": {"enabled": True}}, {}, CPU, "without a GPU auto is fp32"),
    ({"fp16": {"enabled": True}}, {}, GPUS, "never fp16"),
    ({"train_batch_size": 64}, {}, CPU, "64 is not 16, --batch_size"),
    ({"train_micro_batch_size_per_gpu": 4}, {}, CPU, "4 is not 8, the micro-batch"),
    ({"gradient_accumulation_steps": 4}, {}, CPU, "4 is not 1, the accumulation"),
    ({"gradient_clipping": 0.5}, {}, CPU, "0.5 is not 1, --max_grad_norm"),
    (
        {
            "train_batch_size": 16,
            "train_micro_batch_size_per_gpu": 8,
            "gradient_accumulation_steps": 2,
        },
        {},
        CPU,
        "16 is not 8 x 2 accumulated x 2 ranks = 32",
    ),
    ({"optimizer": {"type": "Lamb"}}, {"optimizer": "lamb"}, CPU, "instead of --optimizer=lamb"),
    ({"scheduler": {"type": "WarmupLR"}}, {}, CPU, "instead of --lr_schedule=linear"),
]


def said(path, machine=CPU, **changes):
    return list(find_mistakes(Arguments(deepspeed=str(path), **changes), machine))


@pytest.mark.parametrize(("config", "changes", "machine", "message"), RULES)
def test_what_cannot_work_is_named(tmp_path, config, changes, machine, message):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(config))
    lines = said(path, machine, **changes)
    assert any(message in line for line in lines), lines
    assert all(line.startswith(f"--deepspeed={path}: ") and "\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "a": 1,\n}', ":3: not JSON: "),
        ("[1]", ": not a JSON object"),
        ('{"fp16": {}, "fp16": {}}', ": cannot be read: fp16 stands there twice"),
        ("[" * 100_000, "not"),
        ("\udcff", "cannot be read"),
    ],
)
def test_file_that_is_none_is_named(tmp_path, text, message):
    path = tmp_path / "ds.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (line,) = said(path)
    assert line.startswith(f"--deepspeed={path}")
    assert message in line
    assert zero_stage(str(path)) is None


def test_missing_file_is_named():
    assert said("nowhere.json") == ["--deepspeed=nowhere.json: no such file; or use none"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
@pytest.mark.parametrize("machine", [Machine(), CPU, GPUS], ids=["unknown", "cpu", "gpus"])
def test_our_configurations_pass(path, machine):
    for precision in ("auto", "fp32", "bf16"):
        assert said(path, machine, precision=precision) == []


def test_numbers_that_agree_pass(tmp_path):
    path = tmp_path / "ds.json"
    numbers = {"train_batch_size": 16, "gradient_accumulation_steps": 2, "gradient_clipping": 1}
    path.write_text(json.dumps({**numbers, "train_micro_batch_size_per_gpu": 4}))
    assert said(path, gradient_accumulation_steps=2) == []
    assert said(path, micro_batch_size=4) == []


def test_stage_is_read(tmp_path):
    assert zero_stage("none") == 0
    assert zero_stage(str(ROOT / "train/deepspeed/zero2.json")) == 2
    (tmp_path / "ds.json").write_text("{}")
    assert zero_stage(str(tmp_path / "ds.json")) == 0
    assert zero_stage(str(tmp_path / "nowhere.json")) is None


@functools.cache
def sources():
    import importlib.util

    (folder,) = importlib.util.find_spec("deepspeed").submodule_search_locations
    names = set()
    for path in Path(folder).rglob("*.py"):
        names |= set(re.findall(r"[\"']([a-z0-9_]+)[\"']", path.read_text(errors="replace")))
        names |= set(re.findall(r"^    ([a-z0-9_]+): ", path.read_text(), re.MULTILINE))
    return names


@pytest.mark.train
def test_every_known_key_stands_in_the_installed_deepspeed():
    assert set(KNOWN_KEYS) <= sources()
    assert not set(deepspeed_config._INSTEAD) & set(KNOWN_KEYS)

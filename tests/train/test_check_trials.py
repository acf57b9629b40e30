"""The check before a submission: on a login node without any package, and never a false refusal."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys

from safetensors.numpy import save_file

from tests.train.conftest import ROOT

UNKNOWN, CPU, GPUS = {}, {"ranks": 1, "gpus": 0}, {"ranks": 2, "gpus": 2}


def judge(tmp_path, lines):
    """Ask about command lines, each for a machine, as a login node with nothing installed would."""
    trials = (
        json.dumps({"trial": n, "script": "train/main.py", "argv": argv, "machine": machine})
        for n, (argv, machine) in enumerate(lines)
    )
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    asked = subprocess.run(
        [sys.executable, "-S", str(ROOT / "train/check_trials.py")],
        input="\n".join(trials),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=environ,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    answers = [json.loads(line) for line in asked.stdout.splitlines()]
    return {(a["trial"], a["mistake"]) for a in answers if "mistake" in a}


def documented_lines():
    """Read every command line of ``main.py`` in train/README.md, without its launcher."""
    text = (ROOT / "train/README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^    (?:python|deepspeed) .*train/main\.py (.*)$", text, re.MULTILINE)
    assert len(lines) > 4
    return [[word for word in shlex.split(line) if word != "..."] for line in lines]


def test_no_documented_line_is_refused(tmp_path):
    (tmp_path / "glue/mrpc").mkdir(parents=True)
    (tmp_path / "train").symlink_to(ROOT / "train")
    (tmp_path / "DIR").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "DIR" / name).write_text("{}")
    save_file({}, tmp_path / "DIR/model.safetensors")
    (tmp_path / "ds_config.json").symlink_to(ROOT / "train/deepspeed/zero2.json")
    lines = list(itertools.product(documented_lines(), (UNKNOWN, CPU, GPUS)))
    assert judge(tmp_path, lines) == set()


def test_what_a_login_node_lacks_refuses_nothing(tmp_path):
    lines = [
        ["--eval_quantized=8bit,4bit", "--response_score_prompts=4", "--tensorboard=true"],
        ["--finetuning=qlora", "--precision=bf16", "--merge_adapters=true"],
        ["--attention=flash_attention_2", "--precision=bf16", "--packing=true"],
        ["--precision=fp8", "--compile=true"],
        ["--optimizer=muon", "--lr_schedule=wsd"],
        ["--model=deepseek-ai/deepseek-7b", "--data=/nodes/alone/have/this"],
    ]
    assert judge(tmp_path, itertools.product(lines, (UNKNOWN, GPUS))) == set()

"""Wrong inputs end with one clear line and exit code 2, and nothing is written over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from arguments import ArgumentMistake, Arguments, parse_arguments

from tests.train.conftest import ROOT

pytestmark = pytest.mark.train
ROW = {"prompt": "How many?", "response": "Seven."}
LATE = {"prompt": "word " * 400, "response": "Too late."}


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory, cache_dir):
    """A model with 512 positions and a tokenizer; and the same with too few embeddings."""
    import shutil

    from data import load_data
    from models import build_model

    arguments = Arguments(model="tiny-llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAIN_CACHE", str(cache_dir))
        data = load_data(arguments)
    folder = tmp_path_factory.mktemp("models")
    for name, n_rows in (("fits", None), ("mismatch", 100)):
        model = build_model(arguments, data)
        if n_rows:
            model.resize_token_embeddings(n_rows)
        model.save_pretrained(folder / name)
        for path in Path(data.tokenizer_dir).iterdir():
            shutil.copy(path, folder / name)
    for name in ("cut", "incomplete", "speechless", "torn config"):
        shutil.copytree(folder / "fits", folder / name)
    os.truncate(folder / "cut/model.safetensors", 30_000)
    config = json.loads((folder / "fits/config.json").read_text())
    deeper = {**config, "num_hidden_layers": config["num_hidden_layers"] + 1}
    deeper.pop("layer_types", None)
    (folder / "incomplete/config.json").write_text(json.dumps(deeper))
    (folder / "torn config/config.json").write_text('{"model_type": "lla')
    for path in (folder / "speechless").glob("*token*"):
        path.unlink()
    return folder


def inputs(name, tmp_path, models):
    """Return the arguments that are wrong, and what the line has to say."""
    (tmp_path / "file").write_text("")
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 5}}')
    (tmp_path / "torn.jsonl").write_text('{"prompt": "a", "respo')
    few = write_rows(tmp_path / "few.jsonl", *[ROW] * 16)
    return {
        "missing data": ({"data": f"{tmp_path}/no.jsonl"}, "no.jsonl: no such file or directory"),
        "missing evaluation data": (
            {"eval_data": f"{tmp_path}/no.jsonl"},
            "no.jsonl: no such file or directory",
        ),
        "torn data": ({"data": f"{tmp_path}/torn.jsonl"}, "torn.jsonl:1: not JSON"),
        "sequence longer than the model": (
            {"model": f"{models}/fits", "seq_len": 1000},
            "--seq_len=1000: longer than the 512 positions",
        ),
        "tokenizer of another model": (
            {"model": f"{models}/mismatch"},
            "tokens, the model embeds only 100",
        ),
        "weights cut short": (
            {"model": f"{models}/cut"},
            "/cut: model.safetensors has 30,000 bytes, its header says ",
        ),
        "weights that lack a layer": (
            {"model": f"{models}/incomplete"},
            "/incomplete: its weights lack model.layers.2.",
        ),
        "model without tokenizer": ({"model": f"{models}/speechless"}, "no tokenizer in it"),
        "torn config": ({"model": f"{models}/torn config"}, "config.json is no JSON object: "),
        "no template": ({"chat_template": f"{tmp_path}/no.jinja"}, "no.jinja: no such file"),
        "no model": ({"model": f"{tmp_path}/nowhere"}, "nor a local directory"),
        "model that is empty": ({"model": str(tmp_path)}, f"{tmp_path}: no config.json"),
        "no tokens to evaluate": (
            {"data": few, "eval_data": write_rows(tmp_path / "late.jsonl", LATE), "seq_len": 32},
            "has an answer within it; use a larger one",
        ),
        "no tokens to train on": (
            {"data": write_rows(tmp_path / "late.jsonl", *[LATE] * 9), "eval_data": few},
            "has an answer within it; use a larger one",
        ),
        "nowhere to write": ({"output_dir": f"{tmp_path}/file/out"}, "file is no directory"),
        "no GPU": ({"precision": "fp16"}, "--precision=fp16: needs a GPU"),
        "DeepSpeed file": ({"deepspeed": f"{tmp_path}/ds.json"}, "5 is not allowed"),
        "no such argument": ({"learning_rte": 1}, "did you mean --learning_rate?"),
        "no such optimizer": ({"optimizer": "lamp"}, "not known; allowed: adamw"),
    }[name]


CASES = (
    "missing data",
    "missing evaluation data",
    "torn data",
    "sequence longer than the model",
    "tokenizer of another model",
    "weights cut short",
    "weights that lack a layer",
    "model without tokenizer",
    "torn config",
    "no template",
    "no model",
    "model that is empty",
    "no tokens to evaluate",
    "no tokens to train on",
    "nowhere to write",
    "no GPU",
    "DeepSpeed file",
    "no such argument",
    "no such optimizer",
)


def contents(folder):
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input_is_one_line_and_spoils_nothing(
    name, make_trial, small_model, tmp_path, monkeypatch
):
    import main
    import torch

    if name == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    wrong, line = inputs(name, tmp_path, small_model)
    trial = make_trial("wrong", **wrong)
    # What an earlier attempt has left: a save that was cut short, and reports.
    (trial.checkpoints / ".tmp-checkpoint-10").mkdir()
    (trial.checkpoints / ".tmp-checkpoint-10/model.safetensors").write_bytes(b"weights")
    trial.metrics_file.write_text('{"step": 7, "train_loss": 1.5}\n')
    before = contents(trial.root)
    for key, value in {**trial.environ, "TRIAL_ATTEMPT": "2"}.items():
        monkeypatch.setenv(key, value)
    threads = torch.get_num_threads()
    try:
        with pytest.raises(ArgumentMistake) as caught:
            main._train(main._complete(parse_arguments(trial.command())))
    finally:
        torch.set_num_threads(threads)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(trial.root) == before


@pytest.mark.parametrize(
    ("given", "kind", "line"),
    [
        ("model=/nowhere/m", "warning", "on this machine --model=/nowhere/m: neither tiny-"),
        ("model=tiny-lama", "mistake", "--model=tiny-lama: neither tiny-deepseek"),
        ("model=nowhere/at/all", "mistake", "--model=nowhere/at/all: neither tiny-deepseek"),
        ("data=/nowhere/d.jsonl", "warning", "--data=/nowhere/d.jsonl: not on this machine"),
        ("chat_template=no.jinja", "mistake", "--chat_template=no.jinja: no such file"),
        ("lora_rank=4", "warning", "--lora_rank means nothing with --finetuning=full"),
        ("eval_data=train/main.py,no.csv", "mistake", "--eval_data=no.csv: no such file"),
    ],
)
def test_wrong_input_is_found_before_anything_is_submitted(given, kind, line):
    from check_trials import judge

    objections = list(judge([f"--{given}"], {"ranks": 1, "gpus": 0}))
    assert [found for found, _ in objections] == [kind]
    assert objections[0][1].startswith(line)


def test_wrong_input_ends_the_program_with_2_and_no_traceback(make_trial, tmp_path):
    trial = make_trial("wrong", data=f"{tmp_path}/no.jsonl")
    done = subprocess.run(
        [sys.executable, "train/main.py", *trial.command()],
        cwd=ROOT,
        env={**trial.environ, "TRIAL_ATTEMPT": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("train/main.py: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1
    assert "no.jsonl: no such file or directory" in lines[0]
    assert "Traceback" not in done.stderr
    assert not os.listdir(trial.checkpoints)

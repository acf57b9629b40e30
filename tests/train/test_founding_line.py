"""The founding documents' command line, as it stands, on two DeepSpeed ranks of a CPU."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.conftest import ROOT

pytestmark = pytest.mark.train
LINE = (
    "train/main.py --model_name_or_path deepseek-ai/deepseek-7b --learning_rate 3e-5 "
    "--per_device_train_batch_size 32 --weight_decay 0.05 --warmup_steps 500 --optim lamb "
    "--deepspeed ds_config.json --output_dir {output} --max_steps 3"
)


@pytest.fixture(scope="session")
def hub_home(tmp_path_factory, cache_dir):
    """A cache of Hugging Face that has the model: DeepSeek's architecture, tiny, with tokenizer."""
    import torch
    from arguments import Arguments
    from data import load_data
    from models import build_model

    home = tmp_path_factory.mktemp("hf")
    folder = home / "hub/models--deepseek-ai--deepseek-7b"
    snapshot = folder / "snapshots/0123abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("0123abc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAIN_CACHE", str(cache_dir))
        data = load_data(Arguments())
    torch.manual_seed(0)
    build_model(Arguments(), data).save_pretrained(snapshot)
    for path in Path(data.tokenizer_dir).iterdir():
        shutil.copy(path, snapshot)
    return home


@pytest.fixture
def folder(tmp_path, hub_home):
    """Where the line is typed: a checkout, with a ds_config.json."""
    for name in ("train", "orchestrator"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "train/deepspeed/zero2.json", tmp_path / "ds_config.json")
    return tmp_path


def type_(trial, hub_home, folder, *launcher, line=LINE):
    words = line.format(output=trial.checkpoints).split()
    environ = {
        **trial.environ,
        "HF_HOME": str(hub_home),
        "TRIAL_ATTEMPT": "1",
        # As in an activated environment.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environ.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [*launcher, *words],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
        check=False,
    )
    return done.returncode, done.stdout


def deepspeed():
    with socket.socket() as probe:  # its own default is one port for everybody
        probe.bind(("127.0.0.1", 0))
        return ["deepspeed", "--num_gpus=2", f"--master_port={probe.getsockname()[1]}"]


def test_founding_line_runs_as_it_stands(make_trial, hub_home, folder):
    trial = make_trial("founding")
    code, out = type_(trial, hub_home, folder, *deepspeed())
    assert code == 0, out
    assert "32 x 1 accumulated x 2 ranks: an effective --batch_size=64" in out
    assert trial.steps_saved() == [3]
    assert trial.last()["steps"] == 3
    assert trial.last()["eval_perplexity"] > 1


@pytest.mark.slow
def test_our_launcher_trains_the_same(make_trial, hub_home, folder):
    curves = []
    for name, launcher in (
        ("theirs", deepspeed()),
        ("ours", [sys.executable, "train/launch.py", "--ranks=2"]),
    ):
        trial = make_trial(name)
        code, out = type_(trial, hub_home, folder, *launcher)
        assert code == 0, out
        curves.append(trial.curve())
    assert curves[0] == curves[1]


def test_model_that_is_not_at_hand_is_one_line(make_trial, tmp_path, folder):
    trial = make_trial("missing")
    code, out = type_(trial, tmp_path / "empty", folder, sys.executable)
    assert code == 2
    lines = [line for line in out.splitlines() if "--model=" in line]
    assert len(lines) == 1
    assert lines[0].startswith("train/main.py: --model=deepseek-ai/deepseek-7b: no such directory")
    assert "Traceback" not in out
    assert not trial.steps_saved()


@pytest.mark.slow
def test_founding_line_is_a_sweep(make_trial, hub_home, folder, tmp_path):
    """As a sweep's command on this machine: planned, tried and collected."""
    program, _, rest = LINE.partition(" ")
    constants = rest.replace("--optim lamb ", "").replace("--output_dir {output} ", "").split()
    command = [*deepspeed(), "${program}", *constants, "${args_no_equals}"]
    (folder / "templates").symlink_to(ROOT / "templates")
    (folder / "founding.yaml").write_text(
        json.dumps(
            {
                "program": program,
                "command": command,
                "metric": {"name": "eval_perplexity", "goal": "minimize"},
                "parameters": {"optim": ["lamb"]},
                "partition": "cpu",
                "code": "live",
                "workdir": str(folder),
            }
        )
    )
    trial = make_trial("unused")
    environ = {k: v for k, v in trial.environ.items() if not k.startswith("TRIAL_")}
    environ |= {
        "HF_HOME": str(hub_home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "submit", "founding.yaml", "--cluster", "local"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    logs = [path.read_text() for path in (folder / "results").rglob("*.log")]
    assert done.returncode == 0, [done.stdout, done.stderr, *logs]
    (result,) = (folder / "results/founding").rglob("result.json")
    assert json.loads(result.read_text())["metrics"]["steps"] == 3

"""Saves that fail, checkpoints that do not load or are of another training."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest
from checkpoints import AgreedMistake, LoadFailed, NoneUsable, SaveFailed

from tests.faults.small_disk import small_disk
from tests.train.conftest import ROOT

pytestmark = pytest.mark.train
SHORT = {"max_steps": 12, "logging_steps": 3, "save_steps": 4, "eval_steps": 0}


@pytest.fixture
def train_again(train_here):
    """Train in this process; a second time in the directory of a first."""

    def again(trial, **arguments):

        arguments = {**trial.arguments, "output_dir": str(trial.checkpoints), **arguments}
        number = len(os.listdir(trial.root.parent))
        return train_here(f"again-{number}/{trial.root.name}", **arguments)  # the same trial

    return again


@pytest.fixture
def full_disk(monkeypatch):
    """Let saves of some steps find the disk full while they write the optimizer."""
    import torch

    def fill(*steps):
        real = torch.save

        def save(value, path, *args, **kwargs):
            step = re.search(r"checkpoint-(\d+)", str(path))
            if str(path).endswith("optimizer.pt") and int(step[1]) in steps:
                real(value, path, *args, **kwargs)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            real(value, path, *args, **kwargs)

        monkeypatch.setattr(torch, "save", save)

    return fill


def names(trial):
    return sorted(os.listdir(trial.checkpoints))


def test_save_that_fails_in_between_is_a_warning(train_here, full_disk, capfd):
    full_disk(8)
    trial = train_here("a", **SHORT)
    assert names(trial) == ["checkpoint-12", "checkpoint-4"]
    said = capfd.readouterr().err
    assert said.count("warning: the checkpoint of step 8 was not saved") == 1
    assert "No space left on device" in said


def test_last_save_that_fails_ends_the_program(train_here, full_disk):
    full_disk(8, 12)
    with pytest.raises(SaveFailed, match=r"step 12 was not saved: .*No space left on device"):
        train_here("a", **SHORT)


def test_older_ones_make_room(train_here, full_disk, monkeypatch):
    import checkpoints

    full_disk(16)
    real = checkpoints.rotate

    def rotate(output_dir, keep, *args):
        real(output_dir, keep, *args)
        if keep == 2:
            full_disk()  # there is room now
            monkeypatch.undo()

    monkeypatch.setattr(checkpoints, "rotate", rotate)
    trial = train_here("a", **{**SHORT, "max_steps": 16}, keep_checkpoints=3)
    assert trial.steps_saved() == [8, 12, 16]


def test_real_full_disk_leaves_the_one_before(train_here, tmp_path, capfd):
    whole = train_here("whole", **SHORT)
    newest = whole.checkpoints / "checkpoint-12"
    n_bytes = sum(path.stat().st_size for path in newest.rglob("*"))
    with small_disk(tmp_path / "disk", f"size={n_bytes * 3 // 2}") as disk:
        with pytest.raises(SaveFailed, match=r"step 12 .*No space left on device"):
            train_here("a", **SHORT, output_dir=str(disk.path))
        assert os.listdir(disk.path) == ["checkpoint-4"]
    assert "warning: the checkpoint of step 8 was not saved" in capfd.readouterr().err


@pytest.mark.slow
def test_full_disk_parts_no_ranks(make_trial, tmp_path):
    trial = make_trial("a", **SHORT, deepspeed="train/deepspeed/zero2.json")
    with small_disk(tmp_path / "disk", "size=5m") as disk:  # room for one checkpoint, 3.6 MB
        trial.arguments["output_dir"] = str(disk.path)
        process = trial.start(sys.executable, "train/launch.py", "--ranks=2")
        assert process.wait(timeout=600) == 1, trial.log()
        assert os.listdir(disk.path) == ["checkpoint-4"]
    lines = trial.log().splitlines()
    assert sum("warning: the checkpoint of step 8 was not saved" in line for line in lines) == 1
    assert re.search("step 12 was not saved: .*No space left on device", lines[-1])


@pytest.mark.slow
def test_checkpoint_that_does_not_load_ends_all_ranks(make_trial):
    import checkpoints

    launch = (sys.executable, "train/launch.py", "--ranks=2")
    trial = make_trial("a", **SHORT, deepspeed="train/deepspeed/zero2.json").run(*launch)
    bad = trial.checkpoints / "checkpoint-12"
    (shard,) = bad.glob("global_step12/*zero_pp_rank_1_*optim_states.pt")
    shard.write_bytes(b"no pickle")
    marker = json.loads((bad / "COMPLETE.json").read_text())
    marker["files"][str(shard.relative_to(bad))] = [9, checkpoints.checksum(shard)]
    (bad / "COMPLETE.json").write_text(json.dumps(marker))
    process = trial.start(*launch)
    assert process.wait(timeout=300) == 1, trial.log()
    lines = [line for line in trial.log().splitlines() if line.startswith("train/main.py: ")]
    assert len(lines) == 1
    assert "it does not load" in lines[0]
    trial.run(*launch)
    assert re.search("resuming from .*checkpoint-8", trial.log())


def test_checkpoint_of_another_training_is_refused(train_here, train_again, capfd):
    trial = train_here("a", **SHORT)
    before = {p: p.read_bytes() for p in trial.checkpoints.rglob("*") if p.is_file()}
    with pytest.raises(AgreedMistake, match=r"of another training: .*--learning_rate=0.001, not"):
        train_again(trial, learning_rate=0.5)
    assert {p: p.read_bytes() for p in trial.checkpoints.rglob("*") if p.is_file()} == before


def test_all_damaged_never_starts_from_nothing(train_here, train_again, capfd):
    trial = train_here("a", **SHORT)
    for name in names(trial):
        (trial.checkpoints / name / "optimizer.pt").write_bytes(b"")
    with pytest.raises(NoneUsable, match=r"none of 2 checkpoint\(s\) can be used"):
        train_again(trial)
    assert capfd.readouterr().err.count("REFUSED") == 2
    assert names(trial) == ["checkpoint-12", "checkpoint-8"]


def test_damaged_one_does_not_count_as_kept(train_here, train_again, capfd):
    trial = train_here("a", **SHORT)
    (trial.checkpoints / "checkpoint-12" / "optimizer.pt").write_bytes(b"")
    (trial.checkpoints / "checkpoint-12").rename(trial.checkpoints / "checkpoint-11")
    again = train_again(trial, save_steps=10)
    assert names(trial) == ["checkpoint-10", "checkpoint-12"]
    assert again.curve()[-1]["steps"] == 12


def test_step_of_a_damaged_one_is_saved_again(train_here, train_again, capfd):
    trial = train_here("a", **SHORT)
    newest = trial.checkpoints / "checkpoint-12"
    whole = (newest / "model.safetensors").read_bytes()
    (newest / "model.safetensors").write_bytes(b"damaged")
    train_again(trial)
    assert "REFUSED" in capfd.readouterr().err
    assert names(trial) == ["checkpoint-12", "checkpoint-8"]
    assert (newest / "model.safetensors").read_bytes() == whole


def test_checkpoint_that_does_not_load_is_refused_the_next_time(train_here, train_again, capfd):
    import checkpoints

    trial = train_here("a", **SHORT)
    bad = trial.checkpoints / "checkpoint-12"
    (bad / "scheduler.pt").write_bytes(b"no pickle")
    marker = json.loads((bad / "COMPLETE.json").read_text())
    marker["files"]["scheduler.pt"] = [9, checkpoints.checksum(bad / "scheduler.pt")]
    (bad / "COMPLETE.json").write_text(json.dumps(marker))
    with pytest.raises(LoadFailed, match="it does not load"):
        train_again(trial)
    train_again(trial)
    said = capfd.readouterr().err
    assert "REFUSED checkpoint" in said
    assert "checkpoint-8" in said.rpartition("resuming from")[2]


@pytest.mark.parametrize(("kind", "n"), [("plain", 3), ("zero2", 3), ("lora", 3)])
def test_interrupted_anywhere_equals_uninterrupted(kind, n):
    check_points(kind, n, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "zero2", "lora"])
def test_twenty_points_equal_uninterrupted(kind):
    check_points(kind, 20, seed=1)


def check_points(kind, n, seed):
    argv = [sys.executable, "-m", "tests.train.preemption_points"]
    done = subprocess.run(
        [*argv, "--kind", kind, "--n", str(n), "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=850 if n < 10 else 7200,
    )
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.parametrize(
    ("arguments", "used"),
    [
        ({}, set()),
        ({"finetuning": "lora"}, {"peft"}),
        pytest.param({"eval_quantized": "8bit"}, {"bitsandbytes"}, marks=pytest.mark.slow),
        pytest.param(
            {"finetuning": "qlora", "model": "tiny-llama"},
            {"peft", "bitsandbytes", "torchao"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["plain", "lora", "eval_quantized", "qlora"],
)
def test_trial_imports_nothing_it_does_not_use_and_says_only_what_is_ours(
    make_trial, tmp_path, arguments, used
):
    trial = make_trial("one", max_steps=2, warmup_steps=1, eval_steps=0, **arguments)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "def show():\n"
        "    names = {n.partition('.')[0] for n, m in sys.modules.items() if m is not None}\n"
        "    sys.stderr.write('IMPORTED ' + ' '.join(sorted(names)) + '\\n')\n"
        "atexit.register(show)\n"
    )
    process = trial.start(PYTHONPATH=f"{site}:{trial.environ['PYTHONPATH']}")
    assert process.wait(timeout=400) == 0, trial.log()
    imported = set(re.search(r"^IMPORTED (.*)$", trial.log(), re.MULTILINE)[1].split())
    unused = "deepspeed peft bitsandbytes torchao tensorboard datasets sacrebleu scipy pandas"
    assert imported & set(unused.split()) == used
    assert "torch" in imported
    ours = (f"{trial.arguments.get('model', 'tiny-deepseek')}: ", "step ", "IMPORTED ")
    assert [line for line in trial.log().splitlines() if not line.startswith(ours)] == []

"""``check:``: plan, lint and submit ask the sweep's own check, real and foreign."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from orchestrator.adapters import check_process
from orchestrator.adapters.executors.local import count_gpus
from orchestrator.adapters.spec_file import read_spec
from orchestrator.usecases import check_trials
from tests.cli.linting import found, lint
from tests.cli.planning import ROOT, make_folder, read, type_

SPEC = """\
program: train/main.py
metric: {name: eval_perplexity, goal: minimize}
partition: spot
resources: {gpus: 8, cpus: 8}
command: [python, train/launch.py, --ranks=8, "${program}", "${args}"]
parameters:
  batch_size: [16, 30, 64]
  learning_rate: [1e-5, 3e-5, 5e-5]
  max_steps: 20
  warmup_steps: [2, 20]
"""
FOREIGN = """\
program: train.sh
metric: {name: loss, goal: minimize}
partition: spot
parameters: {x: [1, 2, 3]}
check: check.sh
"""
UNDIVIDED = (
    "6 of 18 trials (6, 7, 8, ...): --batch_size=30 (sequences per optimizer step over all ranks) "
    "is not divisible by gradient_accumulation_steps 1 x 8 ranks = 8"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = make_folder(tmp_path)
    train = home / "train"
    train.mkdir()
    for name in (ROOT / "train").rglob("*.py"):
        target = train / name.relative_to(ROOT / "train")
        target.parent.mkdir(exist_ok=True)
        shutil.copy(name, target)
    (home / "sweep.yaml").write_text(SPEC)
    return home


def foreign(folder: Path, body: str) -> None:
    (folder / "sweep.yaml").write_text(FOREIGN)
    (folder / "check.sh").write_text(body)


@pytest.fixture
def bash(tmp_path: Path) -> str:
    """A PATH that has nothing but bash, so no Slurm."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
    return str(tools)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_plan_says_what_cannot_work_and_writes_nothing(folder: Path) -> None:
    before = files(folder)
    report = read(folder, "sweep.yaml", code=2)
    assert report["problems"] == [UNDIVIDED]
    assert any(
        "9 of 18 trials (1, 3, 5, ...): 20 warm-up steps of 20" in w for w in report["warnings"]
    )
    assert files(folder) == before


def test_plan_of_what_can_work_stands(folder: Path) -> None:
    report = read(folder, "sweep.yaml", "batch_size=16,64", "warmup_steps=2")
    assert (report["problems"], report["warnings"]) == ([], [])


def test_plan_offers_what_it_has_planned_and_only_what_can_work(folder: Path) -> None:
    refused = type_(folder, "plan", "sweep.yaml")
    assert (refused[0], "make submit" in refused[1]) == (2, False)
    words = ("batch_size=16", "--cluster=local")
    code, out, err = type_(folder, "plan", "sweep.yaml", *words)
    assert code == 0, err
    assert out.splitlines()[-1].endswith(" ARGS='batch_size=16 --cluster=local'")
    assert ("trials ask for GPUs, and this machine has none" in err) == (not count_gpus())


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_submit_refuses_and_leaves_nothing_behind(folder: Path, more: list[str]) -> None:
    before = files(folder)
    code, out, err = type_(folder, "submit", "sweep.yaml", "--cluster", "local", *more)
    assert (code, out) == (2, "")
    assert err == f"orchestrator: sweep.yaml: {UNDIVIDED}; nothing was submitted\n"
    assert files(folder) == before


def test_lint_names_the_sweep(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sweeps").mkdir()
    shutil.move(folder / "sweep.yaml", folder / "sweeps/a.yaml")
    monkeypatch.chdir(folder)
    code, report = lint(capsys)
    assert code == 1
    assert ("sweeps/a.yaml", 6, "check") in found(report)
    assert UNDIVIDED in [finding["message"] for finding in report["findings"]]


def test_check_none_turns_it_off(folder: Path) -> None:
    assert read(folder, "sweep.yaml", "check=none")["problems"] == []


def test_foreign_check_is_heard(folder: Path, bash: str) -> None:
    foreign(
        folder,
        "while read -r line; do case $line in *'\"x\": 2'*) "
        'echo \'{"trial": 1, "mistake": "x=2: is odd enough"}\' ;; esac; done\n',
    )
    report = read(folder, "sweep.yaml", path=bash, code=2)
    assert report["problems"] == ["trial 1 of 3: x=2: is odd enough"]


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("echo no >&2; exit 3", "check.sh ended with exit code 3: no; what it did not say"),
        ("kill -9 $$", "check.sh was killed by signal 9; what it did not say"),
        ("echo hello", "check.sh wrote a line that is no answer: hello"),
    ],
)
def test_broken_check_is_a_warning(folder: Path, bash: str, body: str, warning: str) -> None:
    foreign(folder, body + "\n")
    report = read(folder, "sweep.yaml", path=bash)
    assert not report["problems"]
    assert any(warning in each for each in report["warnings"]), report["warnings"]


def test_check_that_does_not_end_is_cut_off(folder: Path) -> None:
    body = "echo early; sleep 1000 & sleep 1000"
    done = check_process.run_check(
        ["bash", "-c", body], "", str(folder), {"PATH": "/usr/bin:/bin"}, 2.0
    )
    assert (done.output, done.failure) == ("early\n", "was cut off after 2 s")


def test_check_that_floods_is_cut_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_process, "MAX_BYTES", 2**20)
    done = check_process.run_check(
        ["bash", "-c", "yes"], "", str(folder), {"PATH": "/usr/bin:/bin"}, 300.0
    )
    assert done.failure == "was cut off after 1 MB of output"


def test_check_that_is_not_there_is_a_mistake_of_the_spec(folder: Path) -> None:
    code, _, err = type_(folder, "plan", "sweep.yaml", "check=tools/chek.py")
    assert code == 2
    assert "check: no file 'tools/chek.py'" in err


def test_thousands_of_trials_are_one_process(folder: Path) -> None:
    seeds = "seeds=" + str(list(range(300)))
    report = read(folder, "sweep.yaml", seeds, code=2)
    assert report["problems"] == [
        UNDIVIDED.replace(
            "6 of 18 trials (6, 7, 8, ...)", "1800 of 5400 trials (1800, 1801, ...)"
        ).replace("1801, ...", "1801, 1802, ...")
    ]


def test_interpreter_is_the_orchestrators_own(folder: Path) -> None:
    spec = read_spec(str(folder / "sweep.yaml"), [f"workdir={folder}"])
    assert check_trials.find_check(spec) == [sys.executable, str(folder / "train/check_trials.py")]

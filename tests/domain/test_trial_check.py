"""What a check is asked, and how its answers are grouped."""

from __future__ import annotations

import json

import pytest

from orchestrator.contract.errors import SpecError
from orchestrator.domain.partition import JobShape
from orchestrator.domain.spec import SweepSpec
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trial_check import (
    CheckAnswer,
    as_question,
    count_ranks,
    read_answers,
    split_command,
)

SHAPE = JobShape(nodes=2, gpus=8, gpu_type="h100", cpus=64, mem_mb=2048, time_min=None)
TEXT = "program: train/main.py\nmetric: {name: l, goal: minimize}\nparameters: {a: [1, 2]}\n"


def spec(*overrides: str) -> SweepSpec:
    return load_spec(TEXT, file="s.yaml", overrides=overrides)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("check=none", ()),
        ("check=false", ()),
        ("check=tools/check", ("tools/check",)),
        ("check=[a, b]", ("a", "b")),
    ],
)
def test_check_is_a_program_or_none(override: str, expected: tuple[str, ...]) -> None:
    assert spec(override).check == expected


@pytest.mark.parametrize("value", ["3", "true", "[]", "[1]", "{a: b}"])
def test_other_check_is_refused(value: str) -> None:
    with pytest.raises(SpecError, match="check"):
        spec(f"check={value}")


@pytest.mark.parametrize(
    ("command", "words", "n_before"),
    [
        (None, "python train/main.py --a=1", 2),
        ('[python, "${program}", "${args}"]', "python train/main.py --a=1", 2),
        (
            '[python, l/launch.py, --ranks=2, "${program}", "${args}"]',
            "python l/launch.py --ranks=2 train/main.py --a=1 l/other.py",
            4,
        ),
        ('[python, -m, package, "${args}"]', "python -m package --a=1", 1),
    ],
)
def test_arguments_follow_the_last_script(command: str | None, words: str, n_before: int) -> None:
    own = spec(*([f"command={command}"] if command else []))
    before, after = split_command(own, words.split())
    assert [*before, *after] == words.split()
    assert len(before) == n_before


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ("python train/main.py", 1),
        ("python train/launch.py --ranks=4 train/main.py", 4),
        ("torchrun --nproc_per_node 8 --nnodes=2 main.py", 16),
        ("torchrun --nproc-per-node=gpu main.py", 8),
        ("torchrun --nnodes=1:4 main.py", None),
        ("deepspeed --num_gpus=2 main.py", 2),
        ("deepspeed main.py", 8),
        ("accelerate launch --num_processes 16 main.py", 16),
        ("srun python main.py", None),
        ("torchrun --nproc_per_node=x main.py", None),
    ],
)
def test_ranks_follow_from_the_launcher(launcher: str, expected: int | None) -> None:
    assert count_ranks(launcher.split(), SHAPE) == expected


def test_question_holds_arguments_and_machine() -> None:
    words = ["python", "train/main.py", "--a=1"]
    machine = {"cluster": "slurm", "partition": "spot"}
    line = as_question(3, spec(), words, {"a": 1}, machine, SHAPE)
    assert json.loads(line) == {
        "trial": 3,
        "command": words,
        "script": "train/main.py",
        "argv": ["--a=1"],
        "params": {"a": 1},
        "machine": {
            **machine,
            "nodes": 2,
            "gpus": 8,
            "gpu_type": "h100",
            "cpus": 64,
            "mem_gb": 2.0,
            "ranks": 1,
        },
    }


def test_same_mistake_is_said_once() -> None:
    lines = [json.dumps({"trial": n, "mistake": "too large"}) for n in range(0, 162, 3)]
    lines += [json.dumps({"trial": n, "warning": "slow"}) for n in range(162)]
    lines += [json.dumps({"trial": 7, "mistake": "odd"}), json.dumps({"trial": 8})]
    assert read_answers("\n".join(lines), 162, "c") == CheckAnswer(
        ("54 of 162 trials (0, 3, 6, ...): too large", "trial 7 of 162: odd"),
        ("all 162 trials: slow",),
    )


def test_many_different_mistakes_are_cut() -> None:
    lines = [json.dumps({"trial": n, "mistake": f"m{n}"}) for n in range(100)]
    problems = read_answers("\n".join(lines), 100, "c").problems
    assert len(problems) == 21
    assert problems[-1] == "and 80 more of the kind"


@pytest.mark.parametrize(
    "line",
    ["hello", "[" * 100_000, "3", '{"trial": 2, "mistake": "x"}', '{"trial": 0, "mistake": 3}']
    + ['{"mistake": "x"}', '{"trial": true, "mistake": "x"}', '{"trial": -1, "mistake": "x"}'],
)
def test_garbage_is_a_warning(line: str) -> None:
    answer = read_answers(f"\n{line}\n", 2, "c.py")
    assert not answer.problems
    assert answer.warnings[0].startswith("c.py wrote a line that is no answer: ")

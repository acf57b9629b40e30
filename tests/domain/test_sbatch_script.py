"""What sbatch and the node side would make of a script."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.sbatch_script import (
    ScriptMistake,
    check_misread,
    find_mistakes,
    near_miss,
)

GOLDEN = Path(__file__).parents[1] / "golden"
TRIAL = (GOLDEN / "trial-spot.sbatch").read_text()
ARRAY = (GOLDEN / "array-spot.sbatch").read_text()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sbatch")), ids=lambda path: path.name)
def test_find_mistakes_golden_scripts_have_none(path: Path) -> None:
    assert find_mistakes(path.read_text(), path.name.partition("-")[0]) == []


@pytest.mark.parametrize(
    "line",
    ["# SBATCH --time=1", " #SBATCH --time=1", "#SBTACH --time=1", "#Sbatch -t 1", "#SBACTH -t1"],
)
def test_near_miss_of_a_directive_is_found(line: str) -> None:
    words = near_miss(line)
    assert words is not None
    assert words.endswith("is a comment to sbatch; write #SBATCH at the start of the line")


@pytest.mark.parametrize(
    "line", ["#SBATCH --time=1", "##SBATCH --time=1", "# batch - a word", "# switch -- the light"]
)
def test_near_miss_leaves_others_alone(line: str) -> None:
    assert near_miss(line) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "trial") for name in ("job-name", "signal", "output", "chdir", "open-mode", "nodes")]
    + [("array", "array")],
)
def test_find_mistakes_missing_line_says_what_for(name: str, kind: str) -> None:
    text = ARRAY if kind == "array" else TRIAL
    without = "\n".join(
        line for line in text.split("\n") if not line.startswith(f"#SBATCH --{name}=")
    )
    (mistake,) = find_mistakes(without, kind)
    assert (mistake.line, mistake.check) == (None, "missing")
    assert mistake.message.startswith(f"no #SBATCH --{name}: ")


def test_find_mistakes_neither_requeue_nor_not() -> None:
    (mistake,) = find_mistakes(TRIAL.replace("#SBATCH --requeue\n", ""), "trial")
    assert mistake.message.startswith("no #SBATCH --requeue or --no-requeue")


def test_find_mistakes_log_that_is_wiped_is_at_its_line() -> None:
    text = TRIAL.replace("--open-mode=append", "--open-mode=truncate")
    (mistake,) = find_mistakes(text, "trial")
    line = text.split("\n").index("#SBATCH --open-mode=truncate") + 1
    assert (mistake.line, mistake.check) == (line, "missing")


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("exec srun", "srun_it", "trial", ""),
        ("-m orchestrator.runtime.attempt", "train.py", "trial", "no orchestrator.runtime.attempt"),
        ("  --trial-dir", "  --dir", "trial", "does not tell the attempt its --trial-dir"),
        ("exec bash", "echo", "array", "does not go to the trial's own script"),
    ],
)
def test_find_mistakes_launch_without_what_it_needs(
    old: str, new: str, kind: str, words: str
) -> None:
    text = (ARRAY if kind == "array" else TRIAL).replace(old, new)
    found = [mistake.message for mistake in find_mistakes(text, kind)]
    assert any(words in message for message in found) or not words


def test_find_mistakes_names_each_line() -> None:
    text = TRIAL.replace("#SBATCH --nodes=1\n", "#SBATCH --nodes=1\n#SBATCH --tiem=5\n")
    text += "#SBATCH --hold\n"
    found = [(mistake.line, mistake.check) for mistake in find_mistakes(text, "trial")]
    lines = text.split("\n")
    assert found == [
        (lines.index("#SBATCH --hold", 15) + 1, "late"),
        (lines.index("#SBATCH --tiem=5") + 1, "option"),
    ]


def test_check_misread_comment_with_a_space_before_it_is_no_command() -> None:
    assert check_misread("#!/bin/bash\n # words\n#SBATCH --time=1\n") is None


def test_check_misread_needs_a_first_line() -> None:
    mistake = ScriptMistake(None, "shebang", "the script must start with #!/bin/bash")
    assert check_misread("echo\n") == mistake

"""The README's commands that need no Slurm, and that no other is forgotten."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import readme
from tests.trial_writer import add_trial, make_sweep, write

ROOT = Path(__file__).parents[2]


def test_every_command_is_run_by_a_test() -> None:
    run = {*readme.ON_SLURM, *readme.CLUSTER, readme.DEMO, readme.TRIAL, readme.TEST}
    run |= {
        *readme.RELEASE,
        *readme.PARTITION,
        *readme.RATINGS,
        readme.DOCTOR,
        readme.EXPLAIN,
        readme.PLAN,
        readme.REPRODUCE,
    }
    assert set(readme.commands()) == run


@pytest.mark.train
@pytest.mark.timeout(1200)
def test_demo_ends_with_a_leaderboard_of_real_trainings(tmp_path: Path) -> None:
    # As on a machine without Slurm: its commands are not on PATH.
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in ("/usr/bin", "/bin"):
        for path in Path(folder).iterdir():
            hidden = re.match(r"s(batch|run|queue|acct|info|control|cancel|alloc)", path.name)
            target = tools / path.name
            if not hidden and not target.exists():
                target.symlink_to(path)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}

    def type_(command: str) -> str:
        done = subprocess.run(
            [*command.split(), f"RESULTS={tmp_path}/results"],
            cwd=ROOT,
            env={**environ, "PATH": str(tools)},
            capture_output=True,
            text=True,
            timeout=1190,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    printed = type_(readme.DEMO)
    with open(tmp_path / "results/demo/leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 9)]
    best, worst = rows[0]["eval_perplexity"], rows[-1]["eval_perplexity"]
    assert 1 < float(best) < float(worst)
    number = rows[0]["trial"].partition("-")[0]  # the hash gives way to metrics
    assert number in printed, "the table is printed"
    again = type_(readme.REPRODUCE)
    assert re.search(r"^eval_perplexity .* equal$", again, re.MULTILINE), again
    assert re.search(r"^run_time_s .* not counted$", again, re.MULTILINE), again
    assert "\nthe same numbers: " in again


def test_answers_are_rated_and_the_ratings_come_back(tmp_path: Path) -> None:
    results = tmp_path / "results"
    sweep = make_sweep(str(results / "deepseek-sft"))
    os.chmod(sweep.root, 0o700)
    trial = add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 0.5})
    row = {"prompt_id": "p1", "prompt": "1 + 1?", "reference": "2", "answer": "3"}
    write(trial.responses, json.dumps(row).encode() + b"\n")
    (results / ".last-sweep.json").write_text('{"name": "deepseek-sft", "spec": "x.yaml"}')

    def type_(command: str) -> str:
        argv = [*command.replace("results/", f"{results}/").split(), f"RESULTS={results}"]
        done = subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    write_sheet, collect = readme.RATINGS
    assert "1 answers to rate" in type_(write_sheet)
    sheet = Path(sweep.rating_sheet)
    sheet.write_text(sheet.read_text().replace("3,,", "3,2.5,ann"))
    assert "human_score" in type_(collect)
    with open(sweep.leaderboard("csv"), newline="") as file:
        assert [row["human_score"] for row in csv.DictReader(file)] == ["2.5"]


def test_one_line_of_shell_is_a_trial(tmp_path: Path) -> None:
    trial = tmp_path / "00000-abcdef0123"
    trial.mkdir()
    (trial / "params.json").write_text("{}")
    argv = [sys.executable, "-m", "orchestrator.runtime.attempt", "--trial-dir", str(trial), "--"]
    subprocess.run([*argv, "bash", "-c", readme.TRIAL], check=True, timeout=120)
    assert json.loads((trial / "result.json").read_text())["metrics"] == {"loss": 1.2}


def test_documents_name_files_that_exist() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_make_help_fits_80_columns() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout

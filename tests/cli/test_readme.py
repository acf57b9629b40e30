"""The README's commands that need no Slurm, and that no other is forgotten."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests import readme
from tests.trial_writer import add_trial, make_sweep, write

ROOT = Path(__file__).parents[2]


def test_every_command_is_run_by_a_test() -> None:
    run = {*readme.ON_SLURM, *readme.CLUSTER, readme.DEMO, readme.TRIAL, readme.TEST}
    run |= {
        *readme.RELEASE,
        *readme.PARTITION,
        *readme.RATINGS,
        *readme.IMPORTS,
        readme.COSTS,
        *readme.CONFIRM,
        *readme.LEADERBOARD,
        *readme.EXPORT,
        readme.DOCTOR,
        readme.EXPLAIN,
        readme.FAILURES,
        readme.LOGS,
        readme.PLAN,
        readme.REPRODUCE,
        readme.REPORT,
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

    assert "What it took, and what it would have taken" in type_(readme.COSTS)
    write_sheet, collect = readme.RATINGS
    assert "1 answer to rate" in type_(write_sheet)
    sheet = Path(sweep.rating_sheet)
    sheet.write_text(sheet.read_text().replace("3,,", "3,2.5,ann"))
    assert "human_score" in type_(collect)
    with open(sweep.leaderboard("csv"), newline="") as file:
        assert [row["human_score"] for row in csv.DictReader(file)] == ["2.5"]


def test_results_of_other_tools_become_leaderboards(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    study = optuna.create_study(storage=storage)
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=2)
    (tmp_path / "wandb.csv").write_text("Name,State,Runtime,Sweep,lr,val/loss\na,finished,9,,1,2\n")
    write(str(tmp_path / "old-runs/a.json"), b'{"params": {"lr": 1}, "metrics": {"loss": 0.5}}')
    for command, name in zip(readme.IMPORTS, ("study", "wandb", "old-runs"), strict=True):
        place = command.replace("~", str(tmp_path)).replace("FROM=s", f"FROM={tmp_path}/s")
        argv = shlex.split(place.replace("FROM=w", f"FROM={tmp_path}/w"))
        done = subprocess.run(
            [*argv, f"RESULTS={tmp_path}/results"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with open(tmp_path / f"results/{name}/leaderboard.csv", newline="") as file:
            assert next(csv.DictReader(file))["rank"] == "1"


def test_report_is_a_page(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "results" / "demo"))
    os.chmod(sweep.root, 0o700)
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 0.5})
    (tmp_path / "results/.last-sweep.json").write_text('{"name": "demo", "spec": "x.yaml"}')
    argv = [*readme.REPORT.split(), f"RESULTS={tmp_path}/results"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "written: " in done.stdout
    assert Path(sweep.report).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_leaderboard_is_ranked_and_filtered_as_it_pleases(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "results/deepseek-sft"), parameters=("optimizer",))
    os.chmod(sweep.root, 0o700)
    for number, optimizer in ((1, "adamw"), (2, "lamb")):
        metrics = {"loss": 1, "eval_loss": 1 / number, "eval_accuracy": number / 4}
        add_trial(sweep, f"{number:05d}-aaaaaaaaaa", {"optimizer": optimizer}, metrics)
    printed = []
    for command in readme.LEADERBOARD:
        done = subprocess.run(
            ["bash", "-c", f"{command} SWEEP=deepseek-sft RESULTS={tmp_path}/results"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed.append(done.stdout)
    assert "eval_loss, minimize; on the Pareto front with eval_accuracy, maximize" in printed[0]
    assert "1  *  00002-aaaaaaaaaa" in printed[0]
    assert "1 trial does not meet it" in printed[1]
    assert "1  00001-aaaaaaaaaa" in printed[1]


def test_best_are_confirmed_on_fresh_seeds(tmp_path: Path) -> None:
    program = 'for word in "$@"; do echo "{\\"${word%=*}\\": ${word#*=}}"; done | tr -d - '
    (tmp_path / "noisy.sh").write_text(f'{program} >> "$TRIAL_METRICS"\n')
    (tmp_path / "sweep.yaml").write_text(
        "program: noisy.sh\nmethod: grid\nmetric: {name: a, goal: minimize}\npartition: cpu\n"
        "cluster: local\nseeds: 1\nparameters: {a: [1, 2]}\n"
    )
    argv = [sys.executable, "-m", "orchestrator", "submit", "sweep.yaml"]
    subprocess.run(argv, cwd=tmp_path, check=True, timeout=120, capture_output=True)

    def type_(command: str) -> str:
        done = subprocess.run(
            [*shlex.split(command), f"RESULTS={tmp_path}/results"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dry, confirm, more = map(type_, readme.CONFIRM)
    assert "to add: 10 trials" in dry
    assert "ran: 10" in confirm
    assert "The first place is confirmed: on 5 fresh seeds" in confirm
    assert "ran: 10" in more
    assert "on 10 fresh seeds" in more


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

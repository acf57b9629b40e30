"""`make export`, as a user types it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.domain import best_header
from tests import readme
from tests.adapters.exports.sweeps import make_source
from tests.trial_writer import write

ROOT = Path(__file__).parents[2]
SPEC = b"""
program: train.sh
metric: {name: loss, goal: minimize}
parameters: {lr: [0.1, 0.2], text: ["plain", "x"], only: {value: null}, n: 3, flag: true}
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    source = make_source(str(tmp_path / "results" / "demo"))
    write(source.sweep.spec, SPEC)
    last = b'{"name": "demo", "spec": "demo.yaml"}'
    write(str(tmp_path / "results" / ".last-sweep.json"), last)
    return tmp_path / "results"


def test_export_of_several_formats_prints_what_it_wrote(results, capsys):
    words = ["--results", str(results), "--to", "latex", "csv", "latex", "--top", "1"]
    assert run(["export", *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    folder = results / "demo" / "exports"
    assert sorted(os.listdir(folder)) == ["leaderboard.csv", "leaderboard.tex"]
    assert printed[0] == f"latex: {folder / 'leaderboard.tex'}"
    assert printed[-1] == f"csv: {folder / 'leaderboard.csv'}"


def test_export_to_a_folder_as_json(results, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["demo", "--results", str(results), "--to", "json", "--output", str(out), "--json"]
    assert run(["export", *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert next(iter(record)) == "schema"
    assert record["schema"] == "orchestrator.export/1"
    assert (record["trials"], record["ranked"]) == (5, 2)
    assert record["exports"] == [
        {"format": "json", "paths": [str(out / "leaderboard.json")], "notes": []}
    ]
    assert not (results / "demo" / "exports").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "to which format? --to best csv"),
        (["--to", "latx"], "no format 'latx'; did you mean latex?"),
        (["--to", "csv", "nosuch"], "no format 'nosuch'"),
        (["--to", "csv", "--top", "0"], "--top 0 shows nothing"),
        (["a=1", "--to", "csv"], "takes no overrides"),
        (["--to"], "expected at least one argument"),
    ],
)
def test_export_of_a_mistake_is_one_line(results, capsys, words, said):
    assert run(["export", "--results", str(results), *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not (results / "demo" / "exports").exists()


def test_export_never_replaces_a_folder_that_is_not_its_own(results, tmp_path, capsys):
    mine = tmp_path / "out" / "hparams" / "precious"
    write(str(mine), b"x")
    words = ["--results", str(results), "--to", "hparams", "--output", str(tmp_path / "out")]
    assert run(["export", *words]) == 2
    assert "is there and no export of ours" in capsys.readouterr().err
    assert mine.read_bytes() == b"x"
    assert os.listdir(tmp_path / "out") == ["hparams"]


def test_a_format_that_cannot_be_written_keeps_no_other_back_and_is_told(results, tmp_path, capsys):
    os.unlink(results / "demo" / "sweep.yaml")  # as of imported results
    words = ["--results", str(results), "--to", "latex", "best", "csv"]
    assert run(["export", *words]) == 2
    captured = capsys.readouterr()
    folder = results / "demo" / "exports"
    assert f"latex: {folder / 'leaderboard.tex'}\n" in captured.out
    assert captured.out.endswith(f"csv: {folder / 'leaderboard.csv'}\n")
    (line,) = captured.err.splitlines()
    assert line.startswith("orchestrator: best not written: ")
    assert "so there is no best.yaml" in line
    assert run(["export", *words, "--json"]) == 2
    record = json.loads(capsys.readouterr().out)
    assert [each["format"] for each in record["exports"]] == ["latex", "csv"]
    assert [each["format"] for each in record["failed"]] == ["best"]
    assert run(["export", "--results", str(results), "--to", "best"]) == 2
    assert "there is no best.yaml" in capsys.readouterr().err


def test_best_is_written_by_collect_and_export_and_can_be_planned(results, tmp_path, capsys):
    assert run(["collect", "--results", str(results)]) == 1
    assert "best.yaml" in capsys.readouterr().out
    best = results / "demo" / "best.yaml"
    first = best.read_bytes()
    assert b"# loss (minimize): 0.25, one run\n" in first
    modified = best.stat().st_mtime_ns
    assert run(["collect", "--results", str(results)]) == 1
    assert best.stat().st_mtime_ns == modified, "the same is not written again"
    assert run(["export", "--results", str(results), "--to", "best"]) == 0
    assert (results / "demo" / "exports" / "best.yaml").read_bytes() == first


def test_best_runs_as_it_is_and_is_the_same_trial(tmp_path, monkeypatch, capsys):
    program = tmp_path / "train.sh"
    program.write_text(
        "#!/bin/bash\n"
        'for word in "$@"; do case $word in --x=*) x=${word#*=};; esac; done\n'
        'echo "{\\"loss\\": $((x * x))}" >> "$TRIAL_METRICS"\n'
    )
    program.chmod(0o755)
    (tmp_path / "demo.yaml").write_text(
        "program: train.sh\nmetric: {name: loss, goal: minimize}\ncluster: local\n"
        "parameters: {x: [3, 2], text: ['1e-5', 'no', 'a: # |<b>']}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert run(["submit", "demo.yaml"]) == 0
    assert run(["collect", "demo"]) == 0
    assert run(["submit", "results/demo/best.yaml"]) == 0
    capsys.readouterr()
    assert run(["collect", "results/demo/best.yaml", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    with open("results/demo/leaderboard.csv") as file:
        best = next(csv.DictReader(file))  # of three equal ones the cheapest
    assert row["trial"].partition("-")[2] == best["trial"].partition("-")[2]
    assert (row["loss"], row["text"]) == (4, best["text"])
    # The next sweep starts from it.
    assert run(["submit", "results/demo/best.yaml", "name=next", "x=1,2"]) == 0


def test_what_export_and_best_say_to_type_can_be_typed_from_anywhere(results, tmp_path, capsys):
    elsewhere = results.rename(tmp_path / "my 结果")
    assert run(["export", "--results", str(elsewhere), "--to", "best", "optuna", "csv"]) == 0
    out = capsys.readouterr().out
    folder = f"{elsewhere}/demo/exports"
    assert f"csv: {folder}/leaderboard.csv\n" in out
    assert f"optuna-dashboard '{folder}/optuna.journal'\n" in out
    for line in out.splitlines():  # what it says of programs that are not here
        if "-m venv" in line:
            assert line.startswith(
                f"  needs optuna-dashboard, once: {shlex.quote(sys.executable)} "
            )
    assert f"make submit SWEEP='{folder}/best.yaml' RESULTS='{elsewhere}'\n" in out
    best = Path(folder, "best.yaml").read_text(encoding="utf-8")
    assert f"make submit SWEEP='{elsewhere}/demo/best.yaml' RESULTS='{elsewhere}'\n" in best


def test_export_imports_no_more_than_its_format_needs(results):
    code = (
        "import sys; from orchestrator.cli.main import run; "
        f"run(['export', '--results', {str(results)!r}, '--to', 'csv']); "
        "print([n for n in ('optuna', 'mlflow', 'wandb', 'tensorboard', 'plotly') "
        "if n in sys.modules])"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", readme.EXPORT)
def test_readmes_exports(results, command):
    start, _, words = command.partition(" ARGS=")
    assert start == "make export"
    words = words.strip("'").split()
    assert run(["export", "--results", str(results), *words]) == 0


def test_best_of_results_that_are_gone_is_removed_unless_somebody_edited_it(results, capsys):
    def collect() -> tuple[str, str]:
        assert run(["collect", "--results", str(results)]) in (0, 1)
        captured = capsys.readouterr()
        return captured.out, captured.err

    collect()
    best, trials = results / "demo" / "best.yaml", results / "demo" / "trials"
    written = best.read_bytes()
    text, _, digest = written.rpartition(b"# sha256 of the lines above: ")
    assert hashlib.sha256(text).hexdigest().encode() == digest.strip()
    named = best_header.named_trial(written)
    assert named is not None
    for result in trials.glob("*/result.json"):
        result.unlink()
    mine = written.replace(b"goal: minimize", b"goal: maximize")
    assert mine != written
    best.write_bytes(mine)
    out, err = collect()
    assert best.read_bytes() == mine
    words = f"{best}: it was of trial {named}, and nothing is ranked any more"
    assert f"problem: {words}; it was edited, so it stays" in err
    assert "best.yaml" not in out
    # Another's file is nobody's business, and one of ours is taken away with a word.
    best.write_bytes(b"# mine\n" + written)
    assert "best.yaml" not in "".join(collect())
    best.write_bytes(written)
    out, err = collect()
    assert f"removed: {words}" in out
    assert not best.exists()
    assert "best.yaml" not in "".join(collect())


def test_best_that_somebody_edited_or_put_there_is_never_written_over(results, capsys):
    def collect() -> tuple[str, str]:
        assert run(["collect", "--results", str(results)]) in (0, 1)
        captured = capsys.readouterr()
        return captured.out, captured.err

    collect()
    best = results / "demo" / "best.yaml"
    written = best.read_bytes()
    header, _, body = written.partition(b"\n")
    for mine, what in (
        (written.replace(b"goal: minimize", b"goal: maximize"), "edited"),
        (written + b"seeds: 5\n", "edited"),
        (header + b" Really.\n" + body, "not ours"),
        (b"name: mine\n", "not ours"),
        (b"", "not ours"),
    ):
        best.write_bytes(mine)
        out, err = collect()
        assert best.read_bytes() == mine
        assert f"problem: {best}: {what}, so it stays; move it away to have trial" in err
        assert "best.yaml" not in out, "it was not written"
    best.unlink()
    best.mkdir()
    assert f"{best}: not ours, so it stays" in collect()[1]
    best.rmdir()
    assert f"written: {best}" in collect()[0]
    assert best.read_bytes() == written
    exported = results / "demo" / "exports" / "best.yaml"
    exported.parent.mkdir()
    exported.write_bytes(b"name: mine\n")
    assert run(["export", "--results", str(results), "--to", "best"]) == 0
    assert exported.read_bytes() == written, "who exports asks for it"


def test_best_whose_result_cannot_be_read_stays(results, capsys):
    """The file server may be in trouble: unknown is not gone."""
    assert run(["collect", "--results", str(results)]) == 1
    best = results / "demo" / "best.yaml"
    written = best.read_bytes()
    named = best_header.named_trial(written)
    for result in (results / "demo" / "trials").glob("*/result.json"):
        result.unlink()
        if result.parent.name == named:
            result.mkdir()  # there, and no file
    capsys.readouterr()
    run(["collect", "--results", str(results)])
    assert f"{best}: the result of {named} cannot be read, so it stays" in capsys.readouterr().err
    assert best.read_bytes() == written


def test_json_says_why_best_was_removed(results, capsys):
    assert run(["collect", "--results", str(results)]) == 1
    for result in (results / "demo" / "trials").glob("*/result.json"):
        result.unlink()
    for is_removed in (True, False):
        capsys.readouterr()
        run(["collect", "--results", str(results), "--json"])
        document = json.loads(capsys.readouterr().out)
        assert ("nothing is ranked any more" in (document["removed"] or "")) is is_removed


def test_best_that_still_names_the_best_stays_without_a_spec(results, capsys):
    assert run(["collect", "--results", str(results)]) == 1
    best = results / "demo" / "best.yaml"
    written = best.read_bytes()
    os.unlink(results / "demo" / "sweep.yaml")
    assert run(["collect", "--results", str(results)]) == 1
    assert best.read_bytes() == written
    named = best_header.named_trial(written)
    os.unlink(results / "demo" / "trials" / str(named) / "result.json")
    capsys.readouterr()
    assert run(["collect", "--results", str(results)]) == 1
    assert f"it was of trial {named}, and the best is " in capsys.readouterr().out
    assert not best.exists()


def test_best_stays_while_the_sweep_is_ranked_by_another_metric(results, capsys):
    assert run(["collect", "--results", str(results)]) == 1
    best = results / "demo" / "best.yaml"
    written = best.read_bytes()
    words = ["--objective", "loss:maximize", "--where", "lr > 100"]
    assert run(["collect", "--results", str(results), *words]) in (0, 1)
    assert best.read_bytes() == written

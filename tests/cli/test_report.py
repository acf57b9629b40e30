"""``orchestrator report``: where it writes, what it prints, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, dump_record
from tests.trial_writer import add_trial, ended, make_sweep, write

SPEC = b"program: a.py\nenv: {API_KEY: hunter2}\n"


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    sweep = make_sweep(str(tmp_path / "results" / "demo"))
    os.chmod(sweep.root, 0o700)
    write(sweep.spec, SPEC)
    for number, loss in enumerate((0.5, 0.25, 0.25)):
        add_trial(sweep, f"0000{number}-aaaa", {"lr": 0.1 * number, "k": 1}, {"loss": loss})
    return sweep


def report(sweep: SweepPaths, *words: str) -> int:
    return run(["report", "demo", "--results", os.path.dirname(sweep.root), *words])


def test_page_stands_in_the_sweeps_folder_beside_its_table(
    sweep: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(sweep) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("written: ")
    assert printed.rstrip().endswith(" MB)")
    page = Path(sweep.report).read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "hunter2" not in page
    assert "API_KEY: (not shown)" in page
    assert os.path.exists(sweep.leaderboard("csv"))
    assert os.stat(sweep.report).st_mode & 0o777 == 0o600


def test_output_elsewhere_leaves_the_folder_as_it_is(sweep: SweepPaths, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert report(sweep, "--output", str(target)) == 0
    assert target.stat().st_size > 10_000
    assert not os.path.exists(sweep.report)
    assert not os.path.exists(sweep.leaderboard("csv"))


def test_json_says_where_and_how_large(
    sweep: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(sweep, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "schema"
    assert found["schema"] == "orchestrator.report/1"
    assert found["path"] == sweep.report
    assert found["size_bytes"] == os.path.getsize(sweep.report)
    assert (found["n_trials"], found["best"]) == (3, "00001-aaaa")


def test_best_names_its_command_and_who_shares_its_place(sweep: SweepPaths) -> None:
    report(sweep)
    page = Path(sweep.report).read_text(encoding="utf-8")
    results = os.path.dirname(sweep.root)
    assert f"make reproduce SWEEP=demo RESULTS={results} TRIAL=1</code>" in page
    assert "trials/00001-aaaa/trial.sbatch" in page
    assert "1 more configuration" in page


def test_failed_trials_stand_in_the_page_which_is_written_all_the_same(sweep: SweepPaths) -> None:
    cause = "ValueError: no such thing"
    end = ended("00003-aaaa", outcome=FAILED, exit_code=1, cause=cause, kind="error")
    add_trial(sweep, "00003-aaaa", {"lr": 1}, attempts=[end])
    assert report(sweep) == 0
    page = Path(sweep.report).read_text(encoding="utf-8")
    assert '<h3 dir="auto">ValueError: no such thing</h3>' in page


def test_sweep_without_results_says_so(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "results" / "demo"), metric=None)
    os.chmod(sweep.root, 0o700)
    assert report(sweep) == 0
    page = Path(sweep.report).read_text(encoding="utf-8")
    assert "Nothing is ranked" in page
    assert "No metric is named" in page


def test_report_replaces_no_device(
    sweep: SweepPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert report(sweep, "--output", str(tmp_path / "pipe")) == 2
    assert "is no ordinary file" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--output", "."], "is a folder"),
        (["--output", "/no/such/folder/a.html"], "there is no folder /no/such/folder"),
        (["lr=1"], "takes no overrides"),
    ],
)
def test_mistakes_are_one_line(
    sweep: SweepPaths, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(sweep, *words) == 2
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.count("\n") == 1


def test_page_that_cannot_be_written_leaves_the_old_one(
    sweep: SweepPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkdir(sweep.report)
    assert report(sweep) in (2, 3)
    said = capsys.readouterr().err
    assert "report.html: not written" in said
    assert "ARGS='--output FILE' writes the page alone" in said
    assert os.listdir(sweep.report) == []
    assert not [name for name in os.listdir(sweep.root) if name.endswith(".tmp")]


def test_code_and_software_are_those_of_the_submission(sweep: SweepPaths) -> None:
    entry = {
        "at": "2026-01-01T09:00:00Z", "kind": "code", "snapshot": "abc123", "root": "/p",
        "commit": "f" * 40, "dirty": True, "environment": "0123abcd",
    }  # fmt: skip
    write(sweep.journal, dump_record(entry))
    software = {"python": "3.11.2", "machine": "Linux x86_64", "packages": {"torch": "9.9.9"}}
    write(f"{sweep.code}/environment-0123abcd.json", dump_record(software))
    report(sweep)
    page = Path(sweep.report).read_text(encoding="utf-8")
    for text in ("code/abc123", "ffffffffffff with changes", "3.11.2", "9.9.9"):
        assert text in page

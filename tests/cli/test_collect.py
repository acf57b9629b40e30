"""``orchestrator collect``: the options that choose what is ranked and printed."""

import csv
import json
import os
import subprocess
import sys

import pytest

from orchestrator.cli.main import run
from orchestrator.contract.records import dump_record, read_record
from orchestrator.runtime import durable
from tests.trial_writer import add_trial, make_sweep, write


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make_sweep(str(tmp_path / "results" / "demo"), parameters=("lr", "opt"))
    os.chmod(found.root, 0o700)
    for n, opt, loss, acc in ((1, "adamw", 0.5, 0.7), (2, "sgd", 0.3, 0.6), (3, "adamw", 0.4, 0.9)):
        add_trial(found, f"{n:05d}-aaaa", {"lr": n, "opt": opt}, {"loss": loss, "eval/acc": acc})
    add_trial(found, "00004-aaaa", {"lr": 4}, {"loss": 0.9})
    return found


def type_(capsys, *words):
    code = run(["collect", "demo", *words])
    out, err = capsys.readouterr()
    return code, out, err


def collect_json(capsys, *words):
    code, out, err = type_(capsys, "--json", *words)
    assert (code, err) == (0, "")
    return json.loads(out)


def read_csv(sweep):
    with open(sweep.leaderboard("csv"), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def places(rows):
    return [(row["rank"], row["trial"].partition("-")[0]) for row in rows]


def test_collect_json_has_its_schema_first_and_the_standing(sweep, capsys):
    found = collect_json(capsys)
    assert next(iter(found.items())) == ("schema", "orchestrator.collect/1")
    assert found["standing"] == {
        "certainty": "provisional",
        "words": "The first place is provisional: one run may be luck (make confirm reruns the "
        "best on fresh seeds).",
    }
    assert found["objectives"] == [{"name": "loss", "goal": "minimize"}]
    assert found["front"] == [*found["objectives"], {"name": "cost", "goal": "minimize"}]
    assert found["where"] is None
    assert places(found["rows"]) == [(1, "00002"), (2, "00003"), (3, "00001"), (4, "00004")]


def test_collect_folder_that_takes_no_files_shows_the_table_all_the_same(sweep, capsys):
    os.makedirs(f"{sweep.leaderboard('csv')}/in/the/way")
    code, out, err = type_(capsys)
    assert code == 1
    assert "00002-aaaa" in out
    assert "0.3" in out
    assert "written:" not in out
    assert err.startswith("problem: ")
    assert "leaderboard.csv: not written" in err
    code, out, err = type_(capsys, "--json")
    found = json.loads(out)
    assert (code, found["files"], len(found["rows"])) == (1, [], 4)
    assert "leaderboard.csv: not written" in found["problems"][0]
    assert not os.path.exists(sweep.leaderboard("md"))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("command", [["collect", "demo", "--json"], ["status", "demo"]])
def test_commands_that_only_look_leave_nothing_unsaid(sweep, command):
    words = [
        sys.executable,
        "-m",
        "orchestrator",
        *command,
        "--results",
        os.path.dirname(sweep.root),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert ("make collect" in done.stdout) == ("--json" not in command)
    assert "--json" not in command or len(json.loads(done.stdout)["rows"]) == 4
    assert subprocess.run([*words, "--nonsense"], capture_output=True, timeout=150).returncode == 2


@pytest.mark.timeout(200)
def test_collect_whose_reader_leaves_early_writes_its_files(sweep):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "orchestrator", "collect", "demo"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=150,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_csv(sweep)) == 4


def test_collect_that_cannot_write_its_files_shows_what_would_stand_in_them(
    sweep, capsys, monkeypatch
):
    def refuse(files):
        path = next(iter(files))[0]
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(durable, "replace_all", refuse)
    code, out, err = type_(capsys)
    assert (code, "4 trials: 4 done" in out, "written:" in out) == (1, True, False)
    assert err.count("\n") == 1
    assert "leaderboard.csv: not written, the old one is as it was: Permission denied" in err
    code, out, err = type_(capsys, "--json")
    found = json.loads(out)
    assert (code, len(found["rows"]), found["files"]) == (1, 4, [])
    assert "not written" in found["problems"][0]
    code, out, err = type_(capsys, "--objective", "none:minimize")
    assert (code, out) == (2, ""), "a mistake stays one"


def test_collect_sends_nobody_to_a_file_that_was_not_written(sweep, capsys, monkeypatch):
    def refuse(files):
        raise OSError(28, "No space left on device", next(iter(files))[0])

    assert "… and 3 more rows in leaderboard.csv" in type_(capsys, "--top", "1")[1]
    monkeypatch.setattr(durable, "replace_all", refuse)
    code, out, err = type_(capsys, "--top", "1", "--objective", "loss:maximize")
    assert (code, "… and 3 more rows in leaderboard.csv" in out) == (1, True)
    assert "; what is not shown above is in no file: ARGS=--json has it\n" in err
    err = type_(capsys, "--top", "9", "--objective", "loss:maximize")[2]
    assert ("not written" in err, "is in no file" in err) == (True, False)
    # Known before: it was never said.
    monkeypatch.setattr(os, "access", lambda path, mode: path != sweep.root)
    code, out, err = type_(capsys, "--top", "1", "--objective", "loss:maximize")
    assert "… and 3 more rows (ARGS=--json has all)" in out
    assert ("not written" in err, "is in no file" in err) == (True, False)


def test_collect_where_ranks_what_meets_it_and_leaves_the_files_whole(sweep, capsys):
    condition = 'opt == "adamw" and col("eval/acc") > 0.5'
    found = collect_json(capsys, "--where", condition)
    assert places(found["rows"]) == [(1, "00003"), (2, "00001")]
    assert (found["where"]["unmet"], found["where"]["unknown"]) == (2, 0)
    assert places(read_csv(sweep)) == [
        ("1", "00002"), ("2", "00003"), ("3", "00001"), ("4", "00004"),
    ]  # fmt: skip
    code, out, err = type_(capsys, "--where", 'col("eval/acc") > 0.65', "--top", "1")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        'where col("eval/acc") > 0.65: 1 trial does not meet it, 1 trial has no value there '
        "(leaderboard.csv has them all)"
    )
    assert "… and 1 more row in leaderboard.csv" in out


def test_collect_objective_ranks_by_another_metric_and_makes_a_front(sweep, capsys):
    words = ("--objective", "eval/acc:maximize", "--objective", "loss:minimize")
    found = collect_json(capsys, *words)
    assert found["objective"] == "eval/acc"
    assert places(found["rows"]) == [(1, "00003"), (2, "00001"), (3, "00002"), (None, "00004")]
    assert [row["pareto"] for row in found["rows"]] == [True, False, True, None]
    assert places(read_csv(sweep))[0] == ("1", "00003")
    with open(sweep.leaderboard("md"), encoding="utf-8") as file:
        assert "Ranked by eval/acc, maximize; Pareto front with loss, minimize." in file.read()
    assert collect_json(capsys)["objective"] == "loss"
    assert places(read_csv(sweep))[0] == ("1", "00002")


def test_collect_objectives_of_the_sweep_are_read_from_its_record(sweep, capsys):
    record = read_record(sweep.summary)
    loss, acc = {"name": "loss", "goal": "minimize"}, {"name": "eval/acc", "goal": "maximize"}
    write(sweep.summary, dump_record({**record, "objectives": [loss, acc]}))
    found = collect_json(capsys)
    assert found["front"] == [loss, acc]
    assert [row["pareto"] for row in found["rows"]] == [True, True, False, False]
    write(sweep.summary, dump_record({**record, "objectives": [acc, loss]}))
    code, _, err = type_(capsys)
    assert code == 2
    assert "metric is not the first of objectives" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "0"), "--top 0: use a number of at least 1"),
        (("--objective", "loss"), "--objective loss: write metric and goal, such as loss:minimize"),
        (("--objective", "loss:max"), "--objective loss:max: write metric and goal"),
        (
            ("--objective", "los:minimize"),
            "--objective los: no trial reports it; did you mean loss?",
        ),
        (
            ("--objective", "loss:minimize", "--objective", "loss:maximize"),
            "--objective loss:maximize: loss is named twice",
        ),
        (("--where", "los < 1"), "--where: `los < 1` has the unknown name los; did you mean loss?"),
        (("--where", "lr <"), "--where: `lr <` is no expression"),
    ],
)
def test_collect_mistake_is_one_line_and_exits_2(sweep, capsys, words, message):
    code, out, err = type_(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err

"""What half-killed processes, foreign programs and careless people leave where files should be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.states import TrialState
from orchestrator.runtime.commit import read_metrics
from orchestrator.usecases.collect import Collection, collect
from orchestrator.usecases.status import read_status
from tests.faults.prompt import COUNT, finish, make_project, make_trial, start_attempt, type_
from tests.trial_writer import add_trial, claim, ended, make_sweep, write

GOOD, BAD = "00001-aaaa", "00002-bbbb"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    made = make_sweep(str(tmp_path / "demo"))
    add_trial(made, GOOD, {"lr": 1}, {"loss": 0.5})
    return made


def gather(sweep: SweepPaths, **states: TrialState) -> Collection:
    return collect(sweep, states, {}, NOW)


def ranks(collection: Collection) -> dict[str, Any]:
    cells = zip(collection.rows["trial"], collection.rows["rank"], strict=True)
    return {trial: None if pd.isna(rank) else rank for trial, rank in cells}


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b'{"trial": "00002-bbbb", "metr'])
def test_d01_truncated_or_zeroed_result_is_named_and_others_are_ranked(
    sweep: SweepPaths, data: bytes
) -> None:
    trial = add_trial(sweep, BAD, {"lr": 2})
    write(trial.result, data)
    found = gather(sweep)
    assert ranks(found) == {GOOD: 1, BAD: None}
    assert [problem.partition(": ")[0] for problem in found.problems] == [f"{BAD}/result.json"]


def test_d01_zeroed_and_cut_metrics_commit_what_is_whole(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = (
        "echo '{\"loss\": 2}' >> $TRIAL_METRICS; head -c 4096 /dev/zero >> $TRIAL_METRICS;"
        "echo >> $TRIAL_METRICS; printf '{\"loss\": 1' >> $TRIAL_METRICS"
    )
    assert finish(start_attempt(trial, "bash", "-c", script))[0] == 0
    result = json.loads((trial / "result.json").read_text())
    assert result["metrics"] == {"loss": 2}
    assert [problem.partition(":")[0] for problem in result["problems"]] == ["line 2", "line 3"]


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_d02_objective_that_is_not_finite_never_tops_the_board(
    tmp_path: Path, goal: str, text: str
) -> None:
    sweep = make_sweep(str(tmp_path / "demo"), ("loss", goal))
    add_trial(sweep, GOOD, {"lr": 1}, {"loss": 0.5})
    trial = add_trial(sweep, BAD, {"lr": 2})
    write(trial.result, b'{"metrics": {"loss": %s}}' % text.encode())
    assert ranks(gather(sweep)) == {GOOD: 1, BAD: None}


def test_d02_program_that_reports_1e400_is_committed_and_not_ranked(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    script = 'echo \'{"loss": -1e400, "x": NaN}\' >> $TRIAL_METRICS'
    finish(start_attempt(trial, "bash", "-c", script))
    assert json.loads((trial / "result.json").read_text())["metrics"] == {
        "loss": "-inf",
        "x": "nan",
    }


def test_d03_duplicate_keys_are_refused_not_guessed(tmp_path: Path, sweep: SweepPaths) -> None:
    with pytest.raises(records.CorruptRecord, match="key 'a' stands twice"):
        records.parse_record(b'{"x": {"a": 1, "a": 2}}', "r")
    trial = make_trial(tmp_path)
    script = (
        'echo \'{"loss": 2}\' >> $TRIAL_METRICS; echo \'{"loss":1,"loss":0}\' >> $TRIAL_METRICS'
    )
    finish(start_attempt(trial, "bash", "-c", script))
    result = json.loads((trial / "result.json").read_text())
    assert result["metrics"] == {"loss": 2}
    assert result["problems"] == ["line 2: key 'loss' stands twice"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"metrics": {"loss": ' + b"7" * 5000 + b"}}",
        b'{"metrics": {"loss": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        b'"text"',
        b"[1]",
        b"true",
        b'{"metrics": [1]}',
        b'{"metrics": {"loss": true}}',
        b'{"metrics": {"loss": "0.1"}}',
        b'{"metrics": {"loss": null}}',
        b'{"metrics": {"loss": {"a": 1}}}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
    ],
    ids=range(11),
)
def test_d04_odd_json_never_stops_the_merge_nor_wins(sweep: SweepPaths, data: bytes) -> None:
    trial = add_trial(sweep, BAD, {"lr": 2})
    write(trial.result, data)
    found = gather(sweep)
    assert ranks(found) == {GOOD: 1, BAD: None}
    notes = dict(zip(found.rows["trial"], found.rows["note"], strict=True))
    assert found.problems or "loss" in notes[BAD]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop", "socket"])
def test_d05_no_file_as_metrics_or_log_is_named_and_not_waited_for(
    sweep: SweepPaths, kind: str
) -> None:
    trial = add_trial(sweep, BAD, {"lr": 2}, attempts=[ended(BAD, outcome=records.FAILED)])
    running = add_trial(sweep, "00003-cccc", {"lr": 3}, attempts=[claim("00003-cccc")])
    for path in (trial.log, running.metrics):
        put_no_file(path, kind)
    found = gather(sweep)
    assert ranks(found)[GOOD] == 1
    assert any("00003-cccc/metrics.jsonl" in problem for problem in found.problems)
    status = read_status(sweep, 5, 10)
    logs = {line.name: line.log for line in status.troubled}
    assert "log: " in logs[BAD][0], "one odd log does not hide the other trials"


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop"])
def test_d05_no_file_as_metrics_is_named_at_the_commit(tmp_path: Path, kind: str) -> None:
    trial = make_trial(tmp_path)
    put_no_file(str(trial / "metrics.jsonl"), kind)
    assert finish(start_attempt(trial, "true"))[0] == 0
    result = json.loads((trial / "result.json").read_text())
    assert result["metrics"] == {}
    assert "file" in result["problems"][0]


def put_no_file(path: str, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "loop":
        os.symlink(path, path)
    else:
        here = os.getcwd()
        os.chdir(os.path.dirname(path))  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.basename(path))
        os.chdir(here)


def test_d05_metrics_file_of_a_gigabyte_gives_its_last_values(tmp_path: Path) -> None:
    """A sparse file: only the end is read, and line by line, for the job's memory is not ours."""
    trial = make_trial(tmp_path)
    with open(trial / "metrics.jsonl", "wb") as file:
        file.truncate(2**30)
        file.seek(2**30)
        file.write(b'\n{"step": 7, "loss": 0.25}\n')
    code, output = finish(start_attempt(trial, "true"))
    assert code == 0, output
    result = json.loads((trial / "result.json").read_text())
    assert (result["metrics"], result["last_step"]) == ({"loss": 0.25}, 7)
    assert "bytes; only the last 268435456 were read" in result["problems"][0]


def test_d05_metrics_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    trial = make_trial(tmp_path)
    with open(trial / "metrics.jsonl", "wb") as file:
        file.write(b'{"loss": 1}\n')
        file.truncate(100 * 2**20)
    tracemalloc.start()
    metrics, _, _, problems = read_metrics(TrialPaths(str(trial)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert metrics == {"loss": 1}
    assert problems == ["line 2: line of 1048577 bytes"]
    assert peak < 20 * 2**20


def test_d06_ids_stay_text_and_large_numbers_keep_their_digits(sweep: SweepPaths) -> None:
    params = {
        "lr": 2,
        "id": "007",
        "day": "2026-01-02",
        "n": 2**53 + 1,
        "small": 1.23456789012345e-15,
    }
    add_trial(sweep, BAD, params, {"loss": 1})
    gather(sweep)
    kept = {"keep_default_na": False, "dtype": {"trial": str, "id": str}}
    rows = pd.read_csv(sweep.leaderboard("csv"), **kept)  # type: ignore[call-overload]
    row = rows.set_index("trial").loc[BAD]
    assert (row["id"], row["day"], int(row["n"])) == ("007", "2026-01-02", 2**53 + 1)
    assert float(row["small"]) == params["small"]


def test_d06_json_of_collect_keeps_all_digits(tmp_path: Path) -> None:
    program = COUNT.replace("1.5", "1.2345678901234567e-13")
    folder = make_project(tmp_path, program=program)
    type_(folder, "submit", "sweep.yaml", "a=9007199254740993")
    rows = json.loads(type_(folder, "collect", "--json").stdout)["rows"]
    assert (rows[0]["loss"], rows[0]["a"]) == (1.2345678901234567e-13, 2**53 + 1)


def test_d07_values_that_look_like_missing_stay_text(sweep: SweepPaths) -> None:
    for number, word in enumerate(["NA", "null", "None", "nan", ""], start=2):
        add_trial(sweep, f"{number:05d}-bbbb", {"lr": word}, {"loss": number})
    gather(sweep)
    rows = pd.read_csv(sweep.leaderboard("csv"), keep_default_na=False, dtype=str)
    assert list(rows["lr"]) == ["1", "NA", "null", "None", "nan", ""]


def test_d08_objective_of_mixed_types_ranks_the_numbers(sweep: SweepPaths) -> None:
    for number, value in enumerate(["low", True, None, [1], 0.25, 1], start=2):
        add_trial(sweep, f"{number:05d}-bbbb", {"lr": number}, {"loss": value})
    found = {name[:5]: rank for name, rank in ranks(gather(sweep)).items() if rank is not None}
    assert found == {"00006": 1, "00001": 2, "00007": 3}


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0], ["nan", "nan"], [2.0, "nan", 2.0]])
def test_d09_ties_invalid_none_or_one_have_one_order(tmp_path: Path, values: list[object]) -> None:
    boards = []
    for turn in ("first", "second"):
        sweep = make_sweep(str(tmp_path / turn / "demo"))
        numbered = list(enumerate(values, start=1))
        for number, value in numbered if turn == "first" else reversed(numbered):
            add_trial(sweep, f"{number:05d}-aaaa", {"lr": number}, {"loss": value})
        gather(sweep)
        boards.append(Path(sweep.leaderboard("csv")).read_bytes())
    assert boards[0] == boards[1]


def test_d14_leftovers_of_kills_are_passed_over(sweep: SweepPaths) -> None:
    add_trial(sweep, BAD, {"lr": 2}, {"loss": 1})
    trial = sweep.trial(BAD)
    leftovers = [
        f"{sweep.root}/.leaderboard.csv.0badcafe0badcafe.tmp",
        f"{trial.root}/.result.json.0badcafe0badcafe.tmp",
        f"{trial.attempts}/.2.json.0badcafe0badcafe.tmp",
    ]
    for path in leftovers:
        write(path, b'{"half')
    found = gather(sweep)
    assert (ranks(found), found.problems) == ({GOOD: 1, BAD: 2}, [])
    assert all(map(os.path.exists, leftovers)), "its writer may still be at it"


def test_d14_leftover_of_the_same_pid_does_not_stop_an_attempt(tmp_path: Path) -> None:
    """In a container every attempt may have the same host name and pid."""
    trial = make_trial(tmp_path)
    (trial / "attempts").mkdir()
    script = (
        "import os, sys\n"
        "for name in ('1.json', '../result.json'):\n"
        "    folder, base = os.path.split(sys.argv[2] + '/attempts/' + name)\n"
        "    open(f'{folder}/.{base}.{os.uname().nodename}.{os.getpid()}.tmp', 'w').close()\n"
        "from orchestrator.runtime.attempt import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--trial-dir", str(trial), "--", "true"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (trial / "result.json").exists()


def test_d15_merges_while_a_trial_writes_rank_the_same_and_are_never_half(
    sweep: SweepPaths,
) -> None:
    name = "00003-cccc"
    running = add_trial(sweep, name, {"lr": 3}, attempts=[claim(name)])
    add_trial(sweep, BAD, {"lr": 2}, {"loss": 0.75})
    heads = set()
    for step in range(20):
        with open(running.metrics, "ab") as file:
            file.write(b'{"step": %d, "loss": 0.0}\n{"step": %d, "lo' % (step, step + 1))
        found = gather(sweep, **{name: TrialState.RUNNING})
        assert found.problems == []
        board = Path(sweep.leaderboard("csv")).read_bytes()
        heads.add(b"\n".join(board.split(b"\n")[1:3]))
        with open(running.metrics, "ab") as file:
            file.write(b'ss": 0.0}\n')
    assert len(heads) == 1, "a running trial, however good, changes no rank"
    assert ranks(found) == {GOOD: 1, BAD: 2, name: None}


def test_d15_two_merges_of_committed_trials_give_the_same_bytes(
    sweep: SweepPaths, tmp_path: Path
) -> None:
    add_trial(sweep, BAD, {"lr": 2}, {"loss": 0.5})
    gather(sweep)
    first = {e: Path(sweep.leaderboard(e)).read_bytes() for e in ("csv", "md")}
    for extension in first:
        os.unlink(sweep.leaderboard(extension))
    gather(sweep)
    assert {e: Path(sweep.leaderboard(e)).read_bytes() for e in first} == first


def test_d17_files_of_a_trial_are_few(tmp_path: Path) -> None:
    """The trial's folder, seven entries in it, and one for each attempt."""
    trial = make_trial(tmp_path)
    (trial / "trial.sbatch").write_text("")
    (trial / "log").write_text("")
    for _ in range(4):
        assert (
            finish(start_attempt(trial, "bash", "-c", "echo '{\"a\":1}'>>$TRIAL_METRICS;exit 75"))[
                0
            ]
            == 75
        )
    assert finish(start_attempt(trial, "true"))[0] == 0
    found = sorted(str(p.relative_to(trial)) for p in trial.rglob("*"))
    assert found == [
        "attempts",
        *(f"attempts/{number}.json" for number in range(1, 6)),
        "checkpoints",
        "log",
        "metrics.jsonl",
        "params.json",
        "result.json",
        "trial.sbatch",
    ]

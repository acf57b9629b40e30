import csv
import io
import os
import re
import shutil
from datetime import UTC, datetime

import pandas as pd
import pytest

from orchestrator.adapters import leaderboard_files
from orchestrator.adapters.trial_dir import scan_sweep
from orchestrator.contract.errors import CorruptRecord, OrchestratorError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, dump_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.cost import Usage
from orchestrator.usecases.collect import collect
from tests.trial_writer import add_trial, claim, ended, make_sweep, write, write_result

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(str(tmp_path / "demo"))


def read_text(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def read_all(sweep):
    found = {}
    for extension in ("csv", "md"):
        with open(sweep.leaderboard(extension), "rb") as file:
            found[extension] = file.read()
    return found


def test_collect_finished_and_failed_trials_gives_the_whole_table(sweep):
    first, second, third = "00001-aaaa", "00002-bbbb", "00003-cccc"
    add_trial(sweep, first, {"lr": 1e-5, "epochs": 3}, {"loss": 0.5})
    add_trial(sweep, second, {"lr": 0.1, "epochs": 3}, {"loss": 0.25, "acc": "nan"})
    add_trial(sweep, third, {"lr": 9.0, "epochs": 3}, attempts=[ended(third, 1, FAILED)])
    states = {first: TrialState.DONE, second: TrialState.DONE, third: TrialState.FAILED}
    collection = collect(sweep, states, {third: "exit code 1: a, b"}, NOON)
    assert read_text(sweep.leaderboard("csv")).split("\n") == [
        "rank,pareto,trial,state,loss,lr,acc,attempts,gpu_hours,cost,currency,node,note,epochs",
        "1,true,00002-bbbb,done,0.25,0.1,nan,1,2.0,5.0,EUR,node1,,3",
        "2,false,00001-aaaa,done,0.5,1e-05,,1,2.0,5.0,EUR,node1,,3",
        ',,00003-cccc,failed,,9.0,,1,2.0,5.0,EUR,node1,"exit code 1: a, b",3',
        "",
    ]
    assert read_text(sweep.leaderboard("md")) == "\n".join(
        [
            "# demo",
            "",
            "Ranked by loss, minimize.",
            "",
            "The first place is provisional: one run may be luck (make confirm reruns the best "
            "on fresh seeds).",
            "",
            "3 trials: 2 done, 1 failed. Used 6.000 GPU-hours, 15.00 EUR, 33.3% of it lost.",
            "",
            "| rank | pareto | trial | state | loss | lr | acc | attempts | gpu_hours | cost "
            "| currency | node | note |",
            "| --: | --: | :-- | :-- | --: | --: | --: | --: | --: | --: | :-- | :-- | :-- |",
            "| 1 | true | 00002-bbbb | done | 0.25 | 0.1 | nan | 1 | 2 | 5 | EUR | node1 |  |",
            "| 2 | false | 00001-aaaa | done | 0.5 | 1e-05 |  | 1 | 2 | 5 | EUR | node1 |  |",
            "|  |  | 00003-cccc | failed |  | 9 |  | 1 | 2 | 5 | EUR | node1 | exit code 1: a, b |",
            "",
            "- epochs: 3",
            "",
        ]
    )
    assert collection.counts == {TrialState.DONE: 2, TrialState.FAILED: 1}
    assert collection.totals == Usage(3.0, 6.0, {"EUR": 15.0}, False)
    assert (collection.problems, len(collection.rows)) == ([], 3)
    assert collection.paths == [sweep.leaderboard(e) for e in ("csv", "md")]


def test_collect_same_files_twice_gives_the_same_bytes(sweep, tmp_path):
    for number in range(50):
        name = f"{number:05d}-aaaa"
        add_trial(sweep, name, {"lr": number / 7}, {"loss": (number * 7 % 5) / 3})
    copy = SweepPaths(str(tmp_path / "elsewhere" / "demo"))
    shutil.copytree(sweep.root, copy.root)
    for one in (sweep, sweep, copy):
        collect(one, {}, {}, NOON)
    assert read_all(sweep) == read_all(copy)
    cold = read_all(sweep)
    collect(sweep, {}, {}, datetime(2030, 1, 1, tzinfo=UTC))
    assert read_all(sweep) == cold


def test_collect_running_trial_costs_up_to_now(sweep):
    name = "00001-aaaa"
    add_trial(sweep, name, {"lr": 1}, attempts=[claim(name)])
    collection = collect(sweep, {name: TrialState.RUNNING}, {}, NOON)
    assert collection.totals == Usage(2.0, 4.0, {"EUR": 10.0}, False)


def test_collect_hostile_files_names_them_and_ranks_the_rest(sweep):
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    for number, data in enumerate((b"", b"{", b'{"metrics": {"loss": 1e400}}'), start=2):
        write(add_trial(sweep, f"0000{number}-aaaa", {"lr": 2}).result, data)
    os.mkfifo(add_trial(sweep, "00005-aaaa", {"lr": 3}).result)
    noted = sweep.trial("00006-aaaa")
    add_trial(sweep, noted.name, {"lr": 4})
    write(
        noted.result,
        dump_record({"metrics": {"loss": 2}, "problems": [f"line {n}: x" for n in range(12)]}),
    )
    os.mkdir(sweep.trials + "/junk")
    collection = collect(sweep, dict.fromkeys(os.listdir(sweep.trials), TrialState.DONE), {}, NOON)
    rows = collection.rows
    assert rows["trial"].tolist() == [f"0000{n}-aaaa" for n in (1, 6, 2, 3, 4, 5)]
    assert rows["rank"].to_numpy(dtype=object, na_value=None).tolist() == [1, 2] + [None] * 4
    assert rows["note"].to_numpy(dtype=object, na_value=None).tolist()[2:] == [
        "no result that can be read; result.json: empty",
        "no result that can be read; result.json: Expecting property name enclosed in double "
        "quotes: line 1 column 2 (char 1)",
        "loss is inf",
        "no result that can be read; result.json: a pipe, not a file",
    ]
    assert collection.problems == [
        "trials/junk: not a trial's directory name; passed over",
        "00002-aaaa/result.json: empty",
        "00003-aaaa/result.json: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "00005-aaaa/result.json: a pipe, not a file",
        "00006-aaaa/metrics.jsonl: line 0: x (and 11 more like it there)",
    ]


@pytest.mark.parametrize("depth", [100, 900, 990])
def test_collect_deeply_nested_values_do_not_stop_it(tmp_path, depth):
    sweep = make_sweep(str(tmp_path / "seeded"), seeded=True)
    deep = b"[" * depth + b"]" * depth
    for name in ("00001-aaaa", "00002-aaaa"):
        trial = add_trial(sweep, name, {}, {"loss": 1})
        write(trial.params, b'{"seed": 1, "deep": ' + deep + b"}")
        write(trial.result, b'{"metrics": {"loss": 1, "deep": ' + deep + b"}}")
    for _ in range(2):
        assert len(collect(sweep, {}, {}, NOON).rows) == 2


def test_collect_without_trials_writes_an_empty_table(sweep):
    collection = collect(sweep, {}, {}, NOON)
    assert read_text(sweep.leaderboard("csv")) == (
        "rank,trial,state,loss,attempts,gpu_hours,cost,currency,node,note\n"
    )
    assert "No trials." in read_text(sweep.leaderboard("md"))
    assert collection.problems == []


def test_collect_not_asked_to_write_writes_nothing(sweep):
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    collection = collect(sweep, {}, {}, NOON, scan=scan_sweep(sweep), write_files=False)
    assert (list(collection.paths), collection.board.n_ranked) == ([], 1)
    assert not os.path.exists(sweep.leaderboard("csv"))


def test_collect_full_disk_leaves_the_old_file(sweep, monkeypatch):
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    collect(sweep, {}, {}, NOON)
    before = read_all(sweep)
    add_trial(sweep, "00002-aaaa", {"lr": 2}, {"loss": 0.5})
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OrchestratorError, match=r"leaderboard.csv: not written, the old one"):
        collect(sweep, {}, {}, NOON)
    monkeypatch.undo()
    assert read_all(sweep) == before
    assert [name for name in os.listdir(sweep.root) if name.endswith(".tmp")] == []


def test_collect_nothing_new_leaves_the_files_alone(sweep):
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    paths = collect(sweep, {}, {}, NOON).paths
    before = [os.stat(path) for path in paths]
    assert collect(sweep, {}, {}, NOON).paths == paths
    assert [os.stat(path) for path in paths] == before


@pytest.mark.parametrize("change", ["file", "gone", "state", "reason", "trial", "summary"])
def test_collect_anything_new_writes_the_files(sweep, change):
    name = "00001-aaaa"
    add_trial(sweep, name, {"lr": 1}, {"loss": 1.0})
    collect(sweep, {}, {}, NOON)
    before = os.stat(sweep.leaderboard("csv"))
    states, reasons = {}, {}
    if change == "file":
        write(sweep.leaderboard("csv"), b"mine")
    elif change == "gone":
        os.unlink(sweep.leaderboard("md"))
    elif change == "state":
        states[name] = TrialState.CANCELLED
    elif change == "reason":
        reasons[name] = "because"
    elif change == "trial":
        add_trial(sweep, "00002-aaaa", {"lr": 1}, {"loss": 1.0})
    else:
        write(sweep.summary, dump_record({"name": "renamed"}))
    collect(sweep, states, reasons, NOON)
    after = os.stat(sweep.leaderboard("csv"))
    assert after.st_ino != before.st_ino
    assert os.path.exists(sweep.leaderboard("md"))


def test_collect_running_trial_is_written_every_time(sweep):
    name = "00001-aaaa"
    add_trial(sweep, name, {"lr": 1}, attempts=[claim(name)])
    costs = []
    for hour in (12, 13):
        now = datetime(2026, 1, 1, hour, tzinfo=UTC)
        collect(sweep, {name: TrialState.RUNNING}, {}, now)
        costs.append(pd.read_csv(sweep.leaderboard("csv"))["cost"].tolist())
    assert costs == [[10.0], [15.0]]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/hosts", path)])
def test_collect_no_file_in_the_place_of_ours_is_not_waited_for(sweep, make):
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    os.mkdir(sweep.cache)
    make(sweep.cache + "/leaderboard.json")
    collect(sweep, {}, {}, NOON)
    os.unlink(sweep.summary)
    make(sweep.summary)
    with pytest.raises((CorruptRecord, UserError), match=r"sweep\.json"):
        collect(sweep, {}, {}, NOON)


def test_collect_without_summary_raises(tmp_path):
    os.makedirs(tmp_path / "x" / "trials")
    with pytest.raises(UserError, match=r"no sweep\.json there"):
        collect(SweepPaths(str(tmp_path / "x")), {}, {}, NOON)


def test_collect_corrupt_summary_raises_and_keeps_the_old_table(sweep):
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 1.0})
    collect(sweep, {}, {}, NOON)
    before = read_all(sweep)
    write(sweep.summary, b"{")
    with pytest.raises(CorruptRecord, match=r"sweep\.json"):
        collect(sweep, {}, {}, NOON)
    assert read_all(sweep) == before


# --- the CSV ---

TEXTS = [
    "007", "NA", "null", "None", "nan", "a,b", 'say "hi"', "two\nlines", "cr\rhere", " space ",
    "-5", "+1e5", "学习率 🙂", "tab\tin", "<script>", "inf",
]  # fmt: skip


def test_csv_texts_come_back_as_they_were(sweep):
    for number, text in enumerate(TEXTS):
        add_trial(sweep, f"{number:05d}-aaaa", {"lr": text}, {"loss": number})
    collect(sweep, {}, {}, NOON)
    path = sweep.leaderboard("csv")
    back = pd.read_csv(path, keep_default_na=False, dtype={"lr": str, "trial": str})
    assert back["lr"].tolist() == TEXTS
    assert back["trial"].tolist() == [f"{number:05d}-aaaa" for number in range(len(TEXTS))]
    assert [row["lr"] for row in csv.DictReader(io.StringIO(read_text(path), newline=""))] == TEXTS
    assert back["loss"].tolist() == list(range(len(TEXTS)))


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("=1,2", "'=1,2"),
        ("-5", "-5"),
        ("-1e-5", "-1e-5"),
        ("-inf", "-inf"),
        ("a=1", "a=1"),
    ],
)
def test_csv_text_like_a_formula_is_disarmed_and_numbers_are_not(sweep, text, cell):
    add_trial(sweep, "00001-aaaa", {"lr": text, "=title": 1}, {"loss": -1.5, "-x": -2})
    collect(sweep, {}, {}, NOON)
    rows = list(csv.reader(io.StringIO(read_text(sweep.leaderboard("csv")), newline="")))
    assert rows[0] == [
        "rank", "trial", "state", "loss", "lr", "'-x", "attempts", "gpu_hours", "cost",
        "currency", "node", "note", "'=title",
    ]  # fmt: skip
    assert (rows[1][3], rows[1][4], rows[1][5]) == ("-1.5", cell, "-2")


def test_csv_empty_text_null_and_missing_are_told_apart(sweep):
    for number, params in enumerate(({"lr": ""}, {"lr": None}, {}), start=1):
        add_trial(sweep, f"0000{number}-aaaa", params, {"loss": number})
    collect(sweep, {}, {}, NOON)
    lines = read_text(sweep.leaderboard("csv")).splitlines()
    assert [line.split(",")[5] for line in lines] == ["lr", '""', "null", ""]


def test_csv_numbers_keep_their_digits(sweep):
    values = [2**53 + 1, -(2**53) - 1, 2**62]
    for number, value in enumerate(values, start=1):
        add_trial(sweep, f"0000{number}-aaaa", {"lr": value}, {"loss": 0.1 + number})
    add_trial(sweep, "00004-aaaa", {}, {"loss": 9.123456789012345})
    collect(sweep, {}, {}, NOON)
    rows = [line.split(",") for line in read_text(sweep.leaderboard("csv")).splitlines()[1:]]
    assert [row[5] for row in rows] == [*map(str, values), ""]
    assert float(rows[3][4]) == 9.123456789012345


def test_csv_lone_surrogate_does_not_stop_the_table(sweep):
    trial = add_trial(sweep, "00001-aaaa", {"lr": 1})
    write(trial.params, b'{"lr": "\\ud800", "\\ud801": 1}')
    write_result(trial, {"loss": 1}, [ended(trial.name)])
    collect(sweep, {}, {}, NOON)
    assert "\\ud800" in read_text(sweep.leaderboard("csv"))


# --- the Markdown ---


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("<script>alert(1)</script>", "\\<script\\>alert(1)\\</script\\>"),
        ("*b* `c` [d](e)", "\\*b\\* \\`c\\` \\[d\\](e)"),
        ("&lt; a & b", "\\&lt; a & b"),
        ("back\\slash", "back\\\\slash"),
        ("__init__ snake_case", "\\_\\_init\\_\\_ snake_case"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("x" * 200, "x" * 79 + "…"),
    ],
)
def test_markdown_value_is_shown_as_it_is(sweep, text, cell):
    add_trial(sweep, "00001-aaaa", {"lr": text}, {"loss": 1})
    collect(sweep, {}, {}, NOON)
    row = read_text(sweep.leaderboard("md")).split("\n")[10]
    assert re.split(r"(?<!\\) \| ", row)[4] == cell


def test_markdown_long_table_is_cut_and_says_so(sweep, monkeypatch):
    monkeypatch.setattr(leaderboard_files, "MARKDOWN_RANKED", 3)
    monkeypatch.setattr(leaderboard_files, "MARKDOWN_OTHERS", 2)
    for number in range(10):
        metrics = {"loss": number} if number < 5 else None
        add_trial(sweep, f"{number:05d}-aaaa", {"lr": number}, metrics)
    collect(sweep, {}, {}, NOON)
    text = read_text(sweep.leaderboard("md"))
    assert re.findall(r"\d{5}-aaaa", text) == [f"0000{n}-aaaa" for n in (0, 1, 2, 5, 6)]
    assert "… and 5 more in leaderboard.csv." in text


def test_collect_condition_that_leaves_out_a_diverged_seed_gives_its_configuration_no_rank(
    tmp_path,
):
    sweep = make_sweep(str(tmp_path / "demo"), parameters=("lr", "seed"), seeded=True)
    for number, loss in enumerate((0.1, 0.2, "nan", 5.0, 6.0, 7.0)):
        params = {"lr": number // 3, "seed": number % 3}
        add_trial(sweep, f"{number:05d}-aaaa", params, {"loss": loss})
    found = collect(sweep, {}, {}, NOON, where="loss < 6.5 or seed < 2", write_files=False).shown
    assert found.n_ranked == 0
    found = collect(sweep, {}, {}, NOON, where="loss < 8", write_files=False).shown
    table = found.table
    assert list(zip(table["rank"].cells, table["trial"].cells, strict=True)) == [
        *((1, f"0000{number}-aaaa") for number in (3, 4, 5)),
        *((None, f"0000{number}-aaaa") for number in (0, 1)),
    ]
    assert table["note"].cells[3:] == ["its repeat 00002-aaaa: loss is nan"] * 2

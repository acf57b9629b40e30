"""From a sheet for raters and back into the leaderboard, on files."""

import csv
import io
import json
import os
from datetime import UTC, datetime

import pytest

from orchestrator.cli import main as cli
from orchestrator.contract.errors import UserError
from orchestrator.contract.states import TrialState
from orchestrator.usecases.collect import collect
from orchestrator.usecases.ratings import import_ratings, load_ratings, write_sheet
from tests.trial_writer import add_trial, make_sweep, write

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B, C = "00001-aaaa", "00002-bbbb", "00003-cccc"
HUMAN = ("human_score", "maximize")


def answer(trial, **answers):
    rows = [
        {"prompt_id": prompt, "prompt": f"what is {prompt}?", "reference": "r", "answer": text}
        for prompt, text in answers.items()
    ]
    write(trial.responses, "".join(json.dumps(row) + "\n" for row in rows).encode())


@pytest.fixture
def sweep(tmp_path):
    """Three finished trials; the third left no answers."""
    sweep = make_sweep(str(tmp_path / "results" / "demo"), HUMAN)
    os.chmod(sweep.root, 0o700)
    answer(add_trial(sweep, A, {"lr": 1}, {"loss": 0.5}), p1="same", p2="=cmd|' /C calc'!A0")
    answer(add_trial(sweep, B, {"lr": 2}, {"loss": 0.25}), p1="same", p2="b\n第二")
    add_trial(sweep, C, {"lr": 3}, {"loss": 0.1})
    return sweep


def read_sheet(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill_in(path, rate):
    rows = read_sheet(path)
    for row in rows:
        row["rating"] = rate(row)
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write(path, out.getvalue().encode("utf-8-sig"))


def cells(collection, *names):
    frame = collection.rows
    return [frame[n].to_numpy(dtype=object, na_value=None).tolist() for n in names]


def test_sheet_is_blind_guarded_and_has_equal_answers_once(sweep):
    sheet = write_sheet(sweep, rater="ann")
    assert (sheet.n_rows, sheet.n_trials, sheet.n_answers, sheet.n_rated) == (3, 2, 4, 0)
    with open(sheet.path, "rb") as file:
        data = file.read()
    assert data.startswith(b"\xef\xbb\xbfkey,question,reference,answer,rating,rater\n")
    assert b"aaaa" not in data
    assert b"bbbb" not in data
    rows = read_sheet(sheet.path)
    assert sorted(row["answer"] for row in rows) == ["'=cmd|' /C calc'!A0", "b\n第二", "same"]
    assert {(row["rating"], row["rater"]) for row in rows} == {("", "ann")}
    assert [row["key"] for row in read_sheet(write_sheet(sweep, rater="ann").path)] == [
        row["key"] for row in rows
    ]


def test_sheet_that_is_filled_in_comes_into_the_leaderboard(sweep):
    sheet = write_sheet(sweep, rater="ann")
    before = {name: os.stat(sweep.trial(name).result).st_mtime_ns for name in (A, B, C)}
    states = dict.fromkeys((A, B, C), TrialState.DONE)
    unrated = collect(sweep, states, {}, NOON)
    assert cells(unrated, "rank", "note") == [[None] * 3, ["not rated yet"] * 3]
    fill_in(sheet.path, lambda row: "4" if row["answer"] == "same" else "1")
    with pytest.raises(UserError, match="is filled in, or no sheet; it is left as it is"):
        write_sheet(sweep)
    assert import_ratings(sweep, [sheet.path]).problems == ()
    with open(sweep.ratings) as file:
        assert file.read().splitlines() == [
            "trial,prompt,rating,rater",
            f"{A},p1,4.0,ann",
            f"{A},p2,1.0,ann",
            f"{B},p1,4.0,ann",
            f"{B},p2,1.0,ann",
        ]
    write(sweep.ratings, f"trial,prompt,rating,rater\n1,p1,5,bob\n{A},p1,4,ann\n2,p2,1,\n".encode())
    rated = collect(sweep, states, {}, NOON)
    assert cells(rated, "rank", "trial", "human_score", "human_score_n", "note") == [
        [1, 2, None],
        [A, B, C],
        [4.5, 1, None],
        [2, 1, None],
        [None, None, "not rated yet"],
    ]
    assert rated.rows["human_score_spread"].tolist()[0] == pytest.approx(0.5**0.5)
    assert rated.counts == {TrialState.DONE: 3}
    assert before == {name: os.stat(sweep.trial(name).result).st_mtime_ns for name in (A, B, C)}
    with open(sweep.leaderboard("csv")) as file:
        assert f"1,true,{A},done,4.5" in file.read()


def test_ratings_of_one_rater_are_not_asked_for_again(sweep):
    write(sweep.ratings, b"trial,prompt,rating,rater\n1,p1,4,ann\n2,p1,4,ann\n1,p2,3,bob\n")
    sheet = write_sheet(sweep, rater="ann")
    assert (sheet.n_rows, sheet.n_rated) == (2, 1)
    assert write_sheet(sweep).n_rows == 3
    assert write_sheet(sweep, trials=["2"], n_prompts=1).n_rows == 1


def test_repeats_that_are_not_rated_do_not_take_a_configuration_its_mean(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"), HUMAN, ("lr", "seed"), seeded=True)
    for number, name in enumerate((A, B)):
        add_trial(sweep, name, {"lr": 1, "seed": number}, {"loss": 1})
    write(sweep.ratings, b"trial,prompt,rating\n1,x,3\n")
    found = collect(sweep, dict.fromkeys((A, B), TrialState.DONE), {}, NOON)
    assert cells(found, "rank", "human_score_mean", "repeats_done", "note") == [
        [1, None],
        [3, 3],
        [1, 1],
        [None, "not rated yet"],
    ]


def test_bad_rows_are_named_and_the_rest_counts(sweep, tmp_path):
    file = str(tmp_path / "mine.csv")
    write(file, b"trial,prompt,rating,rater\n1,p1,7,ann\n1,p3,3,ann\n2,p1,3,ann\n")
    found = import_ratings(sweep, [file])
    assert found.problems == (
        f"{file}:2: rating '7': allowed are numbers from 0 to 5",
        f"{file}:3: prompt 'p3' of trial {A}: allowed is one of the 2 prompt ids in its "
        "responses.jsonl",
    )
    assert list(load_ratings(sweep).by_trial) == [B]
    write(sweep.ratings, b"trial,prompt,rating\n1,p1,7\n")
    assert load_ratings(sweep).problems == (
        "ratings.csv:2: rating '7': allowed are numbers from 0 to 5",
    )
    with pytest.raises(UserError, match="rows that cannot be used; mend them before adding"):
        import_ratings(sweep, [file])


@pytest.mark.parametrize("table", ["1,p1,3,{}\n2,p1,4,{}\n", None])
def test_line_of_answers_that_cannot_be_read_keeps_no_rater_out(sweep, tmp_path, table):
    with open(sweep.trial(A).responses, "ab") as file:
        file.write(b"no object\n")
    said = f"{A}/responses.jsonl:3: not an object with the texts prompt_id, prompt, reference, "
    said += "answer, each prompt_id once"
    files = [str(tmp_path / f"{rater}.csv") for rater in ("ann", "bob", "cleo")]
    for file, rater in zip(files, ("ann", "bob", "cleo"), strict=True):
        if table is None:
            fill_in(write_sheet(sweep, rater=rater, path=file).path, lambda _: "4")
        else:
            rows = table.format(rater, rater)
            write(file, f"trial,prompt,rating,rater\n{rows}".encode())
    assert import_ratings(sweep, files[:1]).problems == (said,)
    found = import_ratings(sweep, files[1:])
    assert (found.problems, found.useless) == ((said,), ())
    assert {rating.rater for rating in load_ratings(sweep).all} == {"ann", "bob", "cleo"}


def test_file_that_is_not_there_is_named_before_older_mistakes(sweep, tmp_path):
    write(sweep.ratings, b"trial,prompt,rating\n1,p1,7\n")
    with pytest.raises(UserError, match=r"nosuch\.csv: there is no such file"):
        import_ratings(sweep, [str(tmp_path / "nosuch.csv")])


def test_sheet_without_a_rating_says_so(sweep, tmp_path):
    sheet = write_sheet(sweep)
    found = import_ratings(sweep, [sheet.path])
    assert found.problems == (f"{sheet.path}: no row of it has a rating yet",)
    assert not found.all


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "there is no such file"),
        (b"trial,prompt,rating\n1,\xff,3\n", ":2: not UTF-8; save it as CSV UTF-8"),
        (b"a,b\n", ":1: found the columns a, b; needed are"),
    ],
)
def test_table_that_cannot_be_used_is_refused(sweep, tmp_path, data, said):
    file = str(tmp_path / "mine.csv")
    if data is not None:
        write(file, data)
    with pytest.raises(UserError, match=r"mine\.csv") as caught:
        import_ratings(sweep, [file])
    assert said in str(caught.value)
    assert not os.path.exists(sweep.ratings)


def test_hostile_answers_are_named_and_passed_over(sweep):
    write(sweep.trial(C).responses, b'{"prompt_id": 3}\nno\n[1]\n\n')
    os.unlink(sweep.trial(B).responses)
    os.symlink("/etc/passwd", sweep.trial(B).responses)
    sheet = write_sheet(sweep)
    assert (sheet.n_rows, sheet.n_trials) == (2, 1)
    assert sheet.problems == (
        f"{B}/responses.jsonl: a symbolic link; not followed",
        f"{C}/responses.jsonl:1: not an object with the texts prompt_id, prompt, reference, "
        "answer, each prompt_id once (2 more such lines)",
    )


def test_sheet_without_answers_is_refused(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"))
    add_trial(sweep, A, {"lr": 1}, {"loss": 1})
    with pytest.raises(UserError, match="no trial has left a responses"):
        write_sheet(sweep)
    assert not os.path.exists(sweep.rating_sheet)


def test_ratings_do_not_touch_a_table_without_them(sweep):
    states = dict.fromkeys((A, B, C), TrialState.DONE)
    assert "human_score_n" not in collect(sweep, states, {}, NOON).rows
    write(sweep.ratings, b"trial,prompt,rating\n")
    found = collect(sweep, states, {}, NOON)
    assert found.problems == []
    assert "human_score_n" not in found.rows


def test_rated_metric_that_a_program_reports_itself_is_peoples(tmp_path):
    sweep = make_sweep(str(tmp_path / "demo"), HUMAN)
    add_trial(sweep, A, {"lr": 1}, {"human_score": 0.5})
    add_trial(sweep, B, {"lr": 2}, {"human_score": 1.5})
    write(sweep.ratings, b"trial,prompt,rating\n1,x,5\n")
    found = collect(sweep, dict.fromkeys((A, B), TrialState.DONE), {}, NOON)
    assert cells(found, "trial", "human_score") == [[A, B], [5, 1.5]]


def test_commands_tell_people_and_programs(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["ratings", "demo", "--rater", "ann"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == (
        "results/demo/rating-sheet.csv: 3 answers to rate; 2 trials gave 4, and equal ones are one "
        "row"
    )
    assert said[-1] == "make collect SWEEP=demo RATINGS=results/demo/rating-sheet.csv"
    fill_in(sweep.rating_sheet, lambda row: "9" if row["answer"] == "same" else "2")
    assert cli.run(["collect", "demo", "--json", "--ratings", sweep.rating_sheet]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {row["trial"]: row["human_score"] for row in found["rows"]} == {A: 2, B: 2, C: None}
    assert found["ratings"] == {"ratings": 2, "trials": 2}
    assert captured.err.count("rating '9': allowed are numbers from 0 to 5") == 1
    os.unlink(sweep.rating_sheet)
    assert cli.run(["ratings", "demo", "--rater", "ann", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "schema": "orchestrator.ratings/1",
        "sweep": "demo",
        "path": sweep.rating_sheet,
        "n_rows": 1,
        "n_trials": 2,
        "n_answers": 4,
        "n_rated": 2,
        "problems": [],
    }
    assert cli.run(["ratings", "demo", "--prompts", "0"]) == 2
    assert cli.run(["ratings", "demo", "lr=1"]) == 2


def test_command_tells_how_many_answers_there_are_where_none_are_equal(sweep, capsys):
    answer(sweep.trial(B), p1="other", p2="b")
    assert cli.run(["ratings", "demo", "--results", os.path.dirname(sweep.root)]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(": 4 answers to rate, of 2 trials")

import math

import pytest

from orchestrator.contract.errors import UserError
from orchestrator.domain.ratings import (
    Answer,
    Human,
    Rating,
    group_answers,
    human_metrics,
    merge_ratings,
    read_table,
    shuffled_keys,
    sum_up,
    understand,
)

A, B = "00001-aaaa", "00002-bbbb"


def find_trial(word):
    if word in ("1", A):
        return A
    if word in ("2", B):
        return B
    raise UserError(f"no trial {word!r}; give a number (1 to 2) or a directory name")


def read(text, by_key=None, prompts=None):
    rows, problems = read_table(text, "r.csv")
    ratings, wrong = understand(rows, find_trial, by_key or {}, lambda trial: prompts)
    return ratings, problems + wrong


def test_table_with_trials_gives_ratings():
    text = f"trial,prompt,rating,rater\n1,p1,4,ann\n{B},p1,2.5,\n\n2,p2,,ann\n2,p3,0,=bob\n"
    assert read(text) == (
        [Rating(A, "p1", 4, "ann"), Rating(B, "p1", 2.5, ""), Rating(B, "p3", 0, "=bob")],
        [],
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_table_as_spreadsheets_save_it(delimiter):
    lines = [["Rater", "rating", " prompt", "trial", "mine"], ["'=x", " 3 ", "p1", "1", "a\nb"]]
    quoted = [[f'"{cell}"' if "\n" in cell else cell for cell in line] for line in lines]
    text = "\ufeff" + "".join(delimiter.join(line) + "\r\n" for line in quoted)
    assert read(text) == ([Rating(A, "p1", 3, "=x")], [])


def test_decimal_comma_of_a_spreadsheet_is_read():
    assert read("trial;prompt;rating\n1;p1;4,5\n2;p1;,5\n") == (
        [Rating(A, "p1", 4.5, ""), Rating(B, "p1", 0.5, "")],
        [],
    )
    assert read('trial,prompt,rating\n1,p1,"4,5"\n')[0] == [Rating(A, "p1", 4.5, "")]
    assert read('trial,prompt,rating\n1,p1,"1,000.5"\n')[0] == []


def test_each_bad_row_is_named_once_and_the_others_count():
    text = (
        "trial,prompt,rating,rater\n"
        '1,p1,4,"two\nlines"\n'
        "1,p1,6,ann\n"
        "1,p1,-0.1,ann\n"
        "1,p1,good,ann\n"
        "1,p1,nan,ann\n"
        "1,p1,1e0,ann\n"
        "9,p1,4,ann\n"
        "1,p9,4,ann\n"
        "1,,4,ann\n"
        "1,p1,5,ann\n"
        "1,p1,5,ann\n"
        "1,p1,5,\n"
        "1,p1,4,\n"
    )
    ratings, problems = read(text, prompts=frozenset({"p1", "p2"}))
    assert ratings == [Rating(A, "p1", 5, "ann"), Rating(A, "p1", 5, "")]
    assert problems == [
        "r.csv:2: rater 'two lines': allowed are 100 printable characters",
        "r.csv:4: rating '6': allowed are numbers from 0 to 5",
        "r.csv:5: rating '-0.1': allowed are numbers from 0 to 5",
        "r.csv:6: rating 'good': allowed are numbers from 0 to 5",
        "r.csv:7: rating 'nan': allowed are numbers from 0 to 5",
        "r.csv:8: rating '1e0': allowed are numbers from 0 to 5",
        "r.csv:9: no trial '9'; give a number (1 to 2) or a directory name",
        "r.csv:10: prompt 'p9' of trial 00001-aaaa: allowed is one of the 2 prompt ids in its "
        "responses.jsonl",
        "r.csv:11: prompt '' of trial 00001-aaaa: allowed is one of the 2 prompt ids in its "
        "responses.jsonl",
        "r.csv:13: rated by ann in r.csv:12 already; allowed is once",
        "r.csv:15: rated without a rater in r.csv:14 already; allowed is once",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "r.csv:1: empty; needed are the columns trial, prompt, rating"),
        ("trial,score\n1,2\n", "r.csv:1: found the columns trial, score; needed are"),
        ("\n\nkey\n", "r.csv:3: found the columns key; needed are"),
    ],
)
def test_table_of_another_form_is_refused(text, said):
    with pytest.raises(UserError) as caught:
        read(text)
    assert said in str(caught.value)


def test_table_that_is_no_csv_from_a_line_on_keeps_what_was_before():
    ratings, problems = read("trial,prompt,rating\n1,p1,4\n" + f'1,"{"x" * 200000}",3\n')
    assert ratings == [Rating(A, "p1", 4, "")]
    assert problems == ["r.csv:3: not CSV from here on: field larger than field limit (131072)"]


def test_blind_key_stands_for_every_trial_that_answered_so():
    answers = [
        Answer(A, "p1", "q", "r", "yes"),
        Answer(B, "p1", "q", "r", "yes"),
        Answer(B, "p2", "q", "r", "yes"),
    ]
    groups = group_answers(answers, "salt")
    assert [len(group) for group in groups.values()] == [2, 1]
    assert not set(groups) & set(group_answers(answers, "other")), "keys cannot be worked out"
    first, second = groups
    assert first[0] == "r"
    text = f"key,answer,rating,rater\n{first},yes,4,ann\n{second},yes,3,ann\nr0,no,1,ann\n"
    assert read(text, groups) == (
        [Rating(A, "p1", 4, "ann"), Rating(B, "p1", 4, "ann"), Rating(B, "p2", 3, "ann")],
        [
            "r.csv:4: key 'r0' is of no answer of this sweep; allowed are those of a sheet of its "
            "present answers (make ratings)"
        ],
    )


def test_order_of_a_sheet_is_each_raters_own_and_the_same_again():
    keys = [f"r{n}" for n in range(50)]
    ann, bob = (shuffled_keys(keys, "salt", rater) for rater in ("ann", "bob"))
    assert sorted(ann) == sorted(bob) == sorted(keys)
    assert ann not in (bob, sorted(keys))
    assert shuffled_keys(reversed(keys), "salt", "ann") == ann


def test_sum_is_the_mean_over_prompts_of_the_mean_over_raters():
    ratings = [
        Rating(A, "p1", 1, "ann"),
        Rating(A, "p1", 3, "bob"),
        Rating(A, "p2", 5, "ann"),
        Rating(B, "p1", 4, ""),
    ]
    # p1: mean 2, squares 1 + 1 of one degree of freedom.
    assert sum_up(ratings) == {A: Human(3.5, 3, math.sqrt(2)), B: Human(4, 1, None)}
    assert human_metrics(sum_up(ratings)[B]) == {"human_score": 4, "human_score_n": 1}
    assert "human_score_spread" in human_metrics(sum_up(ratings)[A])


def test_newer_rating_of_the_same_rater_replaces_the_older():
    old = [Rating(B, "p1", 1, "ann"), Rating(A, "p1", 1, "bob")]
    new = [Rating(B, "p1", 2, "ann"), Rating(B, "p1", 3, "")]
    assert merge_ratings(old, new) == [
        Rating(A, "p1", 1, "bob"),
        Rating(B, "p1", 3, ""),
        Rating(B, "p1", 2, "ann"),
    ]

import json
import math
import tracemalloc

import pytest

from orchestrator.adapters.curves import parse_curves
from orchestrator.contract import records
from orchestrator.contract.records import dump_record, fold_metrics, parse_record

GOOD = b'{"loss": 1}\n'


def fold(data):
    metrics, _, _, problems = fold_metrics(data.split(b"\n"))
    return metrics, problems


@pytest.mark.parametrize("spelled", ["nan", "-nan", "NAN", "-nan(0x8000000000000)", "+nan"])
def test_nan_as_printf_spells_it_takes_the_place_of_an_earlier_value(spelled):
    metrics, problems = fold(GOOD + f'{{"step": 2, "loss": {spelled}}}\n'.encode())
    assert math.isnan(metrics["loss"])
    assert problems == []
    (curve,) = parse_curves([f'{{"step": 2, "loss": {spelled}}}'], ["loss"]).values()
    assert curve == [(2, None)]


@pytest.mark.parametrize(
    ("data", "metrics", "problems"),
    [
        (GOOD + b'{"loss": inf}\n', {"loss": math.inf}, []),
        (GOOD + b'{"loss": -INF, "nan": "inf nan"}\n', {"loss": -math.inf, "nan": "inf nan"}, []),
        (GOOD + b'{"loss": +infinity}\n', {"loss": math.inf}, []),
        (GOOD + b'{"loss": 1.nan}\n', {"loss": 1}, ["line 2: not JSON"]),
        (GOOD + b'{"loss": nano}\n', {"loss": 1}, ["line 2: not JSON"]),
        (GOOD + b"{nan: 1}\n", {"loss": 1}, ["line 2: not JSON"]),
        (GOOD + b'{"nan": nan, "nan": 1}\n', {"loss": 1}, ["line 2: key 'nan' stands twice"]),
    ],
)
def test_bare_infinities_count_and_other_bare_words_do_not(data, metrics, problems):
    found, said = fold(data)
    assert found == metrics
    assert len(said) == len(problems)
    assert all(words in text for words, text in zip(problems, said, strict=True))


@pytest.mark.parametrize("piece", ['"\\', "nan(", '"\\"', "nan ", "inf"])
def test_long_lines_of_odd_pieces_are_read_in_one_go(piece):
    """Each character is looked at once: what takes their square would not end here."""
    assert fold(b'{"a": ' + piece.encode() * 100_000 + b"\n")[0] == {}


@pytest.mark.parametrize(
    ("data", "metrics", "problems"),
    [
        (b"", {}, []),
        (b'{"loss": 2}', {"loss": 2}, []),
        (b'{"loss": 1e400}\n', {"loss": math.inf}, []),
        (b'{"loss": -Infinity}\n', {"loss": -math.inf}, []),
        (b'{"loss": "0.5", "b": true, "n": null}\n', {"loss": "0.5", "b": True, "n": None}, []),
        (b'{"loss": [1, {"a": 2}]}\n', {"loss": [1, {"a": 2}]}, []),
        (b'{"loss": {}, "": 3}\n', {"loss": {}, "": 3}, []),
        (b"\xef\xbb\xbf" + GOOD, {"loss": 1}, []),
        (b"\r\n" + GOOD.replace(b"\n", b"\r\n"), {"loss": 1}, []),
        (b"\0\0\0" + GOOD, {"loss": 1}, []),
        (b'{"loss": 1}\n{"loss": ', {"loss": 1}, ["line 2: not JSON"]),
        (b'{"loss": 1{"loss": 2}\n}\n', {}, ["line 1: not JSON", "(and 1 more like it)"]),
        (b'{\n"loss": 1\n}\n', {}, ["line 1: not JSON", "(and 2 more like it)"]),
        (GOOD + b'{"loss": 2, "loss": 3}\n', {"loss": 1}, ["line 2: key 'loss' stands twice"]),
        (GOOD + b'{"a": {"b": 1, "b": 1}}\n', {"loss": 1}, ["line 2: key 'b' stands twice"]),
        (GOOD + b"[1]\n3\nnull\n", {"loss": 1}, ["line 2: a list, not an object", "2 more"]),
        (GOOD + b"\xff\xfe\x80\n" * 9, {"loss": 1}, ["line 2: not UTF-8 (and 8 more like it)"]),
        (GOOD + b"\0" * 99 + b"\n", {"loss": 1}, ["line 2: nothing but NUL bytes"]),
        (GOOD.decode().encode("utf-16"), {}, ["line 1: UTF-16, not UTF-8; nothing was read"]),
        (
            GOOD.decode().encode("utf-16-le"),
            {},
            ["line 1: not JSON: it holds NUL bytes (and 1 more like it)"],
        ),
        (GOOD + b'{"l": ' + b"[" * 65 + b"]" * 65 + b"}", {"loss": 1}, ["line 2: nested too deep"]),
        (GOOD + b'{"l": ' + b"[" * 500_000 + b"\n", {"loss": 1}, ["line 2: nested too deeply"]),
        (GOOD + b'{"l": ' + b"9" * 5000 + b"}\n", {"loss": 1}, ["value has 5000 digits"]),
        (
            GOOD + b" " * (2**20 + 1) + b".\n",
            {"loss": 1},
            ["line 2: line of more than 1048576 bytes"],
        ),
        (
            b'{"loss": 3, "text": "' + b"x" * 70_000 + b'"}\n',
            {"loss": 3},
            ["line 1: metric 'text' has 70002 bytes; left out"],
        ),
        (
            b'{"loss": 3, "' + b"k" * 10_000 + b'": 1}\n',
            {"loss": 3},
            ["line 1: a metric's name of 10000 characters; left out"],
        ),
    ],
    ids=range(26),
)
def test_fold_metrics_odd_line_has_a_documented_fate_and_is_named_once(data, metrics, problems):
    found, named = fold(data)
    assert found == metrics
    assert len(named) == (1 if problems else 0), named
    for words in problems:
        assert words in named[0]


def test_fold_metrics_more_names_than_allowed_do_not_stop_those_before():
    lines = [b'{"loss": %d, "step_%d": 1}' % (n, n) for n in range(5000)]
    metrics, n_reports, _, problems = fold_metrics(lines)
    assert (len(metrics), metrics["loss"], n_reports) == (1000, 4999, 5000)
    assert problems == ["line 1000: more than 1000 different metrics (and 4,000 more like it)"]


def test_fold_metrics_million_names_in_one_file_stay_within_bounds():
    keys = ", ".join(f'"k{n}": {n}' for n in range(60_000)).encode()
    metrics, _, _, problems = fold_metrics([b'{"loss": 1, ' + keys + b"}", b'{"loss": 2}'])
    assert (len(metrics), metrics["loss"]) == (1000, 2)
    assert problems == ["line 1: more than 1000 different metrics (and 59,000 more like it)"]


def test_fold_metrics_result_stays_small_enough_to_be_read():
    text = "x" * 60_000
    tracemalloc.start()
    lines = (json.dumps({f"text{n}": text, "loss": n}).encode() for n in range(900))
    metrics, _, _, problems = fold_metrics(lines)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    record = dump_record({"metrics": metrics})
    assert len(record) <= records.MAX_METRICS_BYTES_KEPT + 2**16
    assert parse_record(record, "")["metrics"]["loss"] == 899
    assert problems[0].startswith("metric 'text0' has 60002 bytes; left out, as all take too many")
    assert len(problems) == 1
    assert peak < 100 * 2**20


def test_fold_metrics_deepest_value_allowed_can_be_committed():
    deep = b"[" * 63 + b"NaN" + b"]" * 63
    metrics, problems = fold(b'{"loss": 1, "deep": ' + deep + b"}")
    assert problems == []
    assert parse_record(dump_record({"metrics": metrics}), "")["metrics"]["loss"] == 1

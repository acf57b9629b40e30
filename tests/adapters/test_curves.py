import json
import os

import pytest

from orchestrator.adapters import curves
from orchestrator.adapters.curves import parse_curves, read_curves
from orchestrator.contract.records import parse_metrics_line
from tests.trial_writer import add_trial, make_sweep, write

NAME = "00001-aaaa"


@pytest.fixture
def sweep(tmp_path):
    made = make_sweep(str(tmp_path / "demo"))
    add_trial(made, NAME, {"lr": 1}, {"loss": 1.0})
    return made


def write_lines(sweep, *lines, name=NAME):
    write(sweep.trial(name).metrics, b"".join(line + b"\n" for line in lines))


def test_parse_curves_later_reports_count_and_what_is_not_finite_is_null():
    lines = [
        '{"step": 1, "loss": 3}',
        '{"step": 2, "loss": 2.5, "text": "x"}',
        '{"step": 3, "loss": NaN}',
        '{"step": 2, "loss": 2.25}',
        '{"step": 4, "loss": "inf"}',
        '{"step": 5, "loss": 1e400}',
        '{"loss": 7}',
        '{"step": 1.5, "loss": 7}',
        '{"step": true, "loss": 7}',
        '{"step": 6, "loss": [1]}',
    ]
    found = parse_curves(lines, ["loss", "text"])
    assert found == {"loss": [(1, 3.0), (2, 2.25), (3, None), (4, None), (5, None)]}


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 1, "loss": 2, "loss": 3}',
        b'{"step": 1, "loss": 2',
        b'{"step": 1, "loss": 2} x',
        b"[1, 2]",
        b"3",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b'{"step": 1, "loss": 2, "t": "' + b"x" * 2**20 + b'"}',
    ],
)
def test_parse_curves_refuses_the_lines_that_a_commit_refuses(line):
    with pytest.raises(ValueError, match=r"."):
        parse_metrics_line(line)
    assert parse_curves([line.decode("utf-8", "replace")], ["loss"]) == {}


def test_parse_curves_takes_spaces_and_carriage_returns():
    assert parse_curves(['  {"step": 1, "loss": 2}\r', "", " "], ["loss"]) == {"loss": [(1, 2.0)]}


def test_read_curves_picks_metrics_with_curves(sweep):
    lines = [json.dumps({"step": i, "loss": i / 2, "lr": 1}).encode() for i in range(5)]
    write_lines(sweep, *lines, b'{"step": 9, "final": 1}')
    found = read_curves(sweep, [NAME, "00002-bbbb"], "loss")
    assert found.keys == ["loss", "lr"]
    assert found.curves[NAME]["loss"] == [(i, i / 2) for i in range(5)]
    assert (found.curves["00002-bbbb"], found.n_sampled) == ({}, 0)


def test_read_curves_of_a_large_file_reads_samples(sweep, monkeypatch):
    monkeypatch.setattr(curves, "MAX_BYTES", 2**16)
    lines = [json.dumps({"step": i, "loss": float(i)}).encode() for i in range(20_000)]
    write_lines(sweep, *lines)
    assert os.path.getsize(sweep.trial(NAME).metrics) > 2**18
    found = read_curves(sweep, [NAME], "loss")
    curve = found.curves[NAME]["loss"]
    assert (curve[0], curve[-1]) == ((0, 0.0), (19_999, 19_999.0))
    assert all(step == value for step, value in curve)
    assert (found.n_sampled, len(curve) <= 60) == (1, True)


@pytest.mark.timeout(60)
def test_read_curves_follows_no_link_and_waits_for_no_pipe(sweep, tmp_path):
    write(str(tmp_path / "far"), b'{"step": 1, "loss": 2}\n' * 3)
    os.symlink(tmp_path / "far", sweep.trial(NAME).metrics)
    assert read_curves(sweep, [NAME], "loss").keys == []
    os.unlink(sweep.trial(NAME).metrics)
    os.mkfifo(sweep.trial(NAME).metrics)
    assert read_curves(sweep, [NAME], "loss").keys == []

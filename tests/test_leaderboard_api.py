"""The Python API, as a notebook uses it."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from orchestrator import leaderboard
from orchestrator.contract.errors import UserError
from orchestrator.leaderboard import read_attempts, read_curves, read_leaderboard, read_trials
from tests.adapters.exports.sweeps import BROKEN, DONE, EVIL, STATES, WORSE, make_source
from tests.readme import README


@pytest.fixture
def root(tmp_path):
    make_source(str(tmp_path / "results" / "demo"))
    return tmp_path / "results" / "demo"


def test_read_leaderboard_is_typed_and_says_what_its_columns_are(root):
    frame = read_leaderboard(root)
    assert frame["trial"].tolist()[:2] == [DONE, WORSE]
    assert frame["rank"].tolist()[:2] == [1, 2]
    assert {name: str(frame[name].dtype) for name in ("rank", "loss", "flag", "text")} == {
        "rank": "int64[pyarrow]",
        "loss": "double[pyarrow]",
        "flag": "bool[pyarrow]",
        "text": "string[pyarrow]",
    }
    assert frame["text"][0] == EVIL
    attrs = frame.attrs
    assert (attrs["sweep"], attrs["objective"], attrs["goal"]) == ("demo", "loss", "minimize")
    assert attrs["parameters"] == ["lr", "text", "only"]
    assert (attrs["constants"], attrs["n_ranked"]) == (["n", "flag"], 2)


def test_read_leaderboard_keeps_nan_apart_from_missing(root):
    for arrow in (True, False):
        odd = read_leaderboard(root, arrow=arrow)["odd"]
        assert math.isnan(odd[0])
        assert odd[0] is not pd.NA
        assert odd[1] is pd.NA


def test_read_leaderboard_without_arrow_has_the_same_values(root):
    ours, theirs = read_leaderboard(root, arrow=False), read_leaderboard(root)
    assert str(ours["loss"].dtype) == "Float64"
    assert ours.columns.tolist() == theirs.columns.tolist()
    # What runs costs more by the second.
    for name in ours.columns.drop(["gpu_hours", "cost"]):
        assert repr(ours[name].tolist()) == repr(theirs[name].tolist()), name


def test_read_leaderboard_writes_only_when_asked(root):
    before = set(os.listdir(root)) | {".cache"}
    read_leaderboard(root)
    assert set(os.listdir(root)) <= before
    read_leaderboard(root, write=True)
    assert "leaderboard.csv" in os.listdir(root)


def test_a_sweep_is_found_by_its_name_and_a_missing_one_is_said(root, monkeypatch):
    monkeypatch.chdir(root.parents[1])
    assert len(read_leaderboard("demo")) == len(read_leaderboard("results/demo/")) == 5
    with pytest.raises(UserError, match=r"nosuch or results/nosuch: no sweep's folder"):
        read_leaderboard("nosuch")


def test_read_trials_has_when_they_ran(root):
    frame = read_trials(root)
    assert frame["trial"].tolist() == list(STATES)
    assert frame["number"].tolist() == [0, 1, 2, 3, 4]
    assert str(frame["started_at"].dtype) == "timestamp[us, tz=UTC][pyarrow]"
    assert frame["started_at"][0] == pd.Timestamp("2026-01-01T10:00:00Z")
    assert frame["started_at"][4] is pd.NA
    assert frame["wall_s"].tolist()[:3] == [7200.0, 3600.0, 3600.0]
    assert frame["state"].tolist()[:3] == ["done", "done", "failed"]


def test_read_attempts_has_each_execution(root):
    frame = read_attempts(root)
    assert frame[["trial", "attempt", "outcome"]].values.tolist()[:4] == [
        [DONE, 1, "preempted"],
        [DONE, 2, "committed"],
        [WORSE, 1, "committed"],
        [BROKEN, 1, "failed"],
    ]
    assert frame["cause"][3] == "boom"
    assert frame["gpus"].tolist() == [2] * 5


def test_read_attempts_of_one_that_was_killed_has_its_last_sign_of_life(root):
    """As costs and goodput have it: here the report that the next attempt found."""
    folder = root / "trials" / list(STATES)[-1] / "attempts"
    folder.mkdir(exist_ok=True)
    start = {"node": "n1", "started_at": "2026-01-01T10:00:00Z", "claimed_unix": 1000.0}
    ended = {"outcome": "failed", "wall_s": 5.0, "exit_code": 1}
    later = {**start, **ended, "claimed_unix": 1100.0, "reported_unix": 1040.5}
    for number, record in enumerate((start, later), start=1):
        (folder / f"{number}.json").write_text(json.dumps({"attempt": number, **record}))
    os.utime(folder / "1.json", (1015, 1015))
    frame = read_attempts(root)
    mine = frame[frame["trial"] == list(STATES)[-1]]
    assert mine[["wall_s", "is_estimate"]].values.tolist() == [[40.5, True], [5.0, False]]


def test_read_curves_is_long_and_has_the_newest_value_of_a_step(root):
    frame = read_curves(root, "loss")
    assert frame.values.tolist() == [[DONE, "loss", 0, 2.0], [DONE, "loss", 1, 1.0]]
    assert str(frame["step"].dtype) == "int64[pyarrow]"
    assert read_curves(root, trials=[WORSE]).empty
    assert read_curves(root, ["nosuch"]).columns.tolist() == ["trial", "metric", "step", "value"]
    with pytest.raises(UserError, match="no trial 'x'"):
        read_curves(root, trials=["x"])


def test_a_sweep_without_trials_gives_empty_frames_of_the_same_columns(root):
    for name in STATES:
        shutil.rmtree(root / "trials" / name)
    assert read_leaderboard(root).empty
    assert read_trials(root).empty
    assert read_attempts(root).columns.tolist()[:2] == ["trial", "attempt"]
    assert read_curves(root).empty


def test_readmes_python_runs(root, monkeypatch):
    monkeypatch.chdir(root.parents[1])
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [block for block in blocks if "orchestrator.leaderboard" in block]
    assert {name for name in leaderboard.__all__ if name in block} == set(leaderboard.__all__)
    exec(compile(block, str(Path(README)), "exec"), {})

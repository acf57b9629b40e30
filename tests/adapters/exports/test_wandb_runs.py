"""The runs are read with W&B's own protocol buffers, from the log that `wandb sync` sends."""

import json
import os
import struct
from pathlib import Path

import pytest

from orchestrator.adapters.exports import wandb_runs
from tests.adapters.exports.sweeps import (
    BROKEN,
    DONE,
    RUNS,
    WORSE,
    make_confirmed_source,
    make_source,
)
from tests.waiting import wait_until

pytest.importorskip("wandb")
_HEADER, _BLOCK = 7, 32768


def read_records(path):
    """Read W&B's transaction log: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = Path(path).read_bytes()
    assert data[:4] == b":W&B"
    place, whole, records = _HEADER, b"", []
    while place + 7 <= len(data):
        if _BLOCK - place % _BLOCK < 7:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        place += 7
        whole += data[place : place + length]
        place += length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            records.append(record)
            whole = b""
    return records


def summarize(folder):
    (path,) = Path(folder).glob("run-*.wandb")
    found = {"history": [], "summary": {}, "config": {}, "exit": None, "run": None}
    for record in read_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        elif kind == "history":
            items = {(i.key or ".".join(i.nested_key)): i.value_json for i in record.history.item}
            found["history"].append({k: json.loads(v) for k, v in items.items()})
        elif kind == "summary":
            for item in record.summary.update:
                key = item.key or ".".join(item.nested_key)
                found["summary"][key] = json.loads(item.value_json)
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def services():
    """Return the ids of wandb's service processes that we started."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
            if "wandb" in name and int(rest.split()[1]) == os.getpid():
                found.add(int(status.parent.name))
        except (OSError, ValueError):
            continue
    return found


def test_runs_are_what_wandb_sync_takes_and_twice_is_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")  # somebody's own setting asks no network here
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    source = make_source(str(tmp_path / "demo"))
    written = [wandb_runs.write(source, str(tmp_path / "out")) for _ in range(2)][-1]
    assert os.environ["WANDB_MODE"] == "online"
    assert os.environ["WANDB_API_KEY"] == "x" * 40
    folders = [p for p in Path(written.paths[0]).iterdir() if p.name.startswith("offline-run-")]
    runs = {folder.name.split("-", 3)[3]: summarize(folder) for folder in folders}
    assert set(runs) == {DONE, WORSE, BROKEN, RUNS}
    done = runs[DONE]
    assert (done["run"].run_id, done["run"].project) == (DONE, "demo")
    assert done["config"]["lr"] == 0.1
    assert done["config"]["text"].startswith("=cmd|' /C calc'!A0 <script>")
    assert [(line["_step"], line["loss"]) for line in done["history"]] == [(0, 2.0), (1, 0.25)]
    assert done["summary"]["loss"] == 0.25
    assert done["summary"]["rank"] == 1
    assert done["summary"]["attempts"] == 2
    assert done["summary"]["wall_hours"] == 2
    # It began, and reported, when the trial did, not when it was exported.
    assert done["run"].start_time.ToSeconds() == 1767261600
    assert {line["_timestamp"] for line in done["history"]} == {1767265200}
    assert done["summary"]["a_b__c_d__"] == 1.5
    assert "metrics renamed: 'a<b>|c\\\\d' is 'a_b__c_d__'" in written.notes
    assert [runs[name]["exit"] for name in (DONE, BROKEN)] == [0, 1]
    wait_until(lambda: not services(), timeout_s=120, on_timeout=services)


def test_runs_on_fresh_seeds_are_of_another_job_type(tmp_path):
    source, names = make_confirmed_source(str(tmp_path / "demo"))
    (path,) = wandb_runs.write(source, str(tmp_path / "out")).paths
    found = [summarize(folder) for folder in Path(path).glob("offline-run-*")]
    runs = {each["run"].run_id: each for each in found}
    assert [runs[name]["run"].job_type for name in names] == ["search"] * 4 + ["confirm"] * 2
    first, fresh = runs[names[0]]["summary"], runs[names[4]]["summary"]
    assert (first["rank"], first["loss_mean"], first["confirmed_mean"]) == (1, 0.55, 0.5)
    assert (fresh["loss"], "rank" in fresh) == (0.25, False)


@pytest.mark.parametrize("metric", ["rank", "_timestamp"])
def test_wandb_keeps_a_metric_apart_that_is_called_like_something_else(tmp_path, metric):
    source = make_source(str(tmp_path / "demo"), metric=metric)
    written = wandb_runs.write(source, str(tmp_path / "out"))
    (folder,) = Path(written.paths[0]).glob(f"offline-run-*-{DONE}")
    found = summarize(folder)
    assert found["summary"]["rank"] == 1
    assert found["summary"][f"metric_{metric}"] == 0.25
    assert [each[f"metric_{metric}"] for each in found["history"]] == [2.0, 0.25]
    assert f"{metric!r} is 'metric_{metric}'" in "".join(written.notes)

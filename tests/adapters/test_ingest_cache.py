import hashlib
import json
import os
import shutil

import pytest

from orchestrator.adapters import ingest_cache, trial_dir
from orchestrator.adapters.trial_dir import scan_sweep, scan_trials
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, REFUSED, dump_record
from tests.trial_writer import (
    add_trial,
    claim,
    ended,
    make_sweep,
    write,
    write_result,
)

NAME = "00001-aaaa000001"


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(str(tmp_path / "demo"))


@pytest.fixture
def reads(monkeypatch):
    """Return the list of files read, as they are read."""
    seen = []
    read_file = trial_dir.read_file

    def recorder(path, max_bytes, **options):
        seen.append(path)
        return read_file(path, max_bytes, **options)

    monkeypatch.setattr(trial_dir, "read_file", recorder)
    return seen


def let_rest(sweep):
    """Make everything look an hour old, so that the cache takes it for settled."""
    for folder, _, files in os.walk(sweep.trials, topdown=False):
        for path in [os.path.join(folder, file) for file in files] + [folder]:
            os.utime(path, ns=(0, os.stat(path).st_mtime_ns - 3600 * 10**9))


def trial_reads(reads):
    return [path for path in reads if "/trials/" in path]


def test_scan_sweep_second_time_reads_no_finished_trial(sweep, reads):
    for number in range(1, 4):
        add_trial(sweep, f"{number:05d}-aaaa", {"lr": number}, {"loss": number / 7})
    cold = scan_sweep(sweep)
    assert len(trial_reads(reads)) == 6  # parameters and result; the ends stand in the result
    reads.clear()
    warm = scan_sweep(sweep)
    assert warm == cold
    assert trial_reads(reads) == []


def test_scan_sweep_what_an_attempt_found_and_took_is_remembered(sweep, reads):
    found = {"claimed_unix": 1000.5, "resumes_from": {"mtime": 900.25, "age_s": 100.25}}
    attempts = [ended(NAME, 1, FAILED), ended(NAME, 2, **found, start_up_s=7.5)]
    write_result(add_trial(sweep, NAME, {}), {"loss": 1}, attempts)
    cold = scan_sweep(sweep)
    fields = [(a.claimed_at, a.resumes_from, a.start_up_s) for a in cold.trials[0].attempts]
    assert fields == [(None, None, None), (1000.5, 900.25, 7.5)]
    reads.clear()
    assert (scan_sweep(sweep), trial_reads(reads)) == (cold, [])


ODD_VALUES = {
    "nan": float("nan"), "inf": -float("inf"), "spelled": "nan", "wide": 2**64, "large": 10**400,
    "text": "\u202e\x1b\x00 \ud800 \U0001f642", "nested": {"a": [1, 1.0, True, None, -0.0, 5e-324]},
    "exact": 2**53 + 1, "most": 2**64 - 1,
}  # fmt: skip


def spell(value):
    """Spell values so that NaN is NaN, 1 is neither 1.0 nor True, and keys have no order."""
    if isinstance(value, dict):
        return sorted((key, spell(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(spell, value)]
    return repr(value)


@pytest.mark.parametrize("name", ODD_VALUES)
def test_scan_sweep_odd_values_come_back_as_they_were(sweep, reads, name):
    odd = {"value": ODD_VALUES[name], "loss": 0.1}
    failed = add_trial(sweep, "00001-aaaa", {"lr": 1}, attempts=[ended("00001-aaaa", 1, FAILED)])
    for trial in (failed, add_trial(sweep, "00002-bbbb", odd, {"loss": 0.2})):
        write(trial.metrics, json.dumps(odd).encode() + b"\n")
    write(sweep.trial("00003-cccc").params, json.dumps(odd).encode())
    write_result(sweep.trial("00003-cccc"), odd)
    let_rest(sweep)
    cold = scan_sweep(sweep)
    reads.clear()
    warm = scan_sweep(sweep)
    assert spell(warm.trials) == spell(cold.trials)
    assert trial_reads(reads) == []
    assert repr(cold.trials[0].metrics["value"]) == repr(cold.trials[2].params["value"])


def test_scan_sweep_new_result_is_the_only_one_read(sweep, reads):
    add_trial(sweep, "00001-aaaa", {}, {"loss": 1})
    add_trial(sweep, "00002-bbbb", {})
    scan_sweep(sweep)
    write_result(sweep.trial("00002-bbbb"), {"loss": 2})
    reads.clear()
    assert [trial.metrics for trial in scan_trials(sweep)] == [{"loss": 1}, {"loss": 2}]
    assert {path.split("/")[-2] for path in trial_reads(reads)} == {"00002-bbbb"}
    reads.clear()
    assert [trial.metrics for trial in scan_trials(sweep)] == [{"loss": 1}, {"loss": 2}]
    assert trial_reads(reads) == []


def test_scan_sweep_failed_and_waiting_trials_at_rest_are_not_read_again(sweep, reads):
    add_trial(sweep, "00001-aaaa", {}, attempts=[ended("00001-aaaa", 1, FAILED)])
    add_trial(sweep, "00002-bbbb", {})
    let_rest(sweep)
    cold = scan_sweep(sweep)
    reads.clear()
    assert scan_sweep(sweep) == cold
    assert trial_reads(reads) == []


def test_scan_sweep_new_attempt_of_a_trial_at_rest_is_seen(sweep):
    trial = add_trial(sweep, "00001-aaaa", {}, attempts=[ended("00001-aaaa", 1, FAILED)])
    add_trial(sweep, "00002-bbbb", {})
    let_rest(sweep)
    scan_sweep(sweep)
    write(trial.attempt(2), dump_record(claim("00001-aaaa", 2)))
    write(sweep.trial("00002-bbbb").attempt(1), dump_record(claim("00002-bbbb")))
    assert [len(trial.attempts) for trial in scan_trials(sweep)] == [2, 1]


def test_scan_sweep_running_trial_is_read_every_time(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME)])
    let_rest(sweep)
    scan_sweep(sweep)
    write(trial.metrics, b'{"loss": 1}\n')
    assert scan_trials(sweep)[0].metrics == {"loss": 1}


def test_scan_sweep_fresh_failure_is_not_trusted_to_its_times(sweep, reads):
    add_trial(sweep, NAME, {}, attempts=[ended(NAME, 1, FAILED)])
    scan_sweep(sweep)
    reads.clear()
    scan_sweep(sweep)
    assert trial_reads(reads) != []


def test_scan_sweep_unfinished_rival_of_the_winner_is_read_again(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[ended(NAME, 1), claim(NAME, 2)])
    write_result(trial, {"loss": 1}, [ended(NAME, 1)])
    assert scan_trials(sweep)[0].attempts[1].outcome is None
    write(trial.attempt(2), dump_record(ended(NAME, 2, REFUSED)))
    assert scan_trials(sweep)[0].attempts[1].outcome == REFUSED


def test_scan_sweep_removed_trial_vanishes(sweep):
    add_trial(sweep, "00001-aaaa", {}, {"loss": 1})
    add_trial(sweep, "00002-bbbb", {}, {"loss": 2})
    scan_sweep(sweep)
    shutil.rmtree(sweep.trial("00001-aaaa").root)
    assert [trial.name for trial in scan_trials(sweep)] == ["00002-bbbb"]
    assert list(ingest_cache.load_cache(sweep.cache + "/trials.jsonl").entries) == ["00002-bbbb"]
    with open(sweep.cache + "/trials.jsonl", encoding="ascii") as file:
        assert "00001-aaaa" not in file.read()


def test_scan_sweep_removed_result_is_not_remembered(sweep):
    trial = add_trial(sweep, NAME, {}, {"loss": 1})
    scan_sweep(sweep)
    os.unlink(trial.result)
    assert scan_trials(sweep)[0].is_committed is False


def test_scan_sweep_trial_made_anew_is_not_remembered(sweep):
    add_trial(sweep, NAME, {}, {"loss": 1})
    scan_sweep(sweep)
    shutil.rmtree(sweep.trial(NAME).root)
    add_trial(sweep, NAME, {}, {"loss": 5})
    assert scan_trials(sweep)[0].metrics == {"loss": 5}


@pytest.mark.parametrize("copy", [shutil.copy2, shutil.copy])
def test_scan_sweep_copied_elsewhere_gives_the_same(sweep, tmp_path, copy):
    add_trial(sweep, NAME, {"lr": 1}, {"loss": 1})
    before = scan_trials(sweep)
    copied = SweepPaths(str(tmp_path / "copy"))
    shutil.copytree(sweep.root, copied.root, copy_function=copy)
    shutil.rmtree(sweep.root)
    assert scan_trials(copied) == before


def segment(body, n_strict=None, **fields):
    """Return a segment of the cache with a digest that fits, though a person wrote its lines."""
    header = {
        "format": ingest_cache.CACHE_FORMAT,
        "entries": body.count(b"\n"),
        "bytes": len(body),
        "strict_bytes": len(body) if n_strict is None else n_strict,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return json.dumps(header | fields).encode() + b"\n" + body


def entries(data):
    """Return the lines of a cache of one segment."""
    return data.partition(b"\n")[2]


WRONG_ENTRIES = [
    b"1\n",
    b"{}\n",
    b'["00001-aaaa000001"]\n',
    b'[["x"],null,2]\n',
    b'[1,null,["00001-aaaa000001","1","aaaa000001"]]\n',
    b'[1,null,["00001-aaaa000001",1,"aaaa000001",{},{},true,[[1,2]]]]\n',
    b"[" * 200_000,
]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"\0" * len(data),
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0" * 100,
        lambda data: data + data[: len(data) // 2],
        lambda data: data.replace(b"\n", b" "),
        lambda data: b"[]",
        lambda data: b"[]\n",
        lambda data: b"[" * 200_000,
        # As they were, but for a value: only the digest tells.
        lambda data: data.replace(b'{"lr":1}', b'{"lr":3}'),
        lambda data: data.replace(b'{"lr":1}', b"[1, 2]"),
        lambda data: data.replace(b'"2026-01-01T10:00:00Z"', b'{"a": 1}'),
        # Another format, though all in it could be read.
        lambda data: segment(entries(data).replace(b'{"lr":1}', b'{"lr":3}'), format=3),
        lambda data: segment(entries(data).replace(b'{"lr":1}', b'{"lr":3}'), format=5),
        # A header of somebody else's.
        lambda data: segment(entries(data), sha256=None),
        lambda data: segment(entries(data), bytes="all"),
        lambda data: segment(entries(data), strict_bytes="all"),
        lambda data: segment(entries(data), n_strict=5),
        *(lambda data, body=body: segment(body) for body in WRONG_ENTRIES),
        *(lambda data, body=body: segment(body, n_strict=0) for body in WRONG_ENTRIES),
    ],
)
def test_scan_sweep_corrupt_cache_is_ignored_and_replaced(sweep, damage):
    add_trial(sweep, NAME, {"lr": 1}, {"loss": 1})
    add_trial(sweep, "00002-bbbb", {"lr": 2}, {"loss": 2})
    expected = scan_sweep(sweep)
    path = sweep.cache + "/trials.jsonl"
    with open(path, "rb") as file:
        good = file.read()
    write(path, damaged := damage(good))
    assert damaged != good
    assert scan_sweep(sweep) == expected
    with open(path, "rb") as file:
        assert file.read() == good


@pytest.mark.timeout(200)
def test_scan_sweep_pipe_for_a_cache_is_replaced(sweep):
    add_trial(sweep, NAME, {}, {"loss": 1})
    os.mkdir(sweep.cache)
    os.mkfifo(sweep.cache + "/trials.jsonl")
    assert scan_sweep(sweep) == scan_sweep(sweep)
    assert os.path.isfile(sweep.cache + "/trials.jsonl")


def test_scan_sweep_full_disk_does_without_cache(sweep, monkeypatch):
    add_trial(sweep, NAME, {}, {"loss": 1})

    def refuse(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ingest_cache.durable, "replace", refuse)
    assert [trial.metrics for trial in scan_trials(sweep)] == [{"loss": 1}]


def test_scan_sweep_stamp_changes_with_the_trials_and_only_then(sweep):
    add_trial(sweep, "00001-aaaa", {}, {"loss": 1})
    first = scan_sweep(sweep).stamp
    assert first is not None
    assert scan_sweep(sweep).stamp == first
    add_trial(sweep, "00002-aaaa", {}, {"loss": 1})
    assert scan_sweep(sweep).stamp not in (first, None)
    shutil.rmtree(sweep.trial("00002-aaaa").root)
    assert scan_sweep(sweep).stamp == first


def test_scan_sweep_stamp_is_none_while_a_trial_runs(sweep):
    add_trial(sweep, "00001-aaaa", {}, {"loss": 1})
    trial = add_trial(sweep, NAME, {}, attempts=[ended(NAME, 1, FAILED)])
    let_rest(sweep)
    assert scan_sweep(sweep).stamp is not None
    write(trial.attempt(2), dump_record(claim(NAME, 2)))
    assert [scan_sweep(sweep).stamp for _ in range(2)] == [None, None]


def cache_lines(sweep):
    with open(sweep.cache + "/trials.jsonl", encoding="ascii") as file:
        return file.read().split("\n")


def test_scan_sweep_new_results_are_appended_and_the_rest_left_as_it_is(sweep):
    for number in range(1, 6):
        add_trial(sweep, f"{number:05d}-aaaa", {"lr": number}, {"loss": number / 7})
    scan_sweep(sweep)
    before = cache_lines(sweep)
    add_trial(sweep, "00006-aaaa", {"lr": 6}, {"loss": 6 / 7})
    cold = scan_sweep(sweep)
    after = cache_lines(sweep)
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) == len(before) + 2  # a header and an entry
    assert scan_sweep(sweep) == cold
    assert cache_lines(sweep) == after


def test_scan_sweep_many_segments_become_one(sweep, monkeypatch):
    monkeypatch.setattr(ingest_cache, "MAX_SEGMENTS", 3)
    lengths = []
    for number in range(1, 6):
        add_trial(sweep, f"{number:05d}-aaaa", {"lr": number}, {"loss": number / 7})
        scan_sweep(sweep)
        lengths.append(sum('"format"' in line for line in cache_lines(sweep)))
    assert lengths == [1, 2, 3, 1, 2]
    assert [trial.metrics["loss"] for trial in scan_trials(sweep)] == [n / 7 for n in range(1, 6)]


def test_scan_sweep_segment_cut_short_loses_only_itself(sweep, reads):
    add_trial(sweep, "00001-aaaa", {}, {"loss": 1})
    scan_sweep(sweep)
    add_trial(sweep, "00002-aaaa", {}, {"loss": 2})
    cold = scan_sweep(sweep)
    path = sweep.cache + "/trials.jsonl"
    os.truncate(path, os.path.getsize(path) - 7)  # the disk was full
    reads.clear()
    assert scan_sweep(sweep).trials == cold.trials
    assert {path.split("/")[-2] for path in trial_reads(reads)} == {"00002-aaaa"}
    reads.clear()
    assert scan_sweep(sweep).trials == cold.trials
    assert trial_reads(reads) == []


def test_scan_sweep_waiting_trial_costs_one_stat(sweep, monkeypatch):
    add_trial(sweep, "00001-aaaa", {})
    let_rest(sweep)
    cold = scan_sweep(sweep)
    monkeypatch.setattr(os, "lstat", None)
    assert scan_sweep(sweep) == cold

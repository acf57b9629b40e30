import os
import shutil
import socket
from datetime import UTC, datetime

import pytest

from orchestrator.adapters import trial_dir
from orchestrator.adapters.trial_dir import (
    list_trials,
    read_trial,
    scan_sweep,
    scan_trials,
    tail_log,
)
from orchestrator.contract.errors import CorruptRecord, OrchestratorError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, PREEMPTED, REFUSED, SUPERSEDED
from orchestrator.domain.trial_files import Attempt, TrialFiles
from tests.trial_writer import (
    RESOURCES,
    add_trial,
    claim,
    ended,
    make_sweep,
    write,
    write_result,
)

NAME = "00001-aaaa000001"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
# Deep enough for RecursionError in every parser.
NESTED = b'{"metrics": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(str(tmp_path / "demo"))


# --- listing ---


def test_list_trials_many_returns_them_in_number_order(sweep):
    for name in ("00010-aaaa", "00002-bbbb", "100000-cccc", "00002-aaaa"):
        os.mkdir(sweep.trial(name).root)
    assert list_trials(sweep) == ["00002-aaaa", "00002-bbbb", "00010-aaaa", "100000-cccc"]


def test_list_trials_before_the_first_returns_nothing(sweep):
    os.rmdir(sweep.trials)
    assert list_trials(sweep) == []


def test_list_trials_without_sweep_raises(tmp_path):
    with pytest.raises(UserError, match="there is no such sweep"):
        list_trials(SweepPaths(str(tmp_path / "none")))


def test_list_trials_file_instead_of_folder_raises(sweep):
    os.rmdir(sweep.trials)
    write(sweep.trials, b"")
    with pytest.raises(OrchestratorError, match="cannot be read: Not a directory"):
        list_trials(sweep)


def test_scan_sweep_foreign_entries_names_them_and_passes_temporary_ones_over(sweep):
    add_trial(sweep, NAME, {"lr": 1})
    os.mkdir(sweep.trials + "/notes")
    os.mkdir(sweep.trials + "/.snapshot")
    os.mkdir(sweep.trials + "/00002-bbbb.tmp")
    write(sweep.trials + "/00003-cccc", b"")
    os.symlink(sweep.trial(NAME).root, sweep.trials + "/00004-dddd")
    scan = scan_sweep(sweep)
    assert [trial.name for trial in scan.trials] == [NAME]
    assert scan.problems == [
        "trials/00003-cccc: a file; passed over",
        "trials/00004-dddd: a symbolic link; passed over",
        "trials/notes: not a trial's directory name; passed over",
    ]


def test_scan_sweep_empty_returns_nothing(sweep):
    scan = scan_sweep(sweep)
    assert (scan.trials, scan.problems) == ([], [])


# --- one trial ---


def test_read_trial_failed_attempt_has_kind_fingerprint_signal_and_progress(sweep):
    fields = {
        "kind": "cuda_oom",
        "fingerprint": "0123456789ab",
        "signal": "SIGTERM",
        "progress_before": [12, 1, 1767261600000000000],
    }
    trial = add_trial(sweep, NAME, {}, attempts=[ended(NAME, outcome=FAILED, **fields)])
    attempt = read_trial(trial).attempts[0]
    assert {key: getattr(attempt, key) for key in fields} == fields


@pytest.mark.parametrize("value", ["3", [1, "x"], [2**70, 0, 0], [0] * 99, {"a": 1}, [True]])
def test_read_trial_progress_of_another_shape_is_named(sweep, value):
    trial = add_trial(
        sweep, NAME, {}, attempts=[ended(NAME, outcome=FAILED, progress_before=value)]
    )
    files = read_trial(trial)
    assert files.attempts[0].progress_before is None
    assert files.problems == ("attempts/1.json: cannot use progress_before",)


def test_read_trial_committed_returns_everything(sweep):
    trial = add_trial(sweep, NAME, {"lr": 1e-5, "id": "007"}, {"loss": 0.5, "diverged": "nan"})
    assert read_trial(trial) == TrialFiles(
        name=NAME,
        number=1,
        id="aaaa000001",
        params={"lr": 1e-5, "id": "007"},
        result={
            "trial": NAME,
            "attempt": 1,
            "committed_at": "2026-01-01T11:00:00.000Z",
            "metrics": {"loss": 0.5, "diverged": "nan"},
            "n_reports": 1,
            "last_step": 9,
            "problems": [],
        },
        is_committed=True,
        attempts=(
            Attempt(
                number=1,
                node="node1",
                started_at=datetime(2026, 1, 1, 10, tzinfo=UTC),
                ended_at=datetime(2026, 1, 1, 11, tzinfo=UTC),
                wall_s=3600.0,
                outcome="committed",
                exit_code=0,
                cause=None,
                requeue=None,
                token="demo-1",
                array_task_id=3,
                job_id="77",
                resources=RESOURCES,
                heartbeat_at=None,
                is_estimate=False,
            ),
        ),
        metrics={"loss": 0.5, "diverged": "nan"},
        last_step=9,
        problems=(),
    )


def test_read_trial_new_has_parameters_only(sweep):
    trial = add_trial(sweep, NAME, {"lr": 1})
    assert read_trial(trial) == TrialFiles(NAME, 1, "aaaa000001", params={"lr": 1})


def test_read_trial_running_has_heartbeat_and_live_metrics(sweep):
    trial = add_trial(sweep, NAME, {"lr": 1}, attempts=[claim(NAME)])
    os.utime(trial.attempt(1), (NOON, NOON))
    write(trial.metrics, b'{"step": 1, "loss": 3}\n{"step": 2, "loss": 2.5}\n{"step": 3, "lo')
    files = read_trial(trial)
    assert (files.metrics, files.last_step, files.problems) == ({"loss": 2.5}, 2, ())
    assert (files.is_committed, files.result) == (False, None)
    assert (files.attempts[0].heartbeat_at, files.attempts[0].outcome) == (NOON, None)


def test_read_trial_long_curve_reads_its_end(sweep, monkeypatch):
    monkeypatch.setattr(trial_dir, "LIVE_METRICS_BYTES", 1000)
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME)])
    write(trial.metrics, b"".join(b'{"step": %d}\n' % step for step in range(10_000)))
    files = read_trial(trial)
    assert (files.last_step, files.problems) == (9999, ())


def test_read_trial_unusable_metrics_line_is_named_and_the_rest_used(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME)])
    write(trial.metrics, b'{"loss": 1}\n\0\0\0\n{"loss": 2, "loss": 3}\n{"acc": 4}\n')
    files = read_trial(trial)
    assert files.metrics == {"loss": 1, "acc": 4}
    assert [problem.partition(":")[0] for problem in files.problems] == ["metrics.jsonl"] * 2


def test_read_trial_killed_attempt_then_committed_takes_the_length_from_the_result(sweep):
    killed = {**claim(NAME, 1), "wall_s": 120.0, "outcome": None, "estimated": True}
    killed["cause"] = "killed without a word"
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME, 1), ended(NAME, 2)])
    write_result(trial, {"loss": 1}, [killed, ended(NAME, 2)])
    first, second = read_trial(trial).attempts
    assert (first.wall_s, first.is_estimate, first.outcome) == (120.0, True, None)
    assert (second.wall_s, second.is_estimate, second.outcome) == (3600.0, False, "committed")


def test_read_trial_attempts_beside_the_winner_are_counted(sweep):
    late = ended(NAME, 3, REFUSED)
    overtaken = ended(NAME, 1, SUPERSEDED, wall_s=50.0)
    killed = {**claim(NAME, 1), "outcome": None, "estimated": True, "wall_s": 40.0}
    trial = add_trial(sweep, NAME, {}, attempts=[overtaken, ended(NAME, 2), late])
    write_result(trial, {"loss": 1}, [killed, ended(NAME, 2)])
    outcomes = [(a.number, a.outcome, a.wall_s) for a in read_trial(trial).attempts]
    assert outcomes == [(1, SUPERSEDED, 50.0), (2, "committed", 3600.0), (3, REFUSED, 3600.0)]


def test_read_trial_committed_before_its_end_is_written_has_the_end(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME)])
    write_result(trial, {"loss": 1}, [ended(NAME)])
    assert read_trial(trial).attempts[0].outcome == "committed"


def test_read_trial_without_attempt_records_takes_them_from_the_result(sweep):
    trial = add_trial(sweep, NAME, {}, {"loss": 1})
    shutil.rmtree(trial.attempts)
    assert [a.wall_s for a in read_trial(trial).attempts] == [3600.0]


def test_read_trial_odd_attempt_fields_are_named(sweep):
    odd = claim(
        NAME, wall_s="long", started_at="yesterday", ended_at="2026-01-01T10:00:00",
        node=["n"], exit_code=True, resources=[], array_task_id=10**400, outcome=FAILED, job_id=77,
        claimed_unix="nan", resumes_from=[1], start_up_s=-1,
    )  # fmt: skip
    files = read_trial(add_trial(sweep, NAME, {}, attempts=[odd]))
    assert files.attempts == (Attempt(1, outcome=FAILED, token="demo-1", job_id="77"),)
    assert files.problems == (
        "attempts/1.json: cannot use resources, node, started_at, ended_at, wall_s, exit_code, "
        "array_task_id, claimed_unix, resumes_from, start_up_s",
    )


def test_read_trial_unreadable_attempt_still_counts(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME)])
    write(trial.attempt(1), b"")
    os.utime(trial.attempt(1), (NOON, NOON))
    files = read_trial(trial)
    assert files.attempts == (Attempt(1, heartbeat_at=NOON),)
    assert files.problems == ("attempts/1.json: empty",)


def test_read_trial_leftovers_in_attempts_are_ignored_and_strangers_named(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[ended(NAME)])
    for name in (".1.json.node.12.tmp", "2.json.tmp", "01.json", "x.json"):
        write(f"{trial.attempts}/{name}", b"")
    files = read_trial(trial)
    assert [attempt.number for attempt in files.attempts] == [1]
    assert sorted(files.problems) == [
        "attempts/01.json: not an attempt's record; passed over",
        "attempts/x.json: not an attempt's record; passed over",
    ]


def test_read_trial_endless_attempts_reads_the_last(sweep, monkeypatch):
    monkeypatch.setattr(trial_dir, "MAX_ATTEMPTS", 3)
    trial = add_trial(sweep, NAME, {}, attempts=[ended(NAME, n, PREEMPTED) for n in range(1, 6)])
    files = read_trial(trial)
    assert [attempt.number for attempt in files.attempts] == [3, 4, 5]
    assert files.problems == ("attempts: 5 of them; only the last 3 are read",)


def test_read_trial_of_another_name_raises(sweep):
    with pytest.raises(UserError, match="is not a trial's name"):
        read_trial(sweep.trial("../x"))


def test_read_trial_result_of_another_trial_is_refused(sweep):
    trial = add_trial(sweep, NAME, {})
    other = add_trial(sweep, "00002-bbbb", {}, {"loss": 1})
    shutil.copy(other.result, trial.result)
    files = read_trial(trial)
    assert (files.result, files.is_committed) == (None, True)
    assert files.problems == ("result.json: of another trial, '00002-bbbb'",)


# --- hostile files: each is named, none is waited for, and the neighbour is unhurt ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 4096, "empty"),
        (b'{"trial": "00001-aaaa0', "Unterminated string"),
        (b"[1, 2]", "a list, not an object"),
        (b"NaN", "a float, not an object"),
        (b'{"metrics": {"loss": 1, "loss": 2}}', "key 'loss' stands twice"),
        (b'{"metrics": {"loss": ' + b"7" * 5000 + b"}}", "Exceeds the limit"),
        (NESTED, "nested too deeply"),
        (b'{"metrics": "\xff\xfe"}', "utf-8"),
        (b'{"metrics": 3}', "metrics is not an object"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value.replace(" ", "-"),
)
def test_scan_sweep_corrupt_result_is_named_and_the_others_used(sweep, data, reason):
    trial = add_trial(sweep, NAME, {"lr": 1})
    other = add_trial(sweep, "00002-bbbb", {"lr": 2}, {"loss": 1})
    write(trial.result, data)
    for _ in range(2):  # the second time from the cache, where it got there
        first, second = scan_trials(sweep)
        assert first.is_committed
        assert first.metrics == {}
        (problem,) = first.problems
        assert problem.startswith("result.json: ")
        assert reason in problem
        assert second == read_trial(other)
        assert second.problems == ()


def test_scan_sweep_byte_order_mark_is_read_over(sweep):
    trial = add_trial(sweep, NAME, {"lr": 1})
    write(trial.params, b'\xef\xbb\xbf{"lr": 1}')
    assert scan_trials(sweep)[0] == TrialFiles(NAME, 1, "aaaa000001", params={"lr": 1})


def test_scan_sweep_non_finite_and_huge_numbers_survive_the_cache(sweep):
    trial = add_trial(sweep, NAME, {"n": 2**70}, {})
    write(trial.result, b'{"metrics": {"a": 1e400, "b": -Infinity, "c": true, "d": "\\ud800"}}')
    cold, warm = scan_trials(sweep)[0], scan_trials(sweep)[0]
    expected = {"a": float("inf"), "b": float("-inf"), "c": True, "d": "\ud800"}
    assert cold.metrics == warm.metrics == expected
    assert cold.params == warm.params == {"n": 2**70}


def make_pipe(path):
    os.mkfifo(path)


def make_folder(path):
    os.mkdir(path)


def make_link(path):
    write(path + ".target", b'{"metrics": {"loss": -1}}')
    os.symlink(path + ".target", path)


def make_loop(path):
    os.symlink(path, path)


def make_socket(path):
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.basename(path))
    finally:
        os.chdir(here)


def make_huge(path):
    with open(path, "wb") as file:
        file.truncate(2**30)


def make_device(path):
    os.symlink("/dev/zero", path)


@pytest.mark.parametrize("file", ["params.json", "result.json", "attempts/1.json"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_pipe, "a pipe, not a file"),
        (make_folder, "a directory, not a file"),
        (make_link, "a symbolic link; not followed"),
        (make_loop, "a symbolic link; not followed"),
        (make_device, "a symbolic link; not followed"),
        (make_socket, "a socket or pipe, not a file"),
        (make_huge, "1073741824 bytes, more than 16777216 allowed"),
    ],
)
@pytest.mark.timeout(200)
def test_read_trial_no_file_is_named_and_not_waited_for(sweep, file, make, reason):
    trial = add_trial(sweep, NAME, {"lr": 1}, attempts=[claim(NAME)])
    path = f"{trial.root}/{file}"
    if os.path.exists(path):
        os.unlink(path)
    make(path)
    problems = [p for p in read_trial(trial).problems if ".target" not in p]
    assert problems == [f"{file}: {reason}"]


@pytest.mark.timeout(200)
def test_read_trial_pipe_for_metrics_and_log_is_not_waited_for(sweep):
    trial = add_trial(sweep, NAME, {}, attempts=[claim(NAME)])
    os.mkfifo(trial.metrics)
    os.mkfifo(trial.log)
    assert read_trial(trial).problems == ("metrics.jsonl: a pipe, not a file",)
    with pytest.raises(CorruptRecord, match="log: a pipe, not a file"):
        tail_log(trial, 5)


def test_read_trial_folder_that_is_none_is_named(sweep):
    trial = add_trial(sweep, NAME, {})
    write(trial.attempts, b"")
    assert read_trial(trial).problems == ("attempts: cannot be read: Not a directory",)


def test_read_trial_without_parameters_says_so(sweep):
    trial = add_trial(sweep, NAME, {}, {"loss": 1})
    os.unlink(trial.params)
    files = read_trial(trial)
    assert (files.params, files.metrics) == (None, {"loss": 1})
    assert files.problems == ("params.json: there is no such file",)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_read_trial_unreadable_result_is_committed_and_named(sweep):
    trial = add_trial(sweep, NAME, {}, {"loss": 1})
    os.chmod(trial.result, 0)
    files = read_trial(trial)
    assert (files.is_committed, files.result) == (True, None)
    assert files.problems == ("result.json: cannot be read: Permission denied",)


# --- the log ---


def test_tail_log_without_log_returns_nothing(sweep):
    assert tail_log(add_trial(sweep, NAME, {}), 5) == []


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_tail_log_empty_returns_nothing(sweep, data):
    trial = add_trial(sweep, NAME, {})
    write(trial.log, data)
    assert tail_log(trial, 5) == []


def test_tail_log_returns_the_last_lines_without_control_characters(sweep):
    trial = add_trial(sweep, NAME, {})
    write(
        trial.log,
        b"first\n"
        b"\x1b[31mred\x1b[0m \x1b]0;title\x07text\xc2\x9b2Jx\n"
        b"10%\r 50%\r100%\r\n"
        b"a\tb\x00c\x08\xff\n"
        b"\x1b]52;c;unfinished\n"
        b"\xe2\x80\xaereversed\n",
    )
    assert tail_log(trial, 5) == ["red textx", "100%", "a\tbc\ufffd", "", "reversed"]


def test_tail_log_long_reads_whole_lines_of_its_end(sweep):
    trial = add_trial(sweep, NAME, {})
    write(trial.log, b"".join(b"line %05d\n" % number for number in range(100_000)))
    lines = tail_log(trial, 10**6, max_bytes=115)
    assert lines == [f"line {number}" for number in range(99_990, 100_000)]


def test_tail_log_one_endless_line_returns_its_end(sweep):
    trial = add_trial(sweep, NAME, {})
    write(trial.log, b"x" * 10**6)
    assert tail_log(trial, 3, max_bytes=10) == ["x" * 10]

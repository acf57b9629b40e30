"""A file server that loses replies, shows files late, answers errors, or has lost the folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.cli.main import run
from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.states import TrialState
from orchestrator.runtime import durable
from orchestrator.runtime.claim import take_claim
from orchestrator.runtime.commit import CommitFailed, commit_result, commit_when_possible
from orchestrator.runtime.heartbeat import Times
from orchestrator.usecases.collect import collect
from orchestrator.usecases.observe import observe
from tests.faults.prompt import finish, make_trial, record, start_attempt
from tests.trial_writer import add_trial, ended, make_sweep
from tests.waiting import wait_until

GOOD, BAD = "00001-aaaa", "00002-bbbb"
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SERVER_ERRORS = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT]


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    made = make_sweep(str(tmp_path / "demo"))
    add_trial(made, GOOD, {"lr": 1}, {"loss": 0.5})
    add_trial(made, BAD, {"lr": 2}, {"loss": 0.25})
    return made


# --- D11: errors while reading and writing ---


@pytest.mark.parametrize("number", [*SERVER_ERRORS, errno.EACCES])
@pytest.mark.parametrize("where", ["open", "read", "listdir", "stat"])
def test_d11_error_on_one_trial_does_not_stop_the_collect(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    """One bad object server, one bad trial: the others are ranked, and it is not forgotten."""
    bad_fds: set[int] = set()
    real_open, real_read, real_listdir = os.open, os.read, os.listdir
    real_scandir = os.scandir

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        is_bad = BAD in str(path)
        if is_bad and where == "open":
            raise fail(number)
        fd = real_open(path, *args, **kwargs)
        (bad_fds.add if is_bad else bad_fds.discard)(fd)
        return fd

    def read(fd: int, size: int) -> bytes:
        if where == "read" and fd in bad_fds:
            raise fail(number)
        return real_read(fd, size)

    def listdir(path: Any = ".") -> list[str]:
        if where == "listdir" and BAD in str(path):
            raise fail(number)
        return real_listdir(path)

    class Entry:
        def __init__(self, entry: os.DirEntry[str]):
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            if BAD in self.name:
                raise fail(number)
            return self._entry.stat(follow_symlinks=follow_symlinks)

        def is_file(self, *, follow_symlinks: bool = True) -> bool:
            return self._entry.is_file(follow_symlinks=follow_symlinks)

    class Scan:
        def __init__(self, path: str):
            self._entries = real_scandir(path)

        def __enter__(self) -> Any:
            return map(Entry, self._entries)

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "listdir", listdir)
    if where == "stat":
        monkeypatch.setattr(os, "scandir", Scan)
    found = collect(sweep, {}, {}, NOW)
    rows = found.rows.set_index("trial")
    assert list(rows.index.sort_values()) == [GOOD, BAD]
    assert not pd.isna(rows.loc[GOOD, "rank"])
    if where in ("open", "read"):
        assert any(BAD in problem for problem in found.problems)
        assert observe(sweep).states[BAD] is TrialState.DONE, "unreadable is not absent"
    monkeypatch.undo()
    assert collect(sweep, {}, {}, NOW).rows.set_index("trial").loc[BAD, "rank"] == 1


@pytest.mark.parametrize("number", SERVER_ERRORS)
def test_d11_server_away_while_writing_is_named_and_exits_3(
    sweep: SweepPaths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    os.chmod(sweep.root, 0o700)

    def away(path: str, data: bytes) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(durable, "replace", away)
    monkeypatch.chdir(os.path.dirname(sweep.root))
    (Path(sweep.root).parent / "x.yaml").write_text(
        "name: demo\nprogram: /bin/true\nparameters: {a: [1]}\nmetric: {name: x, goal: minimize}\n"
    )
    code = run(["submit", "x.yaml", "--cluster", "local", "--results", "."])
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 3
    assert os.strerror(number) in error
    assert error.endswith("the file server may be away; try again later")


@pytest.mark.parametrize("number", SERVER_ERRORS)
def test_d11_commit_waits_for_a_server_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Metrics that cannot be read now are not a trial without metrics."""
    trial = make_trial(tmp_path)
    (trial / "metrics.jsonl").write_text('{"loss": 1}\n')
    claim = take_claim(TrialPaths(str(trial)), {}, {}, Times(), print)
    real = os.open
    n_failures = 3
    said: list[str] = []

    def open_(path: Any, *args: Any, **kwargs: Any) -> int:
        nonlocal n_failures
        if str(path).endswith("metrics.jsonl") and n_failures:
            n_failures -= 1
            raise fail(number)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_)
    end = claim.ended(records.COMMITTED)
    assert commit_when_possible(claim, end, lambda wait_s: True, said.append) is True
    assert json.loads((trial / "result.json").read_text())["metrics"] == {"loss": 1}
    assert len(said) == 1, "the same reason is said once"


def test_d11_commit_gives_up_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = make_trial(tmp_path)
    claim = take_claim(TrialPaths(str(trial)), {}, {}, Times(), print)

    def away(source: str, target: str) -> None:
        raise fail(errno.EIO)

    monkeypatch.setattr(os, "link", away)
    end = claim.ended(records.COMMITTED)
    with pytest.raises(CommitFailed, match="Input/output error"):
        commit_when_possible(claim, end, lambda wait_s: False, lambda line: None)
    assert not (trial / "result.json").exists()


# --- D12: files that are there and do not show yet ---


def test_d12_committed_trial_whose_result_does_not_show_yet_is_unknown(sweep: SweepPaths) -> None:
    os.unlink(sweep.trial(BAD).result)
    now = datetime.now(UTC).isoformat()
    path = Path(sweep.trial(BAD).attempt(1))
    path.write_text(json.dumps(ended(BAD, ended_at=now)))
    observation = observe(sweep)
    assert observation.states[BAD] is TrialState.UNKNOWN
    assert observation.reasons[BAD] == "committed; its result is not visible here yet"


def test_d12_result_that_never_shows_again_was_removed(sweep: SweepPaths) -> None:
    os.unlink(sweep.trial(BAD).result)
    assert observe(sweep).states[BAD] is TrialState.LOST, "the deadline is over: it runs again"


def test_d12_claim_that_a_stale_listing_hides_is_not_taken_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make_trial(tmp_path)
    paths = TrialPaths(str(trial))
    take_claim(paths, {}, {}, Times(), print).write_end({"outcome": records.PREEMPTED})
    real = os.listdir
    n_stale = 2

    def listdir(path: Any = ".") -> list[str]:
        nonlocal n_stale
        if str(path) == paths.attempts and n_stale:
            n_stale -= 1
            return []
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert take_claim(paths, {}, {}, Times(), print).number == 2
    assert record(trial, 1) == {"outcome": records.PREEMPTED}


def test_d12_result_that_does_not_show_is_not_overwritten(tmp_path: Path) -> None:
    """The look before the program runs may be stale; the link at the end is not."""
    trial = make_trial(tmp_path)
    script = 'echo "{}" > $TRIAL_DIR/result.json'
    code, output = finish(start_attempt(trial, "bash", "-c", script))
    assert (code, (trial / "result.json").read_text()) == (0, "{}\n")
    assert "this result is not counted" in output


# --- D13: replies that were lost ---


def lose_reply(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    real: Callable[..., Any] = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise fail(number)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOENT])
def test_d13_link_that_was_done_is_ours_whatever_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lose_reply(monkeypatch, "link", number)
    assert durable.publish(str(tmp_path / "a"), b"x") is True
    assert os.listdir(tmp_path) == ["a"]


def test_d13_link_whose_link_count_is_stale_is_known_by_its_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_reply(monkeypatch, "link", errno.EEXIST)
    real = os.lstat

    def lstat(path: Any) -> os.stat_result:
        fields = list(real(path))
        fields[3] = 1  # st_nlink
        return os.stat_result(fields)

    monkeypatch.setattr(os, "lstat", lstat)
    assert durable.publish(str(tmp_path / "a"), b"x") is True


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOENT])
def test_d13_link_of_another_writer_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a").write_bytes(b"theirs")

    def refuse(source: str, target: str) -> None:
        raise fail(number)

    monkeypatch.setattr(os, "link", refuse)
    if number == errno.EEXIST:
        assert durable.publish(str(tmp_path / "a"), b"x") is False
    else:
        with pytest.raises(FileNotFoundError):
            durable.publish(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").read_bytes() == b"theirs"


def test_d13_rename_that_was_done_and_answers_enoent_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    lose_reply(monkeypatch, "rename", errno.ENOENT)
    durable.replace(str(tmp_path / "a"), b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_d13_rename_that_was_not_done_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def refuse(source: str, target: str) -> None:
        raise fail(errno.ENOENT)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(FileNotFoundError) as caught:
        durable.replace(str(tmp_path / "a"), b"new")
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO])
def test_d13_unlink_with_a_lost_reply_does_not_undo_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    trial = make_trial(tmp_path)
    claim = take_claim(TrialPaths(str(trial)), {}, {}, Times(), print)
    lose_reply(monkeypatch, "unlink", number)
    assert commit_result(claim, claim.ended(records.COMMITTED)) is True
    assert json.loads((trial / "result.json").read_text())["attempt"] == 1


# --- D16: the folder goes away under a running attempt ---


@pytest.mark.parametrize("how", ["moved", "deleted"])
@pytest.mark.parametrize("script", ["exit 0", "exit 3", "exit 75", "sleep 60"])
def test_d16_sweep_gone_during_an_attempt_creates_nothing_elsewhere(
    tmp_path: Path, script: str, how: str
) -> None:
    trial = make_trial(tmp_path / "sweep")
    waiting = f"touch {tmp_path}/on; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; {script}"
    beat = "0.2" if script.startswith("sleep") else "30"
    beats = {"ORCHESTRATOR_HEARTBEAT_S": beat, "ORCHESTRATOR_FIRST_BEAT_S": beat}
    process = start_attempt(trial, "bash", "-c", waiting, **beats)
    wait_until((tmp_path / "on").exists, on_timeout=process.poll)
    os.rename(tmp_path / "sweep", tmp_path / "moved")
    (tmp_path / "go").touch()
    if how == "deleted":
        shutil.rmtree(tmp_path / "moved")
    code, output = finish(process)
    assert code == (73 if script == "exit 0" else 1)
    assert "Traceback" not in output
    assert "is gone: the sweep was moved or removed" in output
    left = {"moved", "on", "go"} if how == "moved" else {"on", "go"}
    assert set(os.listdir(tmp_path)) == left


def test_d16_sweep_gone_before_the_claim_is_not_made_anew(tmp_path: Path) -> None:
    paths = TrialPaths(str(tmp_path / "sweep/trials" / GOOD))
    with pytest.raises(FileNotFoundError):
        take_claim(paths, {}, {}, Times(), print)
    assert os.listdir(tmp_path) == []


def test_d16_sweep_gone_before_the_start_says_so(tmp_path: Path) -> None:
    code, output = finish(start_attempt(tmp_path / "none", "true"))
    assert code == 2
    assert "was the sweep moved or removed?" in output
    assert os.listdir(tmp_path) == []

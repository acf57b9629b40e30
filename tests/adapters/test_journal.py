"""The journal: folding, and cut lines."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from orchestrator.adapters import journal
from orchestrator.contract.paths import SweepPaths
from orchestrator.runtime import job


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    return SweepPaths(str(tmp_path))


def write_entries(sweep: SweepPaths, *entries: dict[str, object]) -> None:
    with journal.lock(sweep) as writer:
        for entry in entries:
            writer.write(str(entry.pop("kind")), **entry)


INTENT = {"kind": "intent", "token": "t1", "executor": "slurm", "trials": ["00000-a", "00001-b"]}


def test_read_journal_absent_is_empty(sweep: SweepPaths) -> None:
    assert journal.read_journal(sweep) == journal.JournalState()


def test_read_journal_folds_intent_and_receipt(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT), {"kind": "submitted", "token": "t1", "job_id": "77"})
    state = journal.read_journal(sweep)
    submission = state.submissions["t1"]
    assert (submission.job_id, submission.is_settled, state.problems) == ("77", True, [])
    assert state.last_submission_of() == {
        "00000-a": (submission, 0),
        "00001-b": (submission, 1),
    }


def test_read_journal_intent_alone_is_not_settled(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT))
    assert not journal.read_journal(sweep).submissions["t1"].is_settled


@pytest.mark.parametrize("kind", ["refused", "abandoned"])
def test_read_journal_dead_submission_frees_its_trials(sweep: SweepPaths, kind: str) -> None:
    write_entries(sweep, dict(INTENT), {"kind": kind, "token": "t1", "reason": "no"})
    state = journal.read_journal(sweep)
    assert state.submissions["t1"].is_settled
    assert state.last_submission_of() == {}


def test_read_journal_newest_submission_of_a_trial_counts(sweep: SweepPaths) -> None:
    again = {**INTENT, "token": "t2", "trials": ["00001-b"]}
    write_entries(sweep, dict(INTENT), again)
    newest = journal.read_journal(sweep).last_submission_of()
    assert {trial: (s.token, i) for trial, (s, i) in newest.items()} == {
        "00000-a": ("t1", 0),
        "00001-b": ("t2", 0),
    }


def test_writer_after_a_cut_line_loses_only_that_line(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT))
    with open(sweep.journal, "ab") as file:
        file.write(b'{"at": "2026-11-21T00:00:00Z", "kind": "subm')
    write_entries(sweep, {"kind": "submitted", "token": "t1", "job_id": "77"})
    state = journal.read_journal(sweep)
    assert state.submissions["t1"].job_id == "77"
    assert [problem.partition(":")[0] for problem in state.problems] == ["journal line 2"]


def test_read_journal_unknown_kind_is_passed_over(sweep: SweepPaths) -> None:
    """A newer version may write more; what we know still counts."""
    write_entries(sweep, {"kind": "something-new", "x": 1}, dict(INTENT))
    assert list(journal.read_journal(sweep).submissions) == ["t1"]


def test_writer_knows_how_long_the_journal_was_quiet(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT))
    then = time.time() - 500
    os.utime(sweep.journal, (then, then))
    with journal.lock(sweep) as writer:
        assert 499 < writer.quiet_s() < 560
        assert abs(writer.server_now_s() - time.time()) < 60
        writer.write("abandoned", token="t1", reason="no job")
        assert writer.quiet_s() > 499, "our own entries do not count"


def test_writer_file_servers_clock_set_back_is_quiet_for_no_time(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT))
    then = time.time() + 5000
    os.utime(sweep.journal, (then, then))
    with journal.lock(sweep) as writer:
        assert writer.quiet_s() < 60


def test_intent_names_its_writer(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT))
    by = journal.read_journal(sweep).submissions["t1"].by
    assert (by["pid"], job.is_alive_here(by)) == (os.getpid(), True)


def test_journal_of_an_earlier_version_has_no_writers_name(sweep: SweepPaths) -> None:
    write_entries(sweep, dict(INTENT))
    entry = json.loads(Path(sweep.journal).read_text())
    del entry["by"]
    Path(sweep.journal).write_text(json.dumps(entry) + "\n")
    assert journal.read_journal(sweep).submissions["t1"].by == {}


def test_write_full_disk_raises_and_leaves_a_line_that_is_passed_over(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    room = [20]

    def cut(fd: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[: room.pop()])

    with journal.lock(sweep) as writer:
        monkeypatch.setattr(os, "write", cut)
        with pytest.raises(OSError, match="No space left on device") as caught:
            writer.write("submitted", token="t1", job_id="77")
        assert caught.value.filename == sweep.journal
    monkeypatch.undo()
    write_entries(sweep, dict(INTENT))
    assert list(journal.read_journal(sweep).submissions) == ["t1"]


def test_read_journal_folds_decisions(sweep: SweepPaths) -> None:
    name = "00000-aaaa"
    with journal.lock(sweep) as writer:
        writer.write("intent", token="t1", executor="slurm", trials=[name])
        writer.write("submitted", token="t1", job_id="7")
        changes = {"micro_batch_divisor": 2}
        writer.write_all(
            [
                ("retried", _decision(name, "t1", cause="CUDA out of memory", changes=changes)),
                ("intent", {"token": "t2", "executor": "slurm", "trials": [name]}),
            ]
        )
        writer.write("released", **_decision(name, "t2"))
        writer.write("released", **_decision(name, "t2"))
        writer.write("stopped", **_decision(name, "t2"))
        writer.write("cancelled", token="t2", trial=name)
        writer.write("excluded", node="n7", reason="black hole")
        writer.write("paused", reason="all alike", arrays=["7"])
        writer.write("gave_up", **_decision(name, "t2"))
    state = journal.read_journal(sweep)
    assert state.problems == []
    assert state.changes == {name: changes}
    assert [submission.token for submission in state.submissions_of(name)] == ["t1", "t2"]
    assert state.n_releases == {("t2", name): 2}
    assert state.stopped == state.cancelled == {("t2", name)}
    assert state.excluded == {"n7": "black hole"}
    assert state.paused == ("all alike", ("7",))
    assert state.gave_up == {name: (1, "t2", "why")}
    with journal.lock(sweep) as writer:
        writer.write("resumed", arrays=["7"])
        writer.write("retried", **_decision(name, "t2", cause="asked for", changes={}))
    after = journal.read_journal(sweep)
    assert (after.paused, after.gave_up) == (None, {})
    assert (after.forgiven, after.forgiven_starts) == ({name: 1}, {name: 2})


def _decision(name: str, token: str, **fields: object) -> dict[str, object]:
    return {"trial": name, "attempt": 1, "token": token, "reason": "why", **fields}

"""Looking at a sweep again and again: what is asked, what is read, and what is shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.adapters import journal, trial_dir
from orchestrator.adapters.watch_screen import tell_left, tell_usage
from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import dump_record
from orchestrator.contract.states import TrialState
from orchestrator.domain.best_so_far import Best
from orchestrator.domain.cause import Cause
from orchestrator.domain.fresh_trials import Confirmation, FreshTrial, as_record
from orchestrator.domain.trial_files import TrialFiles
from orchestrator.domain.trials import trial_id
from orchestrator.domain.watch_view import RunningTrial
from orchestrator.runtime import gate
from orchestrator.usecases import recollection
from orchestrator.usecases.recollection import Recollection
from orchestrator.usecases.watch import Watcher
from tests.adapters.fake_slurm import FakeSlurm
from tests.domain import sites
from tests.trial_writer import RESOURCES, add_trial, claim, ended, make_sweep, write, write_result

SUPERVISOR = """
import sys
from orchestrator.adapters import sweep_lock
with sweep_lock.hold(sweep_lock.Supervision(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
TOKEN = "s-0123456789"
NAMES = [f"{number:05d}-aaaa" for number in range(6)]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin", sites.CONFIG, sites.PARTITIONS)
    monkeypatch.setenv("PATH", fake.path)
    return fake


@pytest.fixture
def sweep(tmp_path: Path, slurm: FakeSlurm) -> SweepPaths:
    """Six trials of one array: done, failed, two running, preempted, waiting."""
    sweep = make_sweep(str(tmp_path / "s"), parameters=("lr", "model.depth"))
    os.chmod(sweep.root, 0o700)
    end = {"token": TOKEN}
    params = [{"lr": n / 10, "model": {"depth": n}} for n in range(6)]
    add_trial(sweep, NAMES[0], params[0], {"loss": 0.5}, [ended(NAMES[0], **end)])
    failure = {"kind": "error", "fingerprint": "f" * 12, "cause": "exit code 1: no", **end}
    failed = ended(NAMES[1], 1, records.FAILED, **failure)
    add_trial(sweep, NAMES[1], params[1], attempts=[failed])
    for number in (2, 3):
        running = add_trial(
            sweep, NAMES[number], params[number], attempts=[claim(NAMES[number], **end)]
        )
        lines = '{"step": 7, "loss": 3.5, "total_steps": 9}\n' if number == 2 else ""
        Path(running.metrics).write_text(lines)
    told = {"cause": "stopped by SIGTERM; checkpointed", "requeue": "by slurm"}
    stopped = ended(NAMES[4], 1, records.PREEMPTED, **told, **end)
    add_trial(sweep, NAMES[4], params[4], attempts=[stopped])
    add_trial(sweep, NAMES[5], params[5])
    with journal.lock(sweep) as writer:
        writer.write("intent", token=TOKEN, executor="slurm", cluster="c", trials=NAMES)
        writer.write("submitted", token=TOKEN, job_id="7")
    answer_squeue(slurm)
    return sweep


def answer_squeue(slurm: FakeSlurm, *more: str) -> None:
    states = ["RUNNING", "RUNNING", "PENDING", "PENDING"]
    lines = [f"7|{n}|{TOKEN}|{state}||None" for n, state in enumerate(states, 2)]
    slurm.answer("squeue", "cat <<'END'\n" + "\n".join([*lines, *more]) + "\nEND")


def calls(slurm: FakeSlurm) -> list[str]:
    return [call.partition(" ")[0] for call in slurm.calls()]


def test_view_has_what_is_known(sweep: SweepPaths) -> None:
    view = Watcher(sweep).look()
    assert view.counts == {
        TrialState.PENDING: 1,
        TrialState.RUNNING: 2,
        TrialState.REQUEUED: 1,
        TrialState.DONE: 1,
        TrialState.FAILED: 1,
    }
    age_s = view.running[0].age_s
    assert age_s is not None
    assert view.running[0] == RunningTrial(
        name=NAMES[2],
        attempt=1,
        node="node1",
        age_s=age_s,
        step=7,
        n_steps=9,
        metric="loss",
        value=3.5,
        note="",
        params={"lr": 0.2, "model.depth": 2},
    )
    assert (view.running[1].step, view.running[1].value) == (None, None)
    assert view.best == Best(NAMES[0], 0.5, {"lr": 0.0, "model": {"depth": 0}})
    assert view.best_params == {"lr": 0.0, "model.depth": 0}
    assert [(f.cause, f.n_failed) for f in view.failures] == [("error", 1)]
    assert view.interruptions[Cause.PREEMPTED] == 1
    assert view.usage.gpu_hours > 3 * RESOURCES["gpus"]  # type: ignore[operator]
    assert view.supervisor == "nobody supervises it: make supervise"
    assert (view.is_over, view.trouble, view.notices) == (False, "", ())


def test_cost_so_far_does_not_fall_when_slurm_notices_a_dead_node(
    sweep: SweepPaths, slurm: FakeSlurm
) -> None:
    started_s = 1767261600.0
    for name in NAMES[2:4]:  # they run; the last heartbeat came half an hour after the start
        path = sweep.trial(name).attempt(1)
        os.utime(path, (started_s + 1800, started_s + 1800))
    watcher = Watcher(sweep, clock=lambda: started_s + 2100)
    before = watcher.look()
    assert before.counts[TrialState.RUNNING] == 2
    lines = [f"7|{n}|{TOKEN}|PENDING||BeginTime" for n in range(2, 6)]  # requeued elsewhere
    slurm.answer("squeue", "cat <<'END'\n" + "\n".join(lines) + "\nEND")
    after = watcher.look()
    assert TrialState.RUNNING not in after.counts
    gpus = RESOURCES["gpus"]
    assert before.usage.gpu_hours == after.usage.gpu_hours == 4 * gpus  # type: ignore[operator]
    assert before.usage.is_estimate
    assert after.usage.is_estimate
    assert tell_usage(before.usage).startswith("at least ")


def test_look_asks_slurm_once_whatever_the_number_of_trials(
    sweep: SweepPaths, slurm: FakeSlurm
) -> None:
    watcher = Watcher(sweep)
    for n in range(1, 6):
        watcher.look()
        assert calls(slurm) == ["squeue"] * n


def test_accounting_is_asked_seldom(
    sweep: SweepPaths, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.answer("squeue", f"echo '7|2|{TOKEN}|RUNNING||None'")  # the others left without a word
    watcher = Watcher(sweep)
    watcher.look()
    view = watcher.look()
    assert calls(slurm) == ["squeue", "sacct", "squeue"]
    assert "2 interrupted or lost: make submit or make supervise takes them up again" in (
        view.notices
    )
    monkeypatch.setattr(recollection, "HISTORY_S", 0.0)
    watcher.look()
    assert calls(slurm)[3:] == ["squeue", "sacct"]


def test_states_of_the_last_answer_are_shown_with_their_age_while_slurm_is_silent(
    sweep: SweepPaths, slurm: FakeSlurm
) -> None:
    now_s = [time.time()]
    watcher = Watcher(sweep, lambda: now_s[0])
    before = watcher.look()
    slurm.answer("squeue", "echo 'Socket timed out' >&2; exit 1")
    now_s[0] += 42
    view = watcher.look()
    assert view.counts == before.counts
    assert (view.trouble, round(view.stale_s or 0)) == ("squeue: Socket timed out", 42)
    # What files prove is known all the same.
    write(sweep.trial(NAMES[5]).result, dump_record({"trial": NAMES[5], "metrics": {"loss": 0.1}}))
    assert watcher.look().counts[TrialState.DONE] == 2
    answer_squeue(slurm)
    assert watcher.look().stale_s is None


def test_slurm_that_never_answered_leaves_states_unknown(
    sweep: SweepPaths, slurm: FakeSlurm
) -> None:
    slurm.answer("squeue", "exit 1")
    view = Watcher(sweep).look()
    assert view.counts[TrialState.UNKNOWN] >= 2
    assert (view.stale_s, view.is_over) == (None, False)


def test_runs_on_fresh_seeds_do_not_choose_the_best(sweep: SweepPaths) -> None:
    params = {"lr": 0.9, "seed": 10_000}
    name = f"00006-{trial_id(params)}"
    add_trial(sweep, name, params, {"loss": 0.1})
    watcher = Watcher(sweep)
    assert watcher.look().best == Best(name, 0.1, params)
    asked = FreshTrial(NAMES[0], 10_000, params)
    record = as_record(Confirmation(seeds=(10_000,), top=1, trials=(asked,)))
    write(sweep.confirmation, dump_record(record))
    best = watcher.look().best
    assert best is not None
    assert best.trial == NAMES[0]
    # Rather none than one that was chosen by the runs that are to confirm it.
    write(sweep.confirmation, b"{}")
    view = watcher.look()
    assert view.best is None
    assert any("confirmation.json" in notice for notice in view.notices)


def test_closed_gate_is_told_and_no_time_is_estimated(sweep: SweepPaths) -> None:
    watcher = Watcher(sweep)
    assert watcher.look().left_s is not None
    gate.close(sweep.root, gate.CANARY, "3 trials failed alike", NAMES[1], {})
    view = watcher.look()
    assert view.notices == ("the gate is closed: 3 trials failed alike; make release opens it",)
    assert view.left_s is None


def test_what_slurm_will_not_start_is_told(sweep: SweepPaths, slurm: FakeSlurm) -> None:
    answer_squeue(slurm, f"7|5|{TOKEN}|PENDING||PartitionDown")
    assert Watcher(sweep).look().notices == (
        "Slurm will not start 1 that waits: the partition is down",
    )


def test_trials_at_rest_are_not_read_again(
    sweep: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        for folder in (sweep.trial(name).attempts, sweep.trial(name).root):
            if os.path.isdir(folder):
                os.utime(folder, (1e9, 1e9))
    known = Recollection()
    known.scan(sweep)
    read: list[str] = []
    read_trial = trial_dir.read_trial

    def noted(paths: TrialPaths) -> TrialFiles:
        read.append(paths.name)
        return read_trial(paths)

    monkeypatch.setattr(recollection, "read_trial", noted)
    known.scan(sweep)
    assert read == [NAMES[2], NAMES[3]], "those that run"
    read.clear()
    write(sweep.trial(NAMES[5]).attempt(1), dump_record(claim(NAMES[5])))
    os.unlink(sweep.trial(NAMES[0]).result)
    trials = known.scan(sweep).trials
    assert read == [NAMES[0], NAMES[2], NAMES[3], NAMES[5]]
    assert (trials[0].is_committed, len(trials[5].attempts)) == (False, 1)


def test_new_trials_and_journal_entries_are_seen(sweep: SweepPaths, slurm: FakeSlurm) -> None:
    watcher = Watcher(sweep)
    assert watcher.look().n_trials == 6
    name = "00006-bbbb"
    add_trial(sweep, name, {"lr": 1})
    with journal.lock(sweep) as writer:
        writer.write("intent", token="t2", executor="slurm", cluster="c", trials=[name])
        writer.write("submitted", token="t2", job_id="8")
    answer_squeue(slurm, "8|0|t2|PENDING||None")
    view = watcher.look()
    assert (view.n_trials, view.counts[TrialState.PENDING]) == (7, 2)


def test_supervisor_is_named(sweep: SweepPaths) -> None:
    argv = [sys.executable, "-c", SUPERVISOR, sweep.root]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        told = Watcher(sweep).look().supervisor
        holder.stdin.close()
        assert holder.wait(timeout=120) == 0
    assert told.startswith(f"supervised by process {holder.pid} on ")
    assert Watcher(sweep).look().supervisor == "nobody supervises it: make supervise"


def end_all_but_one_that_was_killed(sweep: SweepPaths, slurm: FakeSlurm) -> None:
    answer_squeue(slurm)
    for name in NAMES[2:]:
        shutil.rmtree(sweep.trial(name).attempts, ignore_errors=True)
        write_result(sweep.trial(name), {"loss": 1.0})
    killed = ended(NAMES[1], 1, records.FAILED, kind="killed", exit_code=-9, token=TOKEN)
    write(sweep.trial(NAMES[1]).attempt(1), dump_record(killed))


def test_sweep_is_not_over_while_its_supervisor_may_submit_what_failed_again(
    sweep: SweepPaths, slurm: FakeSlurm
) -> None:
    end_all_but_one_that_was_killed(sweep, slurm)
    watcher = Watcher(sweep)
    argv = [sys.executable, "-c", SUPERVISOR, sweep.root]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **pipes) as holder:  # type: ignore[call-overload]
        assert holder.stdout.readline() == "held\n"
        view = watcher.look()
        assert (view.n_under_way, view.n_open, view.is_over) == (0, 1, False)
        assert tell_left(view) == "1 that failed may go again"
        with journal.lock(sweep) as writer:
            writer.write(
                "gave_up", trial=NAMES[1], attempt=1, token=TOKEN, cause="error", reason=""
            )
        view = watcher.look()
        assert (view.n_open, view.is_over) == (0, True)
        holder.stdin.close()
        assert holder.wait(timeout=120) == 0


def test_sweep_whose_failed_trials_nobody_submits_again_is_over(
    sweep: SweepPaths, slurm: FakeSlurm
) -> None:
    end_all_but_one_that_was_killed(sweep, slurm)
    assert Watcher(sweep).look().is_over


def test_sweep_whose_trials_have_all_ended_is_over(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "s"))
    add_trial(sweep, NAMES[0], {"lr": 1}, {"loss": 1.0})
    failed = ended(NAMES[1], 1, records.FAILED, kind="error")
    add_trial(sweep, NAMES[1], {"lr": 2}, attempts=[failed])
    view = Watcher(sweep).look()
    assert (view.is_over, view.left_s, view.n_failed) == (True, 0.0, 1)

"""Section A of the fault catalogue on a real Slurm that is away, full, or says no (A8 to A18).

What a real cluster cannot be made to do at will (lose an answer, print a banner) a wrapper of
sbatch does, first on the user's PATH. A thousand random kills stand in tests/faults.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import USER
from tests.cluster.submitting import HELD, ONE_STEP, arrays, kill_at, kinds, submit
from tests.cluster.user import User, count_sbatch_calls, journal, spec

pytestmark = pytest.mark.cluster

ENFORCED = ("AccountingStorageEnforce=associations,limits",)


def test_a08_request_that_waited_at_the_controllers_door_is_adopted(user: User) -> None:
    """Frozen, the controller neither takes nor refuses; thawed, it takes what lies there."""
    user.env |= {"ORCHESTRATOR_SUBMIT_TIMEOUT_S": "12", "ORCHESTRATOR_SETTLE_S": "30"}
    calls = count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        f'while [ ! -e {user.folder}/frozen ]; do sleep 0.1; done\nexec REAL "$@"',
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        away = pool.submit(submit, user)
        user.cluster.wait_until(lambda: calls() == 1, 30)
        user.cluster.freeze("slurmctld")
        user.write("frozen", "")
        done = away.result()
    user.cluster.thaw("slurmctld")
    assert done.returncode == 3, done
    assert kinds(user) == ["intent"]
    report = user.submit()
    assert len(arrays(user)) == 1
    assert (calls(), report["submitted"], kinds(user)) == (1, 0, ["intent", "adopted"])
    user.await_states({"done": 2})


def test_a09_slurmdbd_away_submits_runs_and_gives_nothing_up(user: User) -> None:
    user.cluster.kill("slurmdbd")
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    kill_at(user, "sbatch.after:1")
    assert user.submit()["submitted"] == 0
    assert kinds(user) == ["intent", "adopted"]
    user.await_states({"done": 2})


@pytest.mark.cluster_options(accounting=False)
def test_a10_no_accounting_submits_recovers_and_ranks(user: User) -> None:
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    kill_at(user, "sbatch.before:1")
    kill_at(user, "sbatch.after:1")
    assert user.submit()["submitted"] == 0
    assert kinds(user) == ["intent", "abandoned", "intent", "adopted"]
    user.await_states({"done": 2})
    assert [row["rank"] for row in user.board()] == ["1", "1"]


def sacctmgr(user: User, *words: str) -> None:
    subprocess.run(
        ["sacctmgr", "-i", *words],
        env={**os.environ, **user.cluster.env()},
        check=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.cluster_options(extra=ENFORCED)
def test_a12_a14_limit_on_queued_jobs_takes_what_fits_and_the_rest_later(user: User) -> None:
    sacctmgr(user, "modify", "user", USER, "set", "MaxSubmitJobs=3")
    try:
        user.write("sweep.yaml", spec("  a: {min: 1, max: 8, step: 1}", resources=HELD))
        full = submit(user)
        assert full.returncode == 3
        assert "AssocMaxSubmitJobLimit" in full.stderr
        assert "submit again when some have ended" in full.stderr
        assert "3 of 8 trials were taken" in full.stderr
        assert user.states() == {"new": 5, "pending": 3}
        assert submit(user).returncode == 3
        assert user.states() == {"new": 5, "pending": 3}
    finally:
        sacctmgr(user, "modify", "user", USER, "set", "MaxSubmitJobs=-1")
    assert user.submit()["submitted"] == 5
    assert user.states() == {"pending": 8}, "no trial failed, none is there twice"
    names = [job.name for job in user.cluster.squeue()]
    assert len(names) == 8


@pytest.mark.cluster_options(extra=ENFORCED)
def test_a15_wrong_account_marks_no_trial_as_submitted(user: User) -> None:
    resources = {"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 10}
    user.write("sweep.yaml", spec("  a: [1]", resources={**resources, "sbatch": {"account": "x"}}))
    done = submit(user)
    assert done.returncode == 2
    assert "Invalid account" in done.stderr
    assert (user.states(), kinds(user), arrays(user)) == ({"new": 1}, ["intent", "refused"], [])


def test_a15_option_with_a_typo_marks_no_trial_as_submitted(user: User) -> None:
    resources = {"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 10, "sbatch": {"tiem": "3"}}
    user.write("sweep.yaml", spec("  a: [1]", resources=resources))
    done = submit(user)
    assert done.returncode == 2
    assert "tiem" in done.stderr
    assert user.cluster.squeue() == []
    assert user.states() == {"new": 1}


def test_a16_request_that_can_never_run_is_put_in_words(user: User) -> None:
    def set_limit(max_time: str) -> None:
        subprocess.run(
            ["scontrol", "update", "PartitionName=spot", f"MaxTime={max_time}"],
            env={**os.environ, **user.cluster.env()},
            check=True,
            timeout=60,
        )

    set_limit("1")
    try:
        user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
        assert user.submit()["submitted"] == 2
        words = (
            "waiting, and Slurm will not start them as things are:\n"
            "2 pending: the time it asks for is over the partition's limit "
            "(Slurm says PartitionTimeLimit)\n"
        )
        user.cluster.wait_until(lambda: words in user.type("status").stdout, 30, user.explain)
    finally:
        set_limit("INFINITE")
    user.await_states({"done": 2})


def test_a17_full_disk_submits_nothing_that_the_journal_does_not_hold(user: User) -> None:
    calls = count_sbatch_calls(user)
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    # So many that the intent takes several pages: it has to be what does not fit, some time.
    user.write("sweep.yaml", spec("  a: {min: 1, max: 800, step: 1}", resources=HELD))
    disk = user.folder / "results"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0755", "sweeps", str(disk)], check=True
    )
    try:
        shutil.chown(disk, USER, USER)
        kill_at(user, "array.mkdir.before:1")  # the trials' files are there
        failures = fill_and_submit(user, disk, calls)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert any("journal.jsonl" in failure for failure in failures), failures


def fill_and_submit(user: User, disk: Path, calls: Any) -> list[str]:
    """Leave a page more each time, until a submission fits; returns what the others said."""
    failures = []
    ballast = disk / "ballast"
    for n_free in range(3, 40):
        ballast.write_bytes(b"")
        status = os.statvfs(disk)
        ballast.write_bytes(b"x" * (status.f_bsize * max(0, status.f_bfree - n_free)))
        done = submit(user)
        if done.returncode == 0:
            names = {job.name for job in user.cluster.squeue()}
            assert (calls(), len(user.cluster.squeue()), len(names)) == (1, 800, 1)
            ballast.unlink()
            assert user.submit()["submitted"] == 0
            return failures
        assert "No space left on device" in done.stderr, done
        assert (calls(), user.cluster.squeue()) == (0, []), "sbatch was called without an intent"
        failures.append(done.stderr)
    pytest.fail(f"no submission fits: {failures[-1]}")


def test_a18_edited_sweep_keeps_old_trials_and_submits_new_ones(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2, 3]", env=ONE_STEP))
    user.submit()
    user.await_states({"done": 3})
    results = [(trial / "result.json").read_bytes() for trial in user.trials()]
    user.write("sweep.yaml", spec("  a: [3, 4]", env=ONE_STEP))
    done = submit(user)
    assert done.returncode == 0
    assert "beside them: 2 trials of earlier versions of the spec" in done.stdout
    assert "submitted: 1" in done.stdout
    user.await_states({"done": 4})
    assert [(trial / "result.json").read_bytes() for trial in user.trials()[:3]] == results


def test_a08_controller_away_gives_nothing_up(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "250"}))
    user.submit()
    user.cluster.wait_until(
        lambda: all((trial / "done").exists() for trial in user.trials()), 30, user.explain
    )
    # Frozen, not killed: killed before it saved the jobs it forgets them, which is another story.
    user.cluster.freeze("slurmctld")
    status = user.type("status", "--json")
    submit = user.type("submit", "sweep.yaml", "--cluster", "slurm")
    user.cluster.thaw("slurmctld")
    counts = json.loads(status.stdout)["counts"]
    assert (status.returncode, submit.returncode) == (3, 3)
    assert "lost" not in counts
    assert "Socket timed out" in submit.stderr
    user.await_states({"done": 2})


def test_a11_two_submits_at_once_submit_each_trial_once(user: User) -> None:
    user.write("sweep.yaml", spec("  a: {min: 1, max: 40, step: 1}", env={"STEPS": "1"}))
    script = f"{' '.join(user.installation.orchestrator)} submit sweep.yaml --cluster slurm"
    user.write("both.sh", f"#!/bin/bash\n{script} & {script}\nfirst=$?\nwait $!\necho $first $?\n")
    done = user.cluster.run_as_user(["./both.sh"], cwd=user.folder, timeout_s=240)
    assert sorted(done.stdout.split()[-2:]) in (["0", "0"], ["0", "3"]), done
    intents = [entry for entry in journal(user) if entry["kind"] == "intent"]
    trials = [name for entry in intents for name in entry["trials"]]
    assert len(trials) == len(set(trials)) == 40
    user.await_states({"done": 40})


@pytest.mark.cluster_options(max_array_size=5)
def test_a12_arrays_respect_the_largest_index(user: User) -> None:
    calls = count_sbatch_calls(user)
    user.write(
        "sweep.yaml",
        spec("  a: {min: 1, max: 12, step: 1}", env={"STEPS": "1"}, max_concurrent=6),
    )
    report = user.submit()
    assert [array["array"] for array in report["arrays"]] == ["0-4%3", "0-4%2", "0-1%1"]
    assert calls() == 3
    user.await_states({"done": 12})


@pytest.mark.cluster_options(max_array_size=5)
def test_a13_failure_after_three_of_seven_arrays_leaves_the_other_four(user: User) -> None:
    calls = count_sbatch_calls(
        user,
        'if [ "$(wc -l < calls)" = 4 ]; then\n'
        "  echo 'sbatch: error: Invalid qos specification' >&2; exit 1\n"
        'fi\nexec REAL "$@"',
    )
    user.write("sweep.yaml", spec("  a: {min: 1, max: 35, step: 1}", resources=HELD))
    refused = submit(user)
    assert (refused.returncode, refused.stderr) == (
        2,
        "orchestrator: sbatch: Invalid qos specification; before that 15 of 35 trials were taken: "
        "submit again for the rest\n",
    )
    again = user.submit()
    assert (again["submitted"], len(again["arrays"]), calls()) == (20, 4, 3 + 1 + 4)
    assert user.states() == {"pending": 35}
    assert len(user.cluster.squeue()) == 35


@pytest.mark.cluster_options(max_array_size=5)
def test_a12_array_over_the_limit_goes_in_halves(user: User) -> None:
    count_sbatch_calls(
        user,
        'if [ "$(wc -l < calls)" = 2 ]; then\n'
        "  echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1\n"
        'fi\nexec REAL "$@"',
    )
    text = spec("  a: {min: 1, max: 12, step: 1}", resources=HELD, max_concurrent=12)
    user.write("sweep.yaml", text)
    report = user.submit()
    assert [array["array"] for array in report["arrays"]] == ["0-4%5", "0-1%2", "0-2%3", "0-1%2"]
    names = [
        name for entry in journal(user) if entry["kind"] == "intent" for name in entry["trials"]
    ]
    assert len(names) == 12 + 5, "the refused five were submitted again, no other"


def test_a15_refused_submission_keeps_trials_free(user: User) -> None:
    user.write(
        "sweep.yaml",
        spec("  a: [1]", env={"STEPS": "1"}, resources={"sbatch": {"account": "no\\such"}}),
    )
    calls = count_sbatch_calls(user, "echo 'sbatch: error: Invalid account' >&2; exit 1")
    done = user.type("submit", "sweep.yaml", "--cluster", "slurm")
    assert (done.returncode, calls()) == (2, 1)
    assert done.stderr == "orchestrator: sbatch: Invalid account\n"
    assert [entry["kind"] for entry in journal(user)] == ["intent", "refused"]
    assert user.states() == {"new": 1}


def test_a15_unknown_partition_submits_nothing(user: User) -> None:
    calls = count_sbatch_calls(user)
    user.write("sweep.yaml", spec("  a: [1]", partition="spto"))
    done = user.type("submit", "sweep.yaml")
    assert (done.returncode, calls()) == (2, 0)
    assert re.fullmatch(
        r"orchestrator: sweep\.yaml:3: partition: unknown partition 'spto'; did you mean spot\? "
        r".*/partitions\.yaml has: spot, ondemand, cpu\n",
        done.stderr,
    )
    assert not (user.folder / "results").exists()


def test_a18_sweep_widened_submits_only_the_new_combinations(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "1"}))
    user.submit()
    user.write("sweep.yaml", spec("  a: [1, 2, 3]", env={"STEPS": "1"}))
    report = user.submit()
    assert report["submitted"] == 1
    user.await_states({"done": 3})
    assert [trial.name[:6] for trial in user.trials()] == ["00000-", "00001-", "00002-"]

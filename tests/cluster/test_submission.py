"""Section A of the fault catalogue on a real Slurm: submission cut short (A1 to A7).

What a real cluster cannot be made to do at will (lose an answer, print a banner) a wrapper of
sbatch does, first on the user's PATH. A thousand random kills stand in tests/faults.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.cluster.submitting import HELD, KILLED, ONE_STEP, arrays, kill_at, kinds, submit
from tests.cluster.user import User, count_sbatch_calls, journal, spec

pytestmark = pytest.mark.cluster


# Of a first submission the journal's writes are the code, the intent and the receipt.
@pytest.mark.parametrize("point", ["journal.write.half:2", "journal.fsync.after:2"])
def test_a01_submitter_killed_before_sbatch_submits_once(user: User, point: str) -> None:
    calls = count_sbatch_calls(user)
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    kill_at(user, point)
    assert (calls(), user.submit()["submitted"], calls()) == (0, 2, 1)
    user.await_states({"done": 2})


def test_a01_waiting_for_a_lost_request_is_explained_once(user: User) -> None:
    user.env["ORCHESTRATOR_SETTLE_S"] = "5"
    user.write("sweep.yaml", spec("  a: [1]", env=ONE_STEP))
    kill_at(user, "sbatch.before:1")
    done = submit(user)
    assert done.returncode == 0
    assert re.fullmatch(
        r"orchestrator: an earlier submit was cut short; looking whether Slurm took array "
        r"sweep-\w{10}: Slurm may still take the request; up to [3-5] s\n",
        done.stderr,
    )
    assert kinds(user) == ["intent", "abandoned", "intent", "submitted"]


@pytest.mark.parametrize("point", ["sbatch.after:1", "journal.write.before:3"])
def test_a02_submitter_killed_before_the_receipt_adopts(user: User, point: str) -> None:
    calls = count_sbatch_calls(user)
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    kill_at(user, point)
    assert (user.submit()["submitted"], calls()) == (0, 1)
    assert [entry["kind"] for entry in journal(user)] == ["intent", "adopted"]
    user.await_states({"done": 2})


def test_a04_sbatch_times_out_before_slurm_took_the_job_is_submitted_again(user: User) -> None:
    calls = count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        'if [ "$(wc -l < calls)" = 1 ]; then\n'
        "  echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv "
        "operation' >&2; exit 1\n"
        'fi\nexec REAL "$@"',
    )
    user.env["ORCHESTRATOR_SETTLE_S"] = "3"
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    lost = submit(user)
    assert lost.returncode == 3
    assert "no job of this name exists: submit again\n" in lost.stderr
    assert (user.states(), kinds(user)) == ({"new": 2}, ["intent", "abandoned"])
    assert (user.submit()["submitted"], calls()) == (2, 2)
    user.await_states({"done": 2})


@pytest.mark.cluster_options(max_job_count=3)
def test_a05_own_timeout_ends_an_sbatch_that_waits_for_room(user: User) -> None:
    user.cluster.restart()  # ended jobs count too, for MinJobAge
    user.env |= {"ORCHESTRATOR_SETTLE_S": "2", "ORCHESTRATOR_SUBMIT_TIMEOUT_S": "4"}
    blocker = user.cluster.run_as_user(
        ["sbatch", "--parsable", "--hold", "--array=0-1", "-p", "spot", "--wrap", "true"],
        cwd=user.folder,
        check=True,
    ).stdout.strip()
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    full = submit(user)
    assert full.returncode == 3, full
    assert "sbatch gave no answer in 4 s; no job of this name exists: submit again" in full.stderr
    assert (user.states(), kinds(user)) == ({"new": 2}, ["intent", "abandoned"])
    user.cluster.run_as_user(["scancel", blocker], cwd=user.folder, check=True)
    assert arrays(user) == []


def clients(user: User) -> list[str]:
    """Processes that submit something of this user's folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--parsable" in words and str(user.folder).encode() in b" ".join(words):
            found.append(" ".join(word.decode() for word in words))
    return found


@pytest.mark.cluster_options(max_job_count=3)
def test_a05_sbatch_that_waits_for_room_dies_with_its_submitter(user: User) -> None:
    user.cluster.restart()  # ended jobs count too, for MinJobAge
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    user.cluster.run_as_user(
        ["sbatch", "--hold", "--array=0-1", "-p", "spot", "--wrap", "true"],
        cwd=user.folder,
        check=True,
    )
    count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        'submitter=$(ps -o ppid= -p "$PPID")\n'
        f'(while [ ! -e {user.folder}/go ]; do sleep 0.1; done; kill -KILL "$submitter") '
        "> /dev/null 2>&1 &\n"
        'exec REAL "$@"',
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        killed = pool.submit(submit, user)
        user.cluster.wait_until(lambda: len(clients(user)) >= 2, 30, lambda: clients(user))
        user.write("go", "")
        assert killed.result().returncode in KILLED
    user.cluster.wait_until(lambda: not clients(user), 20, lambda: clients(user))
    assert kinds(user) == ["intent"]


@pytest.mark.parametrize(
    "answer",
    ["Thank you for using this cluster.", "Submitted batch job 4711 on cluster X", "12 34", ""],
)
def test_a06_answer_without_an_id_is_resolved_by_token(user: User, answer: str) -> None:
    calls = count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        f"REAL \"$@\" > /dev/null\necho '{answer}'",
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    report = user.submit()
    assert (report["submitted"], calls(), kinds(user)) == (2, 1, ["intent", "adopted"])
    assert [report["arrays"][0]["job_id"]] == arrays(user)


def test_a06_answer_among_banners_is_read(user: User) -> None:
    count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        "echo '*** maintenance on day 21 ***'\necho '4711 jobs are queued'\n"
        'id=$(REAL "$@") || exit\necho "$id;cluster"\necho \'Good luck.\'',
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env=ONE_STEP))
    report = user.submit()
    assert kinds(user) == ["intent", "submitted"]
    assert [report["arrays"][0]["job_id"]] == arrays(user)


def sbatch_as_root(user: User, name: str) -> str:
    """Another user's job."""
    done = subprocess.run(
        ["sbatch", "--parsable", "--hold", "-p", "cpu", f"--job-name={name}", "--wrap", "true"],
        env={**os.environ, **user.cluster.env()},
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def cancel_as_root(user: User, *job_ids: str) -> None:
    subprocess.run(
        ["scancel", *job_ids], env={**os.environ, **user.cluster.env()}, check=True, timeout=60
    )


def test_a07_job_that_slurm_forgot_is_submitted_again_and_its_ids_new_owner_left_alone(
    user: User,
) -> None:
    # slurmctld saves its jobs at most every five seconds: the first job's save puts ours off.
    calls = count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        'REAL --hold -p cpu --wrap true > /dev/null\nsleep 0.3\nREAL "$@"\ntouch taken',
    )
    user.write("sweep.yaml", spec("  a: [1]", resources=HELD))
    for turn in range(1, 16):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(user.submit, "--retry-failed")
            user.cluster.wait_until((user.folder / "taken").exists, 30, interval_s=0.01)
            user.cluster.kill("slurmctld")
            array = submitting.result()["arrays"][0]
        (user.folder / "taken").unlink()
        assert calls() == turn
        user.cluster.start("slurmctld")
        if array["job_id"] not in arrays(user):
            break
        user.cluster.run_as_user(["scancel", array["job_id"]], check=True)
    else:
        pytest.fail("slurmctld saved its jobs each time before it was killed")
    user.env.clear()
    # Slurm counts on from the last id it saved, and gives ours away.
    foreign = [sbatch_as_root(user, array["token"])]
    while int(foreign[-1]) < int(array["job_id"]):
        foreign.append(sbatch_as_root(user, array["token"]))
    try:
        assert foreign[-1] == array["job_id"]
        assert user.states() == {"lost": 1}
        again = user.submit()
        assert again["submitted"] == 1
        assert again["arrays"][0]["job_id"] not in foreign
        assert {*foreign, again["arrays"][0]["job_id"]} <= set(arrays(user))
        assert user.states() == {"pending": 1}
    finally:
        cancel_as_root(user, *foreign)


def test_a07_another_users_job_of_our_name_is_not_adopted(user: User) -> None:
    user.env["ORCHESTRATOR_SETTLE_S"] = "2"
    user.write("sweep.yaml", spec("  a: [1]", env=ONE_STEP))
    kill_at(user, "sbatch.before:1")
    foreign = sbatch_as_root(user, journal(user)[0]["token"])
    try:
        assert user.submit()["submitted"] == 1
        assert kinds(user) == ["intent", "abandoned", "intent", "submitted"]
        assert foreign in arrays(user)
    finally:
        cancel_as_root(user, foreign)


def test_a02_submitter_killed_after_sbatch_is_taken_up_without_a_second_job(user: User) -> None:
    calls = count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        'REAL "$@"\n'
        'while read -r pid; do kill -KILL "$pid"; done < <(ps -o ppid= -p "$PPID"; echo "$PPID")',
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "1"}))
    killed = user.type("submit", "sweep.yaml", "--cluster", "slurm")
    assert killed.returncode != 0
    assert [entry["kind"] for entry in journal(user)] == ["intent"]
    assert user.submit()["submitted"] == 0
    assert calls() == 1
    assert [entry["kind"] for entry in journal(user)] == ["intent", "adopted"]
    user.await_states({"done": 2})


def test_a03_sbatch_that_fails_after_slurm_took_the_job_is_adopted(user: User) -> None:
    calls = count_sbatch_calls(
        user,
        'if [ "$1" = --version ]; then exec REAL "$@"; fi\n'
        'REAL "$@" > /dev/null\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv "
        "operation' >&2\nexit 1",
    )
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "1"}))
    report = user.submit()
    assert (report["submitted"], calls()) == (2, 1)
    assert [entry["kind"] for entry in journal(user)] == ["intent", "adopted"]
    user.await_states({"done": 2})

"""Retries by cause, supervision and a trial's story, on a real Slurm."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster import processes
from tests.cluster.user import COUNTER, User, journal, spec

pytestmark = pytest.mark.cluster

BROKEN_PROLOG = Path(__file__).with_name("broken_prolog.sh")
QUICK = ("--interval", "0.5")


def supervise(user: User, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    return user.type("supervise", *QUICK, *words, timeout_s=timeout_s)


FAILS_AFTER_PROGRESS = """\
#!/bin/bash
echo '{"loss": 1}' >> "$TRIAL_METRICS"
echo "OSError: data gone" >&2
exit 1
"""


def decisions(user: User, kind: str) -> list[tuple[str, str]]:
    return [(e["cause"], e["reason"]) for e in journal(user) if e["kind"] == kind]


def test_cuda_out_of_memory_goes_again_with_half_the_micro_batch(user: User) -> None:
    user.write(
        "count.sh",
        '#!/bin/bash\necho "${TRIAL_MICRO_BATCH_DIVISOR:-1}" >> "$TRIAL_DIR/divisors"\n'
        'if [ "${TRIAL_MICRO_BATCH_DIVISOR:-1}" -lt 4 ]; then\n'
        '  echo "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB" >&2\n'
        '  exit 1\nfi\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n',
    )
    user.write("sweep.yaml", spec("  a: [1]"))
    user.submit()
    done = supervise(user)
    assert done.returncode == 0, done
    assert "CUDA out of memory: again with 1/4 of the micro-batch" in done.stdout
    (trial,) = user.trials()
    assert (trial / "divisors").read_text().split() == ["1", "2", "4"]
    assert "export TRIAL_MICRO_BATCH_DIVISOR=4" in (trial / "trial.sbatch").read_text()
    row = user.board()[0]
    assert (row["attempts"], row["loss"]) == ("3", "1"), "the same trial, in three attempts"


def test_c04_host_out_of_memory_goes_again_with_more_of_it(user: User) -> None:
    user.write(
        "count.sh",
        '#!/bin/bash\necho "$SLURM_MEM_PER_NODE" >> "$TRIAL_DIR/memory"\n'
        'if [ "$SLURM_MEM_PER_NODE" -lt 200 ]; then\n'
        '  echo "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0. '
        'Some of the step tasks have been OOM Killed." >&2\n'
        "  kill -KILL $$\nfi\n",
    )
    resources = {"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 10}
    user.write("sweep.yaml", spec("  a: [1]", resources=resources))
    user.submit()
    done = supervise(user)
    assert done.returncode == 0, done
    assert (user.trials()[0] / "memory").read_text().split() == ["103", "155", "232"]
    assert [cause for cause, _ in decisions(user, "retried")] == ["out of memory"] * 2


def test_error_after_progress_is_tried_again_and_without_is_final(user: User) -> None:
    user.write(
        "count.sh",
        '#!/bin/bash\necho "$TRIAL_ATTEMPT" >> "$TRIAL_DIR/attempts_seen"\n'
        'a=$(grep -o "[0-9]*" <<< "$1" | head -1)\n'
        'if [ "$a" = 1 ]; then echo "ValueError: bad shape" >&2; exit 1; fi\n'
        'echo \'{"loss": 1}\' >> "$TRIAL_METRICS"\n'
        'if [ "$TRIAL_ATTEMPT" -lt 3 ]; then echo "OSError: data gone" >&2; exit 1; fi\n',
    )
    user.write("sweep.yaml", spec("  a: [1, 2]"))
    user.submit()
    done = supervise(user)
    assert done.returncode == 1, done
    assert user.states() == {"done": 1, "failed": 1}
    seen = [(trial / "attempts_seen").read_text().split() for trial in user.trials()]
    assert seen == [["1"], ["1", "2", "3"]]
    (reason,) = [reason for _, reason in decisions(user, "gave_up")]
    assert reason == "exit code 1: ValueError: bad shape; it would fail again"
    # A person may still want it.
    assert user.submit("--retry-failed")["submitted"] == 1


def test_diverged_is_a_result_and_not_tried_again(user: User) -> None:
    user.write("count.sh", "#!/bin/bash\necho 'loss is nan at step 3' >&2\nexit 65\n")
    user.write("sweep.yaml", spec("  a: [1]"))
    user.submit()
    assert supervise(user).returncode == 1
    assert decisions(user, "gave_up") == [
        ("diverged", "diverged, which is its result; not tried again")
    ]


def test_c06_black_hole_node_is_excluded_and_its_failures_are_nobodys_fault(user: User) -> None:
    user.write(
        "count.sh",
        "#!/bin/bash\n"
        'if [ "$SLURMD_NODENAME" = n1 ]; then echo "RuntimeError: no CUDA device" >&2; exit 1; fi\n'
        'sleep 1\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n',
    )
    resources = {"gpus": 4, "cpus": 4, "mem_gb": 0.1, "time": 10}
    user.write("sweep.yaml", spec("  a: {min: 1, max: 16, step: 1}", resources=resources))
    user.submit()
    done = supervise(user)
    assert done.returncode == 0, done
    excluded = [entry for entry in journal(user) if entry["kind"] == "excluded"]
    assert [entry["node"] for entry in excluded] == ["n1"]
    assert user.states() == {"done": 16}
    newest = journal(user)[-1]["token"]
    script = user.folder / "results/sweep/arrays" / newest / "array.sbatch"
    assert "#SBATCH --exclude=n1\n" in script.read_text()


def test_c07_same_failure_everywhere_holds_the_rest_until_it_is_mended(user: User) -> None:
    user.write("count.sh", "#!/bin/bash\necho 'ImportError: no module torhc' >&2\nexit 1\n")
    # Live code: mending it is to reach the trials that are held, which name the code submitted.
    keys = {"max_concurrent": 1, "code": "live"}
    user.write("sweep.yaml", spec("  a: {min: 1, max: 30, step: 1}", **keys))
    user.submit()
    user.cluster.wait_until(
        lambda: user.states().get("failed", 0) >= 3, 60, user.explain, interval_s=0.3
    )
    paused = supervise(user, "--rounds", "1")
    assert paused.returncode == 1
    assert re.search(
        r"paused: \d+ trials failed the same way, and none made progress: exit code 1: ImportError",
        paused.stdout,
    )
    held = user.cluster.squeue()
    assert held
    assert {job.reason for job in held if job.state == "PENDING"} == {"JobHeldUser"}
    assert user.submit()["submitted"] == 0
    # A pause holds what waits; one trial may have been running the broken program still.
    user.cluster.wait_until(
        lambda: all(job.state == "PENDING" for job in user.cluster.squeue()), 60, user.explain
    )
    user.write("count.sh", '#!/bin/bash\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n')
    user.submit("--retry-failed")
    done = supervise(user)
    assert done.returncode == 0, f"{done.stdout}{user.explain()}"
    assert user.states() == {"done": 30}


def test_c07_sweep_paused_by_its_first_failures_goes_on_when_another_trial_gets_further(
    user: User,
) -> None:
    user.write(
        "count.sh",
        '#!/bin/bash\na=$(grep -o "[0-9]*" <<< "$1" | head -1)\n'
        'if [ "$a" -le 3 ]; then sleep 2; echo "ValueError: too small" >&2; exit 1; fi\n'
        f"until [ -e {user.folder}/go ]; do sleep 0.2; done\n"
        'echo \'{"loss": 1}\' >> "$TRIAL_METRICS"\n',
    )
    env = {"ORCHESTRATOR_HEARTBEAT_S": "5"}
    user.write("sweep.yaml", spec("  a: {min: 1, max: 9, step: 1}", env=env, max_concurrent=4))
    user.submit()
    user.cluster.wait_until(
        lambda: user.states().get("failed", 0) == 3, 60, user.explain, interval_s=0.2
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        supervising = pool.submit(supervise, user)
        try:
            user.cluster.wait_until(
                lambda: any(entry["kind"] == "paused" for entry in journal(user)), 60, user.explain
            )
        finally:
            user.write("go", "")
        done = supervising.result()
    assert done.returncode == 1, done
    assert user.states() == {"done": 6, "failed": 3}
    kinds = [entry["kind"] for entry in journal(user)]
    assert kinds.count("paused") == kinds.count("resumed") == 1


@pytest.mark.cluster_options(extra=(f"Prolog={BROKEN_PROLOG}",))
def test_b08_held_after_a_failed_launch_is_released_and_runs_elsewhere(user: User) -> None:
    resources = {"gpus": 1, "cpus": 1, "mem_gb": 0.1, "time": 10, "sbatch": {"nodelist": "n1"}}
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "2"}, resources=resources))
    user.submit()
    held = "launch failed requeued held"
    user.cluster.wait_until(
        lambda: [job.reason for job in user.cluster.squeue()] == [held], 40, user.explain
    )
    (task,) = user.cluster.squeue()
    assert user.states() == {"pending": 1}
    user.cluster.run_as_user(
        ["scontrol", "update", f"JobId={task.job_id}", "ReqNodeList="], cwd=user.folder, check=True
    )
    done = supervise(user)
    assert done.returncode == 0, done
    assert f"{held}: released, time 1" in done.stdout
    assert user.states() == {"done": 1}
    assert [e["cause"] for e in journal(user) if e["kind"] == "released"] == ["held by Slurm"]


@pytest.mark.cluster_options(extra=(f"Prolog={BROKEN_PROLOG}",))
def test_b08_held_again_and_again_is_replaced_by_a_new_array_task(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "2"}, retry={"launch_failures": 0}))
    user.submit()
    user.cluster.wait_until(
        lambda: [j.reason for j in user.cluster.squeue()] == ["launch failed requeued held"],
        40,
        user.explain,
    )
    done = supervise(user)
    assert done.returncode == 0, done
    kinds = [entry["kind"] for entry in journal(user)]
    assert kinds == ["intent", "submitted", "stopped", "retried", "intent", "submitted"]
    assert user.states() == {"done": 1}


def test_c08_hung_trial_is_reported_and_replaced_where_the_spec_says_so(user: User) -> None:
    env = {"STEPS": "80", "ORCHESTRATOR_HEARTBEAT_S": "1"}
    user.write("sweep.yaml", spec("  a: [1]", env=env, retry={"hung_min": 0.1}))
    user.submit()
    trial = user.cluster.wait_until(
        lambda: next((t for t in user.trials() if (t / "done").exists()), None), 30, user.explain
    )
    claim = json.loads((trial / "attempts/1.json").read_text())
    attempt = processes.Process.identify(claim["pid"])
    assert attempt is not None
    assert attempt.send(signal.SIGSTOP)
    done = supervise(user)
    assert done.returncode == 0, done
    assert re.search(r"no heartbeat for \d+ min while Slurm says RUNNING; replaced", done.stdout)
    kinds = [entry["kind"] for entry in journal(user)]
    assert kinds == ["intent", "submitted", "stopped", "retried", "intent", "submitted"]
    assert user.board()[0]["attempts"] == "2"


@pytest.mark.cluster_options(accounting=False, extra=("MinJobAge=15",))
def test_b19_cancelled_stays_cancelled_when_slurm_has_forgotten_it(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "400"}))
    array = user.submit()["arrays"][0]["job_id"]
    user.cluster.wait_until(
        lambda: any((t / "done").exists() for t in user.trials()), 30, user.explain
    )
    user.cluster.run_as_user(["scancel", array], cwd=user.folder, check=True)
    user.cluster.wait_until(
        lambda: user.submit()["states_before"] == {"cancelled": 1}, 30, user.explain
    )
    user.cluster.wait_until(lambda: not user.cluster.squeue(all_states=True), 90, user.explain)
    assert user.states() == {"cancelled": 1}
    assert user.submit()["submitted"] == 0


def test_retry_that_never_starts_is_bounded(user: User) -> None:
    templates = user.folder / "templates"
    shutil.copytree(user.installation.project / "templates", templates)
    user.write("count.sh", FAILS_AFTER_PROGRESS)
    user.write("sweep.yaml", spec("  a: [1]"))
    user.submit()
    user.await_states({"failed": 1})
    (templates / "spot.sbatch.j2").write_text(
        '{% extends "base.sbatch.j2" %}\n{% block environment %}\nexit 3\n{% endblock %}\n'
    )
    done = supervise(user)
    assert done.returncode == 1, done
    assert [cause for cause, _ in decisions(user, "gave_up")] == ["never started"]
    causes = [cause for cause, _ in decisions(user, "retried")]
    assert causes == ["error", "never started", "never started", "never started"]
    assert user.states() == {"failed": 1}


def test_b19_waiting_retry_that_is_cancelled_stays_cancelled(user: User) -> None:
    user.write("count.sh", FAILS_AFTER_PROGRESS)
    user.write("sweep.yaml", spec("  a: [1]"))
    user.submit()
    user.await_states({"failed": 1})
    set_partition(user, "DOWN")
    try:
        array = user.submit()["arrays"][0]["job_id"]
        user.await_states({"requeued": 1})
        user.cluster.run_as_user(["scancel", array], cwd=user.folder, check=True)
        user.await_states({"cancelled": 1})
        assert user.submit()["submitted"] == 0
    finally:
        set_partition(user, "UP")


def set_partition(user: User, state: str) -> None:
    subprocess.run(
        ["scontrol", "update", "PartitionName=spot", f"State={state}"],
        env={**os.environ, **user.cluster.env()},
        timeout=30,
        check=True,
    )


def test_supervise_brings_back_preempted_and_killed_trials(user: User) -> None:
    user.write("sweep.yaml", spec("  a: {min: 1, max: 8, step: 1}", env={"STEPS": "100"}))
    user.submit()
    user.cluster.wait_until(
        lambda: all((t / "done").exists() for t in user.trials()), 40, user.explain
    )
    user.cluster.run_as_user(
        ["sbatch", "-p", "ondemand", "-N4", "--exclusive", "-t1", "--wrap", "exec sleep 3"],
        cwd=user.folder,
        check=True,
    )
    done = supervise(user)
    assert done.returncode == 0, done
    assert user.states() == {"done": 8}
    for trial in user.trials():
        steps = [int(line.split()[1]) for line in (trial / "done").read_text().splitlines()]
        assert steps == list(range(1, 101)), "no step lost, none repeated"
    assert "2" in {row["attempts"] for row in user.board()}


def test_supervise_twice_the_second_leaves_and_nothing_is_done_twice(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "100"}))
    user.submit()
    command = " ".join(user.installation.orchestrator)
    user.write(
        "both.sh",
        f"#!/bin/bash\n{command} supervise --interval 0.5 > first.txt 2>&1 &\n"
        "until grep -q running first.txt; do sleep 0.1; done\n"
        f"{command} supervise --interval 0.5 > second.txt 2>&1\necho $? > second.code\nwait\n",
    )
    user.cluster.run_as_user(["./both.sh"], cwd=user.folder, timeout_s=240, check=True)
    assert (user.folder / "second.code").read_text() == "3\n"
    second = (user.folder / "second.txt").read_text()
    assert "orchestrator: sweep is supervised already, by process" in second
    assert "nothing left to do" in (user.folder / "first.txt").read_text()
    assert {row["attempts"] for row in user.board()} == {"1"}


def test_supervisor_as_a_job_runs_once_and_ends_with_the_sweep(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "100"}))
    user.submit()
    first = json.loads(user.type("supervise", "--job", *QUICK, "--json").stdout)
    second = json.loads(user.type("supervise", "--job", *QUICK, "--json").stdout)
    assert (first["is_new"], second["is_new"]) == (True, False)
    assert first["job_id"] == second["job_id"]
    user.await_states({"done": 2})
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 60, user.explain)
    log = (user.folder / "results/sweep/arrays/supervisor/slurm.log").read_text()
    assert "sweep: nothing left to do" in log


def test_supervisor_job_beside_a_person_waits_and_takes_over(user: User) -> None:
    finish = user.folder / "finish"
    user.write("count.sh", COUNTER.replace("while [", f'while [ ! -e "{finish}" ] && [', 1))
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "9999"}))
    user.submit()
    command = " ".join(user.installation.orchestrator)
    log = user.folder / "results/sweep/arrays/supervisor/slurm.log"
    user.write(
        "both.sh",
        f"#!/bin/bash\n{command} supervise --interval 1 > first.txt 2>&1 &\n"
        "until grep -q -e running -e pending first.txt; do sleep 0.1; done\n"
        f"{command} supervise --job --interval 0.5\n"
        f"until grep -q 'supervised already' {log}; do sleep 0.1; done\nkill -TERM $!\nwait\n",
    )
    user.cluster.run_as_user(["./both.sh"], cwd=user.folder, timeout_s=240, check=True)
    finish.touch()
    user.cluster.wait_until(
        lambda: log.exists() and "nothing left to do" in log.read_text(), 90, user.explain
    )
    assert "is supervised already, by process " in log.read_text()
    assert "what is queued goes on" in (user.folder / "first.txt").read_text()


def test_supervisor_job_told_to_stop_has_itself_requeued(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "200"}))
    user.submit()
    job = json.loads(user.type("supervise", "--job", *QUICK, "--json").stdout)["job_id"]
    log = user.folder / "results/sweep/arrays/supervisor/slurm.log"
    user.cluster.wait_until(lambda: log.exists() and "running" in log.read_text(), 40, user.explain)
    user.cluster.run_as_user(
        ["scancel", "--batch", f"--signal={signal.SIGUSR2.name}", job], cwd=user.folder, check=True
    )
    user.cluster.wait_until(lambda: "requeue requested" in log.read_text(), 40, user.explain)
    user.cluster.wait_until(
        lambda: [j for j in user.cluster.squeue() if j.job_id == job and j.state == "PENDING"],
        40,
        user.explain,
    )


def test_supervise_asks_slurm_once_a_round_while_nothing_happens(user: User) -> None:
    user.write("sweep.yaml", spec("  a: {min: 1, max: 12, step: 1}", env={"STEPS": "9999"}))
    user.submit()
    user.await_states({"running": 12})
    folder = user.folder / "bin"
    folder.mkdir()
    for name in ("squeue", "sacct", "scontrol", "sinfo", "sbatch"):
        user.write(
            f"bin/{name}",
            f'#!/bin/bash\necho {name} >> {user.folder}/asked\nexec {shutil.which(name)} "$@"\n',
        )
    user.env["PATH"] = f"{folder}:/usr/local/bin:/usr/bin:/bin"
    assert supervise(user, "--rounds", "4").returncode == 0
    asked = Counter((user.folder / "asked").read_text().split())
    assert asked == {"squeue": 4, "scontrol": 1}, "and the cluster's name, once"


def test_supervise_of_a_local_sweep_is_refused(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "1"}))
    user.type("submit", "sweep.yaml", "--cluster", "local")
    done = supervise(user)
    assert (done.returncode, done.stdout) == (2, "")
    assert "make submit goes on with it" in done.stderr


def test_a08_supervisor_waits_out_a_controller_that_is_away(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "40"}))
    user.submit()
    user.cluster.freeze("slurmctld")
    away = supervise(user, "--rounds", "1")
    user.cluster.thaw("slurmctld")
    assert away.returncode == 3
    assert "trouble, nothing is given up: " in away.stdout
    assert supervise(user).returncode == 0


@pytest.mark.cluster_options(accounting=False)
def test_a10_supervise_works_without_accounting(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "10"}))
    user.submit()
    assert supervise(user).returncode == 0
    assert user.states() == {"done": 2}


def test_explain_tells_the_whole_story(user: User) -> None:
    user.write(
        "count.sh",
        '#!/bin/bash\necho \'{"loss": 1}\' >> "$TRIAL_METRICS"\n'
        'if [ "$TRIAL_ATTEMPT" = 1 ]; then echo "OSError: data gone" >&2; exit 1; fi\n',
    )
    user.write("sweep.yaml", spec("  a: [7]"))
    user.submit()
    assert supervise(user).returncode == 0
    told = user.type("explain", "--trial", "0")
    assert told.returncode == 0, told
    lines = [re.sub(r"^\s+(\d\d:\d\d:\d\d  )?", "", line) for line in told.stdout.splitlines()]
    story = "\n".join(lines)
    for words in (
        "a = 7",
        "submit: submitted: Slurm took it as array ",
        "attempt 1: started on n",
        "attempt 1: failed after ",
        "exit code 1: OSError: data gone",
        "submit: goes again: exit code 1: OSError: data gone: failure 1 of at most 2; again",
        "attempt 2: committed its result after ",
        "now: done",
    ):
        assert words in story, told.stdout
    order = [story.index(f"attempt {n}: started") for n in (1, 2)]
    assert order[0] < story.index("goes again") < order[1]
    unknown = user.type("explain", "--trial", "9")
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "orchestrator: no trial '9'; give a number (0 to 0) or a directory name\n",
    )

"""Doctor, and the mode it explains, on a real Slurm in several configurations, by its user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.user import User, count_sbatch_calls, spec

pytestmark = pytest.mark.cluster


def examine(user: User, *words: str) -> dict[str, dict[str, Any]]:
    """Doctor's findings on the site and on spot, by topic."""
    done = user.type("doctor", "spot", "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["unreachable"] is None
    return {finding["topic"]: finding for finding in report["findings"]}


def array_script(user: User) -> str:
    (script,) = (user.folder / "results/sweep/arrays").glob("*/array.sbatch")
    return script.read_text()


def submit_in_words(user: User) -> str:
    done = user.type("submit", "sweep.yaml", "--cluster", "slurm")
    assert done.returncode == 0, done.stderr
    return done.stdout


def preempt(user: User) -> Path:
    """Start the one trial of the sweep and let a job of a higher tier take its node."""
    trial = user.cluster.wait_until(
        lambda: next((t for t in user.trials() if (t / "done").exists()), None), 30, user.explain
    )
    user.cluster.run_as_user(
        ["sbatch", "-p", "ondemand", "-N4", "--exclusive", "-t1", "--wrap", "exec sleep 5"],
        cwd=user.folder,
        check=True,
    )
    user.cluster.wait_until(
        lambda: "outcome" in json.loads((trial / "attempts/1.json").read_text()), 60, user.explain
    )
    return trial


def resume(user: User, trial: Path) -> None:
    """Submit until the preempted trial goes on, and check that it is where it was."""
    user.await_states({"interrupted": 1})
    assert user.submit()["submitted"] == 1
    user.await_states({"done": 1})
    steps = [int(line.split()[1]) for line in (trial / "done").read_text().splitlines()]
    assert steps == list(range(1, 81)), "no step lost, none repeated"


def test_doctor_of_the_default_site(user: User) -> None:
    findings = examine(user)
    assert {topic: f["severity"] for topic, f in findings.items() if f["severity"] != "ok"} == {
        "requeue-hold": "note",
        "split-brain": "note",
        "private-data": "note",
        "save-time": "warning",
        "exit-in-grace": "note",
    }
    assert findings["mode"]["what_is"] == "Requeue mode: the site allows it (JobRequeue=1)."
    assert not (user.folder / "results").exists()


def test_submit_auto_on_the_default_site_lets_slurm_requeue(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "1"}))
    report = user.submit()
    assert (report["requeue"], report["requeue_reason"]) == (
        True,
        "the site allows it (JobRequeue=1)",
    )
    assert "\n#SBATCH --requeue\n" in array_script(user)
    user.await_states({"done": 1})


@pytest.mark.cluster_options(gang=True)
def test_b06_doctor_names_gang_which_knows_no_grace(user: User) -> None:
    findings = examine(user)
    assert findings["gang"]["severity"] == "warning"
    assert "no GraceTime and no signal" in findings["gang"]["what_is"]
    assert "notice" not in findings


@pytest.mark.cluster_options(job_requeue=0)
def test_submit_auto_where_requeuing_is_off_submits_no_requeue_and_resumes(user: User) -> None:
    assert examine(user)["requeue"]["severity"] == "warning"
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "80"}))
    out = submit_in_words(user)
    assert "resubmit mode: the site has turned requeuing off (JobRequeue=0)\n" in out
    assert "make supervise (or make submit)" in out
    assert max(map(len, out.splitlines())) <= 80, out
    assert "\n#SBATCH --no-requeue\n" in array_script(user)
    assert "\n  --requeue\n" not in (user.trials()[0] / "trial.sbatch").read_text()
    resume(user, preempt(user))


@pytest.mark.cluster_options(preempt_mode="CANCEL", user_signal=True)
def test_b05_preempted_trial_of_a_cancelling_partition_is_resumed_by_submit(user: User) -> None:
    mode = examine(user)["mode"]
    assert mode["severity"] == "note"
    assert "partition spot ends preempted jobs (PreemptMode=CANCEL)" in mode["what_is"]
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "80"}))
    assert user.submit()["requeue"] is False
    assert "\n#SBATCH --no-requeue\n" in array_script(user)
    resume(user, preempt(user))


@pytest.mark.cluster_options(job_requeue=0)
def test_submit_explicit_requeue_is_obeyed_also_where_the_site_has_it_off(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", requeue=True, env={"STEPS": "100"}))
    report = user.submit()
    assert (report["requeue"], report["requeue_reason"]) == (True, "`requeue: true` is set")
    assert "\n#SBATCH --requeue\n" in array_script(user)
    job = user.cluster.run_as_user(
        ["scontrol", "show", "job", report["arrays"][0]["job_id"]], cwd=user.folder, check=True
    )
    assert "Requeue=1" in job.stdout, "Slurm obeys a job that asks for it, whatever JobRequeue says"


@pytest.mark.cluster_options(accounting=False, max_array_size=5, extra=("MinJobAge=5",))
def test_a10_doctor_of_a_site_without_accounting(user: User) -> None:
    findings = examine(user)
    assert "There is no accounting" in findings["accounting"]["what_is"]
    assert findings["min-job-age"]["severity"] == "warning"
    assert "5 trials at most" in findings["array-size"]["what_is"]


def test_a09_doctor_with_slurmdbd_away_says_so(user: User) -> None:
    user.cluster.kill("slurmdbd")
    finding = examine(user)["accounting"]
    assert finding["severity"] == "warning"
    assert "sacct does not answer" in finding["what_is"]


def test_a08_doctor_with_the_controller_away_exits_3(user: User) -> None:
    user.cluster.freeze("slurmctld")
    done = user.type("doctor")
    user.cluster.thaw("slurmctld")
    assert done.returncode == 3, done.stdout
    assert "Slurm does not answer" in done.stdout
    assert "link(2) works" in done.stdout


def test_doctor_probe_asks_a_node_of_each_partition(user: User) -> None:
    calls = count_sbatch_calls(user)
    done = user.type("doctor", "--probe", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    by_profile: dict[str, set[str]] = {}
    for finding in report["findings"]:
        if finding["topic"].startswith("probe-"):
            assert finding["severity"] == "ok", finding
            by_profile.setdefault(finding["profile"], set()).add(finding["topic"])
    wanted = {"probe-results", "probe-workdir", "probe-python", "probe-clock"}
    assert by_profile == {"spot": wanted, "ondemand": wanted, "cpu": wanted}
    assert calls() == 3
    assert not (user.folder / "results").exists()
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 30, user.explain)


def test_doctor_probe_that_finds_no_node_is_bounded_and_cancelled(user: User) -> None:
    user.cluster.run_as_user(
        ["sbatch", "-p", "ondemand", "-N4", "--exclusive", "-t5", "--wrap", "exec sleep 200"],
        cwd=user.folder,
        check=True,
    )
    user.cluster.wait_until(
        lambda: all(job.state == "RUNNING" for job in user.cluster.squeue()), 30, user.explain
    )
    finding = examine(user, "--probe", "--wait", "4")["probe-waiting"]
    assert finding["severity"] == "warning"
    user.cluster.wait_until(
        lambda: not [job for job in user.cluster.squeue() if job.name.startswith("doctor-")],
        30,
        user.explain,
    )


def test_doctor_probe_names_a_results_folder_that_nodes_cannot_write_to(user: User) -> None:
    """Stands for a folder that is not shared: the job runs, and nothing arrives."""
    count_sbatch_calls(
        user,
        'if [ "$1" != --version ]; then chmod 500 "$(dirname "${@: -1}")"; fi\nexec REAL "$@"',
    )
    done = user.type("doctor", "spot", "--probe", "--json", "--wait", "60")
    findings = {f["topic"]: f for f in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert "nothing arrived in the results folder" in findings["probe-results"]["what_is"]

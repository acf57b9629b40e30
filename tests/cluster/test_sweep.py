"""A sweep on a real Slurm, typed by an ordinary user: submit, preempt, kill, collect."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cluster.user import User, count_sbatch_calls, journal, spec

pytestmark = pytest.mark.cluster


def test_sweep_end_to_end_one_array_ranked_and_never_twice(user: User) -> None:
    calls = count_sbatch_calls(user)
    user.write("sweep.yaml", spec("  a: [1, 2, 3]\n  b: [x, y]", env={"STEPS": "2"}))
    report = user.submit()
    assert (report["submitted"], len(report["arrays"]), calls()) == (6, 1, 1)
    assert report["arrays"][0]["array"] == "0-5"
    user.await_states({"done": 6})
    rows = user.board()
    assert [row["rank"] for row in rows] == ["1"] * 6, "all end at the same loss: a tie"
    # Equal ones stand in the order of the GPU-hours that they took.
    assert sorted((row["a"], row["b"]) for row in rows) == [
        (a, b) for a in ("1", "2", "3") for b in ("x", "y")
    ]
    assert {row["attempts"] for row in rows} == {"1"}
    again = user.submit()
    assert (again["submitted"], again["states_before"], calls()) == (0, {"done": 6}, 1)


def test_sweep_submitted_while_queued_submits_nothing(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2, 3, 4]", env={"STEPS": "999"}, max_concurrent=1))
    assert user.submit()["arrays"][0]["array"] == "0-3%1"
    report = user.submit()
    assert report["submitted"] == 0
    assert set(report["states_before"]) <= {"pending", "running"}


@pytest.mark.parametrize("layout", ["step", "batch"])
@pytest.mark.cluster_options(user_signal=True)
def test_preempted_trial_resumes_at_its_step_with_user_signal(user: User, layout: str) -> None:
    preempt_and_check(user, layout)


def test_preempted_trial_resumes_at_its_step_without_user_signal(user: User) -> None:
    preempt_and_check(user, "step")


def preempt_and_check(user: User, layout: str) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "80"}, layout=layout))
    user.submit()
    trial = user.cluster.wait_until(
        lambda: next((t for t in user.trials() if (t / "done").exists()), None), 30, user.explain
    )
    blocker = user.cluster.run_as_user(
        ["sbatch", "--parsable", "-p", "ondemand", "-N4", "--exclusive", "-t1"]
        + ["--wrap", "exec sleep 8"],
        cwd=user.folder,
        check=True,
    ).stdout.strip()
    user.cluster.wait_until(
        lambda: "outcome" in json.loads((trial / "attempts/1.json").read_text()),
        60,
        user.explain,
    )
    first = json.loads((trial / "attempts/1.json").read_text())
    assert first["outcome"] == "preempted", first
    assert first["exit_code"] == 75, first
    user.cluster.run_as_user(["scancel", blocker], cwd=user.folder)
    user.await_states({"requeued": 1})
    # Slurm holds a requeued task back for 121 s; `submit` lifts that, and submits nothing new.
    user.cluster.wait_until(
        lambda: not user.submit()["submitted"] and (trial / "attempts/2.json").exists(),
        60,
        user.explain,
        interval_s=1,
    )
    user.await_states({"done": 1})
    steps = [line.split() for line in (trial / "done").read_text().splitlines()]
    assert [int(step) for _, step in steps] == list(range(1, 81)), "no step lost, none repeated"
    assert {attempt for attempt, _ in steps} == {"1", "2"}
    row = user.board()[0]
    assert (row["rank"], row["attempts"], row["loss"]) == ("1", "2", "20")


HOSTILE = [
    "$(touch pwned); \"x'",
    "a\nb",
    "\n#SBATCH --partition=ondemand",
    "`id`; rm -rf ~",
    "${HOME}",
    "{{ 7 * 7 }}",
    "--flag=\\n\t",
    "中文 \u202e emoji 🙂",
]


def test_hostile_values_reach_the_program_as_they_are(user: User) -> None:
    user.write(
        "show.py",
        "import json, os, sys\n"
        "open(os.environ['TRIAL_DIR'] + '/argv', 'w').write(json.dumps(sys.argv[1:]))\n"
        "open(os.environ['TRIAL_METRICS'], 'a').write('{\"loss\": 1}\\n')\n",
    )
    text = spec("  v: " + json.dumps(HOSTILE, ensure_ascii=False)).replace("count.sh", "show.py")
    user.write("sweep.yaml", text)
    user.submit()
    user.await_states({"done": len(HOSTILE)})
    seen = [json.loads((trial / "argv").read_text()) for trial in user.trials()]
    assert seen == [[f"--v={value}"] for value in HOSTILE]
    assert not list(user.folder.rglob("pwned"))
    rows = user.board()
    assert len(rows) == len(HOSTILE)


@pytest.mark.parametrize("shell", ["bash", "sbatch"])
def test_trial_script_runs_by_hand(user: User, shell: str) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "1"}))
    user.submit()
    user.await_states({"done": 2})
    # A trial is done before its attempt has written its last words.
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 30, user.explain)
    trial = user.trials()[0]
    shutil.rmtree(trial / "attempts")
    (trial / "result.json").unlink()
    user.cluster.run_as_user([shell, str(trial / "trial.sbatch")], cwd=user.folder, check=True)
    user.cluster.wait_until((trial / "result.json").exists, 30, user.explain)
    assert json.loads((trial / "result.json").read_text())["metrics"]["loss"] == 99
    user.await_states({"done": 2})


def test_trials_of_different_shape_go_to_arrays_of_their_own(user: User) -> None:
    user.write(
        "sweep.yaml",
        spec(
            "  a: [1, 2, 3, 4]",
            env={"STEPS": "1"},
            resources={"gpus": "2 if a > 2 else 1", "cpus": 1, "mem_gb": 0.1, "time": 10},
        ),
    )
    report = user.submit()
    assert [array["n_trials"] for array in report["arrays"]] == [2, 2]
    user.await_states({"done": 4})


def test_b19_cancelled_trial_is_not_requeued_nor_submitted_again(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "400"}))
    array = user.submit()["arrays"][0]["job_id"]
    trial = user.cluster.wait_until(
        lambda: next((t for t in user.trials() if (t / "done").exists()), None), 30, user.explain
    )
    user.cluster.run_as_user(["scancel", array], cwd=user.folder, check=True)
    user.await_states({"cancelled": 1})
    # Its end is written first, then what became of its requeue.
    requeue = user.cluster.wait_until(
        lambda: json.loads((trial / "attempts/1.json").read_text()).get("requeue"),
        30,
        user.explain,
    )
    assert requeue.startswith("refused")
    assert user.submit()["submitted"] == 0
    assert user.submit("--retry-failed")["submitted"] == 1


def test_b19_cancelled_before_they_started_are_not_submitted_again(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2, 3]", env={"STEPS": "400"}, max_concurrent=1))
    array = user.submit()["arrays"][0]["job_id"]
    user.cluster.wait_until(
        lambda: any((t / "done").exists() for t in user.trials()), 30, user.explain
    )
    user.cluster.run_as_user(["scancel", array], cwd=user.folder, check=True)
    user.await_states({"cancelled": 3})
    assert user.submit()["submitted"] == 0


def test_failed_trial_is_shown_with_its_last_words(user: User) -> None:
    user.write("count.sh", "#!/bin/bash\necho 'ValueError: no such thing' >&2\nexit 3\n")
    user.write("sweep.yaml", spec("  a: [1]"))
    user.submit()
    user.await_states({"failed": 1})
    status = user.type("status")
    assert status.returncode == 1
    assert "exit code 3: ValueError: no such thing" in status.stdout
    collected = user.type("collect")
    assert collected.returncode == 1
    assert "ValueError: no such thing" in collected.stdout
    assert user.submit()["submitted"] == 0


def test_another_cluster_gives_nothing_up(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1, 2]", env={"STEPS": "400"}))
    user.submit()
    path = user.folder / "results/sweep/journal.jsonl"
    (name,) = {entry["cluster"] for entry in journal(user) if entry["kind"] == "intent"}
    (token,) = {entry["token"] for entry in journal(user) if entry["kind"] == "intent"}
    # Of a token that Slurm here knows the jobs are here, whatever the journal calls the cluster.
    other = token[:-6] + "0a1b2c"
    path.write_text(
        path.read_text().replace(f'"{name}"', '"elsewhere"').replace(f'"{token}"', f'"{other}"')
    )
    submit = user.type("submit", "sweep.yaml", "--cluster", "slurm")
    assert submit.returncode == 3
    assert f"submitted to the cluster elsewhere; this is {name}" in submit.stderr


def test_job_has_the_users_locale_and_ends_with_its_program(user: User) -> None:
    user.env["LC_ALL"] = "C.UTF-8"
    user.write("count.sh", '#!/bin/bash\necho "$LC_ALL" > "$TRIAL_DIR/locale"\nsleep 300 &\n')
    user.write("sweep.yaml", spec("  a: [é]"))
    user.submit()
    user.await_states({"done": 1})
    assert (user.trials()[0] / "locale").read_text() == "C.UTF-8\n"
    user.cluster.wait_until(lambda: not user.cluster.squeue(), 30, user.explain)


def test_files_are_private(user: User) -> None:
    user.write("sweep.yaml", spec("  a: [1]", env={"STEPS": "1"}))
    user.submit()
    user.await_states({"done": 1})
    sweep = user.folder / "results/sweep"
    assert sweep.stat().st_mode & 0o777 == 0o700
    assert (user.trials()[0] / "params.json").stat().st_mode & 0o777 == 0o600

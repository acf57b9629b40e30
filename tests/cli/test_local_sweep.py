"""The command line on a machine without Slurm, as a person types it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import COMMANDS
from tests.waiting import wait_until

SPEC = """\
program: count.sh
method: grid
metric: {name: loss, goal: minimize}
partition: cpu
cluster: local
parameters:
  a: [1, 2, 3]
"""
COUNT = """\
#!/bin/bash
state="$TRIAL_CHECKPOINT_DIR/step"
step=$(cat "$state" 2>/dev/null || echo 0)
trap 'told=1' TERM USR2
while [ "$step" -lt "${STEPS:-1}" ]; do
  sleep 0.1 & wait $!
  step=$((step + 1))
  echo "{\\"loss\\": $((100 - step)), \\"step\\": $step}" >> "$TRIAL_METRICS"
  [ -z "$told" ] || { echo $step > "$state"; exit 75; }
done
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sweep.yaml").write_text(SPEC)
    (tmp_path / "count.sh").write_text(COUNT)
    return tmp_path


def start(folder: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *words],
        cwd=folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def type_(folder: Path, *words: str, **env: str) -> tuple[int, str, str]:
    process = start(folder, *words, **env)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def trials(folder: Path) -> list[Path]:
    return sorted((folder / "results/sweep/trials").iterdir())


def states(folder: Path) -> dict[str, Any]:
    code, out, err = type_(folder, "status", "--json")
    assert code in (0, 1), err
    counts: dict[str, Any] = json.loads(out)["counts"]
    return counts


def test_submit_runs_all_and_collect_ranks_them(folder: Path) -> None:
    code, out, err = type_(folder, "submit", "sweep.yaml")
    assert (code, "ran: 3" in out) == (0, True), err
    code, out, err = type_(folder, "collect")
    assert code == 0, err
    with open(folder / "results/sweep/leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["a"], row["loss"]) for row in rows] == [
        ("1", "1", "99"),
        ("1", "2", "99"),
        ("1", "3", "99"),
    ]
    assert (folder / "results/sweep/leaderboard.md").exists()


def test_collect_tells_where_the_time_went(folder: Path) -> None:
    (folder / "count.sh").write_text('[ "$1" = --a=1 ] && exit 3\n' + COUNT)
    assert type_(folder, "submit", "sweep.yaml")[0] == 1
    lines = type_(folder, "collect")[1].splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("Goodput: "))
    assert re.fullmatch(r"Goodput: \d+\.\d% of [\de.-]+ hours is in results\.", lines[first])
    assert any(re.fullmatch(r" +\d+\.\d%  programs that failed", line) for line in lines[first:])
    found = json.loads(type_(folder, "collect", "--json")[1])["goodput"]
    lost = found["parts_h"]["program_failed"]
    assert found["lost_share"] == pytest.approx(
        (lost + found["parts_h"]["start_up"]) / found["allocated_h"]
    )
    assert (found["success_rate"], found["resume_s"]["n"]) == (pytest.approx(2 / 3), 0)
    share = f"{found['lost_share']:.1%} of it lost."
    assert any(line.endswith(share) for line in lines), "one number, not two that contradict"


def test_status_tells_the_nodes_how_often_attempts_are_lost(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    type_(folder, "status")
    rate = json.loads((folder / "results/sweep/loss_rate.json").read_text())
    assert (rate["losses"], 0 <= rate["observed_s"] < 600) == (0, True)


def test_spec_checkpoint_interval_reaches_the_program(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "checkpoint: {interval_min: 0.5}\n")
    (folder / "count.sh").write_text(
        'echo "{\\"loss\\": $TRIAL_CHECKPOINT_INTERVAL_S, \\"grace\\": $TRIAL_GRACE_S, '
        '\\"mtbf\\": $TRIAL_MTBF_S}" >> "$TRIAL_METRICS"\n'
    )
    assert type_(folder, "submit", "sweep.yaml")[0] == 0
    result = json.loads((trials(folder)[0] / "result.json").read_text())
    assert result["metrics"] == {"loss": 30.0, "grace": 60, "mtbf": 86400}


def test_submit_again_runs_nothing_and_new_values_only(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    assert "ran: 0" in type_(folder, "submit")[1], "without a name the last sweep is meant"
    assert "ran: 1" in type_(folder, "submit", "sweep.yaml", "a=3,4")[1]
    assert [trial.name[:5] for trial in trials(folder)] == ["00000", "00001", "00002", "00003"]


def test_submit_failing_trials_exits_1_and_retries_when_asked(folder: Path) -> None:
    (folder / "count.sh").write_text("echo 'ValueError: no' >&2; exit 4\n")
    code, out, _ = type_(folder, "submit", "sweep.yaml")
    assert (code, "failed: 3" in out) == (1, True)
    assert "next: make status says why" in out
    code, out, _ = type_(folder, "status")
    assert code == 1
    assert "3 failed: exit code 4: ValueError: no" in out
    assert "mend it, then: make release" in type_(folder, "submit")[1]
    (folder / "count.sh").write_text(COUNT)
    code, out, _ = type_(folder, "submit", "--retry-failed")
    assert (code, "ran: 3" in out) == (0, True)
    assert states(folder) == {"done": 3}


def test_submit_says_that_a_trial_was_lost_and_exits_1(folder: Path) -> None:
    # Its attempt is killed from within, once: it can say nothing of its end.
    (folder / "count.sh").write_text(
        f'[ "$1" = --a=2 ] && mkdir {folder}/once && {{ kill -9 $PPID; exit; }}\n{COUNT}'
    )
    code, out, err = type_(folder, "submit", "sweep.yaml")
    assert states(folder) == {"done": 2, "lost": 1}, err
    assert (code, "  ran: 3, lost: 1\n" in out) == (1, True), out
    assert "next: make submit takes it up again; make status says why\n" in out
    code, out, err = type_(folder, "submit")
    assert (code, "  ran: 1\n" in out, "next: make collect\n" in out) == (0, True, True), out + err


def test_submit_interrupted_checkpoints_leaves_no_orphan_and_goes_on(folder: Path) -> None:
    process = start(folder, "submit", "sweep.yaml", "max_concurrent=2", STEPS="100000")
    wait_until(
        lambda: len(list((folder / "results").glob("sweep/trials/*/metrics.jsonl"))) == 2,
        on_timeout=process.poll,
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "stopped; go on with: make submit" in out
    assert "ran: 0\n" in out
    assert "stopping: the running trials checkpoint; Ctrl-C again ends them now" in err
    assert "failed" not in err
    await_no_orphans(folder)
    assert states(folder) == {"interrupted": 2, "lost": 1}
    done = len((trials(folder)[0] / "metrics.jsonl").read_text().splitlines())
    code, _, err = type_(folder, "submit", STEPS=str(done + 5))
    assert code == 0, err
    assert states(folder) == {"done": 3}
    steps = [
        json.loads(line)["step"]
        for line in (trials(folder)[0] / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, done + 6)), "no step lost, none repeated"


def test_submit_interrupted_twice_ends_what_does_not_listen(folder: Path) -> None:
    (folder / "count.sh").write_text("trap '' TERM\ntouch $TRIAL_DIR/on\nsleep 600\n")
    process = start(folder, "submit", "sweep.yaml", "max_concurrent=1")
    wait_until(
        lambda: list((folder / "results").glob("sweep/trials/*/on")), on_timeout=process.poll
    )
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping: the running trials checkpoint" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)  # not sooner: two at once are one
    _, err = process.communicate(timeout=50)  # less than trials get to checkpoint
    assert "ended what was still running" in err
    await_no_orphans(folder)
    assert states(folder) == {"lost": 3}, "a dead process of this host does not count as running"


def test_environment_that_fails_is_the_trials_failure(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(SPEC + "environment: [source /nope/activate]\n")
    assert type_(folder, "submit", "sweep.yaml")[0] == 1
    out = type_(folder, "status")[1]
    assert "3 failed: exit code 1: environment failed: source /nope/activate" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("program: count.sh", "program: none.py"),
            "sweep.yaml:1: program: no file 'none.py' in {folder}; programs start there, "
            "see workdir",
        ),
        (
            ("cluster: local", "cluster: local\nworkdir: nowhere"),
            "sweep.yaml:6: workdir: no directory {folder}/nowhere; name one that exists",
        ),
        (
            ("cluster: local", "cluster: local\nresources:\n  gpus: 99"),
            "sweep.yaml:7: resources.gpus: 99 is too much for partition cpu: a node has 0; "
            "ask for less, or name another partition",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_place(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    (folder / "sweep.yaml").write_text(SPEC.replace(*change))
    expected = f"orchestrator: {message.format(folder=folder)}\n"
    assert type_(folder, "submit", "sweep.yaml") == (2, "", expected)
    assert not (folder / "results").exists()


def test_trials_that_wait_for_a_free_slot_are_not_lost(folder: Path) -> None:
    process = start(folder, "submit", "sweep.yaml", "max_concurrent=1", STEPS="100000")
    try:
        wait_until(
            lambda: list((folder / "results").glob("sweep/trials/*/metrics.jsonl")),
            on_timeout=process.poll,
        )
        said = [type_(folder, *words) for words in (["status"], ["watch", "--once"])]
        dry = type_(folder, "submit", "sweep.yaml", "--dry-run")
    finally:
        process.kill()
        process.communicate()
    for code, out, err in said:
        assert (code, "2 pending, 1 running" in out) == (0, True), out + err
        assert "lost" not in out
        assert "make submit" not in out, "it would answer that the sweep is locked"
    assert "would submit: 0" in dry[1], dry
    await_no_orphans(folder)
    assert states(folder).get("lost", 0) >= 2, "nobody is left who would start them"


def test_submit_killed_leaves_no_orphan_and_goes_on(folder: Path) -> None:
    process = start(folder, "submit", "sweep.yaml", "max_concurrent=1", STEPS="100000")
    wait_until(
        lambda: list((folder / "results").glob("sweep/trials/*/metrics.jsonl")),
        on_timeout=process.poll,
    )
    process.kill()
    process.communicate()
    await_no_orphans(folder)
    code, _, err = type_(folder, "submit")
    assert code == 0, err
    assert states(folder) == {"done": 3}


def await_no_orphans(folder: Path) -> None:
    """Wait for the end of what was ended; by itself nothing here would end so soon."""
    wait_until(lambda: not orphans(folder), on_timeout=lambda: orphans(folder))


def orphans(folder: Path) -> list[str]:
    """Command lines of processes that work in the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder):
                found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_submit_hostile_values_arrive_as_they_are(folder: Path) -> None:
    values = ["$(touch pwned); \"x'", "a\nb", "--x", "{{ 7 * 7 }}", "é \u202e 🙂"]
    (folder / "show.py").write_text(
        "import json, os, sys\n"
        "json.dump(sys.argv[1:], open(os.environ['TRIAL_DIR'] + '/argv', 'w'))\n"
    )
    (folder / "sweep.yaml").write_text(
        SPEC.replace("count.sh", "show.py").replace("[1, 2, 3]", json.dumps(values))
    )
    code, _, err = type_(folder, "submit", "sweep.yaml")
    assert code == 0, err
    seen = [json.loads((trial / "argv").read_text()) for trial in trials(folder)]
    assert seen == [[f"--a={value}"] for value in values]
    assert not list(folder.rglob("pwned"))


def test_dry_run_writes_nothing(folder: Path) -> None:
    code, out, err = type_(folder, "submit", "sweep.yaml", "--dry-run")
    assert code == 0, err
    assert "would submit: 3" in out
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cluster: local", "clutser: local"), r"sweep\.yaml:5: clutser: unknown key; did you "),
        (("[1, 2, 3]", "{min: 3, max: 1}"), r"sweep\.yaml:7: parameters\.a.*: "),
        (
            ("[1, 2, 3]", "{min: 0.0, max: 1, distribution: log_uniform_values}"),
            r"sweep\.yaml:7: parameters\.a\.min: 0\.0 is not allowed with distribution "
            r"log_uniform_values; use a value > 0",
        ),
        (
            ("partition: cpu", "partition: gpu"),
            r"sweep\.yaml:4: partition: unknown partition 'gpu'; .* has: spot, ondemand, cpu",
        ),
    ],
)
def test_mistake_in_the_spec_is_one_line_exit_2_and_nothing_done(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    (folder / "sweep.yaml").write_text(SPEC.replace(*change))
    code, out, err = type_(folder, "submit", "sweep.yaml")
    assert (code, out) == (2, "")
    assert re.match(f"orchestrator: {message}", err), err
    assert err.count("\n") == 1
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "none.yaml"), "orchestrator: none.yaml: No such file or directory\n"),
        (
            ("submit", "sweep"),
            "orchestrator: sweep: a sweep spec ends in .yaml; options start with --\n",
        ),
        (
            ("submit", "a.yaml", "b.yaml"),
            "orchestrator: one sweep at a time, not a.yaml and b.yaml\n",
        ),
        (
            ("submit", "--no-such"),
            "orchestrator: orchestrator submit: unrecognized arguments: --no-such; "
            "see orchestrator submit --help\n",
        ),
        (
            ("collect",),
            "orchestrator: nothing was submitted to results yet; start with: make submit\n",
        ),
        (
            ("status", "other"),
            "orchestrator: no sweep 'other' in results; submit one first: make submit SWEEP=...\n",
        ),
        (
            ("colect",),
            f"orchestrator: no command 'colect'; use {', '.join(COMMANDS)}\n",
        ),
    ],
)
def test_wrong_call_is_one_line_and_exit_2(
    folder: Path, words: tuple[str, ...], message: str
) -> None:
    assert type_(folder, *words) == (2, "", message)


def test_help_lists_the_commands(folder: Path) -> None:
    code, out, _ = type_(folder, "--help")
    assert code == 0
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert listed == list(COMMANDS)
    assert max(map(len, out.splitlines())) <= 80


def test_status_in_a_world_writable_folder_is_refused(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    (folder / "results/sweep").chmod(0o777)
    code, _, err = type_(folder, "status")
    assert code == 2
    assert "can be written by other users" in err


def test_copied_sweep_collects_the_same_leaderboard(folder: Path, tmp_path: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    type_(folder, "collect")
    board = (folder / "results/sweep/leaderboard.csv").read_bytes()
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "results/sweep").rename(elsewhere / "sweep")
    code, _, err = type_(folder, "collect", "sweep", "--results", "elsewhere")
    assert code == 0, err
    assert (elsewhere / "sweep/leaderboard.csv").read_bytes() == board


def test_trial_script_runs_by_hand_also_in_a_copy(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    copy = folder / "copy"
    trials(folder)[0].rename(copy)
    (copy / "result.json").unlink()
    copy = copy.rename(folder / trials(folder)[0].name)
    done = subprocess.run(
        ["bash", f"{copy.name}/trial.sbatch"], cwd=folder, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((copy / "result.json").read_text())["metrics"] == {"loss": 99}


def test_trial_whose_folder_is_gone_is_named_once_by_every_look(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    gone = sorted((folder / "results/sweep/trials").glob("*"))[:2]
    for trial in gone:
        shutil.rmtree(trial)
    said = f"problem: trials/{gone[0].name}: its folder is gone, though it was submitted (and so "
    for command in ("collect", "status"):
        shown = "".join(type_(folder, command)[1:])
        assert shown.count(f"{said}are those of 1 more") == 1
        assert "1 done, 2 lost" in shown, "none is dropped"
    assert type_(folder, "costs")[2] == "1 file could not be used; make collect names them\n"
    assert len(json.loads(type_(folder, "collect", "--json")[1])["problems"]) == 1
    # What it says to do mends it.
    assert "before: 2 new, 1 done" in type_(folder, "submit", "sweep.yaml")[1]
    code, out, err = type_(folder, "collect")
    assert (code, err) == (0, "")
    assert "3 trials: 3 done." in out

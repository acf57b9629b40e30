"""A second look costs what is new: files read, and questions to Slurm."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.adapters.journal import JournalWriter
from orchestrator.contract.paths import SweepPaths
from tests.trial_writer import add_trial, make_sweep

# Names every file below trials/ that the process opens.
AUDITED = """\
import sys
from orchestrator.cli.main import run
opened = []
sys.addaudithook(lambda event, words: opened.append(str(words[0])) if event == "open" else None)
code = run(sys.argv[1:])
sys.stderr.write("".join(f"{path}\\n" for path in opened if "/trials/" in path))
sys.exit(code)
"""
FAKE_SLURM = Path(__file__).parents[1] / "faults" / "fake_slurm"


def read_by(sweep: SweepPaths, command: str) -> list[str]:
    """Type a command and return what it opened below trials/, relative to it."""
    words = [command, sweep.name, "--results", os.path.dirname(sweep.root)]
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(sweep.trials)]
    return sorted(os.path.relpath(line, sweep.trials) for line in lines)


@pytest.mark.timeout(600)
def test_collect_and_status_open_the_files_of_new_trials_alone(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "demo"))
    for number in range(200):
        add_trial(sweep, f"{number:05d}-aaaa", {"lr": number}, {"loss": number})
    assert len(read_by(sweep, "collect")) == 400  # parameters and result of each
    new = [f"{number:05d}-bbbb" for number in range(200, 205)]
    for name in new:
        add_trial(sweep, name, {"lr": 1}, {"loss": 1})
    expected = sorted(f"{name}/{file}" for name in new for file in ("params.json", "result.json"))
    assert read_by(sweep, "collect") == expected
    assert read_by(sweep, "collect") == []
    assert read_by(sweep, "status") == []
    with open(sweep.leaderboard("csv"), encoding="utf-8") as file:
        assert len(file.readlines()) == 206


@pytest.mark.timeout(600)
@pytest.mark.parametrize("clusters", [["fake", "fake"], ["fake", "other"]])
def test_status_of_queued_trials_asks_slurm_once(tmp_path: Path, clusters: list[str]) -> None:
    calls, done = status_of_queued(tmp_path, clusters, n_known=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"pending": 20}
    assert calls == {"squeue": 1}


@pytest.mark.timeout(600)
def test_status_of_an_array_that_no_queue_knows_asks_which_cluster_this_is(tmp_path: Path) -> None:
    calls, done = status_of_queued(tmp_path, ["fake", "other"], n_known=1)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["counts"]) == (3, {"unknown": 20})
    assert answer["unreachable"] == "submitted to the cluster other; this is fake"
    assert calls == {"squeue": 1, "scontrol": 1}


def status_of_queued(
    folder: Path, clusters: list[str], n_known: int
) -> tuple[dict[str, int], subprocess.CompletedProcess[str]]:
    """Type status for ten queued trials of each array; Slurm knows the first arrays only."""
    sweep = make_sweep(str(folder / "results" / "demo"))
    (folder / "slurm/calls").mkdir(parents=True)
    (folder / "slurm/jobs").mkdir()
    with contextlib.closing(JournalWriter(sweep, time.time())) as journal:
        for number, cluster in enumerate(clusters):
            names = [f"{number * 10 + i:05d}-aaaa" for i in range(10)]
            for name in names:
                add_trial(sweep, name, {"lr": 1})
            token = f"demo-20260101-00000{number}"
            intent = {"token": token, "executor": "slurm", "cluster": cluster, "trials": names}
            journal.write("intent", **intent, by={}, partition="cpu", gpus=0, throttle=None)
            journal.write("submitted", token=token, job_id=str(100 + number))
            if number < n_known:
                job = f"{token} 0 9 {os.getuid()} 0\n"
                (folder / f"slurm/jobs/{100 + number}").write_text(job)
    (folder / "bin").mkdir()
    counted = folder / "bin/scontrol"
    counted.write_text(
        f'#!/bin/sh\necho >> "$FAKE_SLURM_DIR/calls/scontrol.$$"\nexec {FAKE_SLURM}/scontrol "$@"\n'
    )
    counted.chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{folder}/bin:{FAKE_SLURM}:{os.environ['PATH']}",
        "FAKE_SLURM_DIR": str(folder / "slurm"),
    }
    words = ["status", "demo", "--json", "--results", str(folder / "results")]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=env,
    )
    calls: dict[str, int] = {}
    for entry in os.listdir(folder / "slurm/calls"):
        name = entry.partition(".")[0]
        calls[name] = calls.get(name, 0) + 1
    return calls, done

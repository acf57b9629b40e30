"""Planted links, foreign pickles, secrets and odd environments."""

from __future__ import annotations

import ast
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters.journal import read_journal
from orchestrator.contract.errors import CorruptRecord, UserError
from orchestrator.usecases import workspace
from tests.faults.prompt import SPEC, clean_environ, finish, make_project, start_attempt, type_
from tests.faults.prompt import make_trial as make_bare_trial
from tests.trial_writer import make_sweep

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path)


def victim(folder: Path) -> Path:
    """A file of ours that a planted link would make us overwrite."""
    path = folder / "precious"
    path.write_text("precious")
    return path


# --- E8: links planted where we write or read ---


@pytest.mark.parametrize(
    "name",
    ["journal.jsonl", "journal.lock", "sweep.yaml", "sweep.json", "leaderboard.csv"]
    + ["leaderboard.md", ".cache/trials.jsonl", ".cache/leaderboard.json"],
)
def test_e08_link_in_the_place_of_a_file_of_the_sweep_is_not_followed(
    project: Path, name: str
) -> None:
    precious = victim(project)
    type_(project, "submit", "sweep.yaml", "a=1")
    path = project / "results/sweep" / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(precious)
    for words in (["submit", "sweep.yaml"], ["collect"], ["status"]):
        done = type_(project, *words)
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert str(path) in done.stderr
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("name", ["journal.jsonl", "journal.lock", "sweep.json", "sweep.yaml"])
@pytest.mark.timeout(200)
def test_e08_pipe_in_the_place_of_a_file_of_the_sweep_is_not_waited_for(
    project: Path, name: str
) -> None:
    type_(project, "submit", "sweep.yaml", "a=1")
    path = project / "results/sweep" / name
    path.unlink()
    os.mkfifo(path)
    done = type_(project, "submit", "sweep.yaml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert str(path) in done.stderr


@pytest.mark.parametrize("name", ["params.json", "trial.sbatch", "log"])
def test_e08_link_in_the_place_of_a_file_of_a_trial_is_not_followed(
    project: Path, name: str
) -> None:
    precious = victim(project)
    (project / "count.sh").write_text("exit 3\n")
    type_(project, "submit", "sweep.yaml", "a=1")
    (trial,) = (project / "results/sweep/trials").iterdir()
    (trial / name).unlink()
    (trial / name).symlink_to(precious)
    done = type_(project, "submit", "sweep.yaml", "a=1", "--retry-failed")
    assert "Traceback" not in done.stderr
    assert precious.read_text() == "precious"


@pytest.mark.parametrize(
    "name", ["result.json", "metrics.jsonl", "attempts/1.json", "attempts/2.json"]
)
def test_e08_link_planted_in_a_trial_is_not_written_through(tmp_path: Path, name: str) -> None:
    precious = victim(tmp_path)
    trial = make_bare_trial(tmp_path)
    (trial / "attempts").mkdir()
    (trial / name).symlink_to(precious)
    code, output = finish(start_attempt(trial, "true"))
    assert "Traceback" not in output
    assert precious.read_text() == "precious"
    if name.startswith("metrics"):
        result = json.loads((trial / "result.json").read_text())
        assert (code, result["metrics"]) == (0, {})


def test_e08_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    sweep = make_sweep(str(tmp_path / "theirs"))
    os.chmod(sweep.root, 0o755)
    os.chown(sweep.root, NOBODY, NOBODY)
    for step in (workspace.open_sweep, workspace.create_sweep):
        with pytest.raises(UserError, match="belongs to another user"):
            step(str(tmp_path), "theirs")
    (tmp_path / "mine").symlink_to(sweep.root)
    os.lchown(tmp_path / "mine", NOBODY, NOBODY)
    with pytest.raises(UserError, match="belongs to another user"):
        workspace.create_sweep(str(tmp_path), "mine")


def test_e08_unreadable_journal_is_not_an_empty_one(tmp_path: Path) -> None:
    sweep = make_sweep(str(tmp_path / "demo"))
    os.mkdir(sweep.journal)
    with pytest.raises(CorruptRecord, match="what was submitted is unknown"):
        read_journal(sweep)


# --- E9: pickles ---

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def test_e09_nothing_of_ours_can_unpickle() -> None:
    for path in (ROOT / "orchestrator").rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            found = {name.partition(".")[0] for name in names} & (
                UNPICKLERS | {"read_pickle", "allow_pickle", "unsafe_load", "DelayedSubmission"}
            )
            assert not found, f"{path}: {found}"


POISON = """\
import pickle, _pickle, sys
def refuse(*args, **kwargs):
    sys.stderr.write("UNPICKLED\\n")
    sys.stderr.flush()
    raise SystemExit(99)
pickle.load = pickle.loads = pickle.Unpickler = refuse
_pickle.load = _pickle.loads = _pickle.Unpickler = refuse
"""


def test_e09_pickles_planted_in_the_sweep_are_never_loaded(project: Path) -> None:
    """A whole sweep, and one submission by submitit, with every way to unpickle made a trap."""
    (project / "poison").mkdir()
    (project / "poison/sitecustomize.py").write_text(POISON)
    path = f"{project / 'poison'}:{ROOT}"
    evil = b"cos\nsystem\n(S'touch pwned'\ntR."
    assert type_(project, "submit", "sweep.yaml", "a=1", PYTHONPATH=path).returncode == 0
    for folder in list((project / "results").rglob("*/")):
        for name in ("submitted.pkl", "0_0_result.pkl", "1_submitted.pkl", "x.pickle"):
            (folder / name).write_bytes(evil)
    for words in (["submit", "sweep.yaml"], ["status"], ["collect"]):
        done = type_(project, *words, PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
        assert "UNPICKLED" not in done.stderr
    folder = fake_slurm(project)
    done = type_(
        project,
        *("submit", "sweep.yaml", "--cluster", "slurm", "--results", "other"),
        PYTHONPATH=path,
        PATH=f"{folder}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "sbatch.argv").exists()
    assert not list(project.rglob("pwned"))


def fake_slurm(project: Path) -> Path:
    """Put commands into a folder that answer like a Slurm that takes one array as job 42."""
    folder = project / "bin"
    folder.mkdir()
    commands = {
        "sbatch": 'if [ "$1" = --version ]; then echo slurm 22; exit; fi\n'
        f'printf "%s\\n" "$@" > {folder}/sbatch.argv; env -0 > {folder}/sbatch.env\necho 42',
        "srun": "exit 0",
        "sinfo": "echo cpu",
        "squeue": "exit 0",
        "sacct": "exit 0",
        "scontrol": "echo ClusterName = c",
    }
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


# --- E16: secrets; what Slurm shows of a job is in tests/cluster ---


def test_e16_secret_is_in_private_files_only(project: Path) -> None:
    secret = "hunter2-secret"
    folder = fake_slurm(project)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True, timeout=120)
    (project / "code.py").write_text("x = 1\n")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["add", "code.py"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *words], cwd=project, check=True, timeout=120)
    (project / "code.py").write_text(f"key = '{secret}'\n")
    (project / "sweep.yaml").write_text(SPEC + f"  api_key: [{secret}]\n")
    done = type_(
        project,
        *("submit", "sweep.yaml", "--cluster", "slurm"),
        PATH=f"{folder}:{os.environ['PATH']}",
    )
    assert done.returncode == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    assert secret not in (folder / "sbatch.argv").read_text()
    script = Path((folder / "sbatch.argv").read_text().splitlines()[-1])
    assert secret not in script.read_text(), "sbatch gets no value of a parameter"
    root = project / "results/sweep"
    assert secret in "".join(p.read_text() for p in (root / "code").glob("*.patch")), (
        "git's difference"
    )
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    for path in root.rglob("*"):
        shared = path.stat().st_mode & 0o077
        if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
            assert not shared, path
    for path in (project / "results").rglob("*"):
        assert secret not in path.name


# --- E17: odd environments ---


def test_e17_variables_of_an_enclosing_job_do_not_reach_sbatch(project: Path) -> None:
    folder = fake_slurm(project)
    hostile = {
        "SBATCH_PARTITION": "hi",
        "SBATCH_ARRAY_INX": "0-9",
        "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_CONF": "/etc/kept.conf",
        "SQUEUE_FORMAT": "%all",
        "SACCT_FORMAT": "x",
        "SINFO_FORMAT": "x",
    }
    done = type_(
        project,
        *("submit", "sweep.yaml", "--cluster", "slurm"),
        PATH=f"{folder}:{os.environ['PATH']}",
        **hostile,
    )
    assert done.returncode == 0, done.stderr
    lines = (folder / "sbatch.env").read_bytes().split(b"\0")
    seen = dict(line.decode().split("=", 1) for line in lines if b"=" in line)
    assert {name: seen.get(name) for name in hostile} == {
        **dict.fromkeys(hostile),
        "SLURM_CONF": "/etc/kept.conf",
    }


@pytest.mark.parametrize(
    "odd",
    [
        {"HOME": None},
        {"HOME": "/nonexistent"},
        {"TMPDIR": "/nonexistent"},
        {"LANG": "tr_TR.ISO-8859-9", "LC_ALL": "tr_TR.ISO-8859-9"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": "nonsense", "COLUMNS": "3"},
        {"USER": None, "LOGNAME": None, "SHELL": None},
        {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"},
        {"IFS": "/", "CDPATH": "/", "BASH_ENV": "/nonexistent", "POSIXLY_CORRECT": "1"},
    ],
    ids=lambda odd: "-".join(odd),
)
def test_e17_odd_environment_runs_a_sweep_all_the_same(
    project: Path, odd: dict[str, str | None]
) -> None:
    (project / "sweep.yaml").write_text(
        SPEC.replace("[1, 2, 3]", "['\u4e2d\u6587 \U0001f642']"), encoding="utf-8"
    )
    environ = {**clean_environ(), **odd}
    for words in (["submit", "sweep.yaml"], ["status"], ["collect"], ["submit", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *words],
            cwd=project,
            env={name: value for name, value in environ.items() if value is not None},
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
        assert b"Traceback" not in done.stderr

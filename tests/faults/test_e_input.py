"""Names, YAML, CSV and escape codes that somebody odd or hostile wrote."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.adapters import slurm_cli
from orchestrator.adapters.executors.slurm import ScriptExecutor
from orchestrator.adapters.journal import lock
from orchestrator.adapters.leaderboard_files import format_csv
from orchestrator.adapters.slurm_cli import TaskState
from orchestrator.contract.errors import SpecError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.states import SlurmState
from orchestrator.domain.spec_loader import load_spec, safe_name
from orchestrator.domain.yaml_composer import MAX_TEXT_CHARS, parse_tree
from orchestrator.usecases import workspace
from orchestrator.usecases.collect import collect
from orchestrator.usecases.scripts import slug
from tests.faults.prompt import SPEC, make_project, type_
from tests.trial_writer import add_trial, ended, make_sweep, write

HEAD = "program: count.sh\nmetric: {name: loss, goal: minimize}\npartition: cpu\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ESCAPES = "\x1b[2J\x1b]8;;http://evil\x07click\x1b]8;;\x07\x9b31m\u202egnp\x08\x00\r\u2066x\u2029"


def harmless(text: str) -> bool:
    """Whether a terminal shows what is written, in the order in which it is written."""
    return all(char.isprintable() or char in "\n\t" for char in text)


# --- E7: names ---


@pytest.mark.parametrize(
    "name",
    ["../../etc", "/etc/passwd", "a/../..", "..", ".", "a\\b", "x" * 5000, "end.", "~root", "-rf"]
    + ["con:aux", "a\u202eb", "a b", "\u4e2d\u6587" * 100],
)
def test_e07_name_stays_inside_the_results_folder(tmp_path: Path, name: str) -> None:
    try:
        spec = load_spec(f"{HEAD}name: {json.dumps(name)}\nparameters: {{a: [1]}}\n", file="x.yaml")
    except SpecError:
        return  # no letter or digit in it
    root = workspace.create_sweep(str(tmp_path), spec.name).root
    assert os.path.dirname(os.path.realpath(root)) == str(tmp_path)
    assert not spec.name.startswith(("-", "."))
    assert not spec.name.endswith(".")
    assert len(spec.name.encode()) <= 100


@pytest.mark.parametrize("name", ["..", ".", "../x", "", "a/b", "/etc"])
def test_e07_sweep_of_a_foreign_name_is_not_opened(tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    (results / "trials").mkdir(parents=True)
    (tmp_path / "x/trials").mkdir(parents=True)
    with pytest.raises(UserError, match="no sweep"):
        workspace.open_sweep(str(results), name)


def test_e07_two_specs_of_one_name_do_not_become_one_sweep(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        make_project(tmp_path / side)
    (tmp_path / "b/sweep.yaml").write_text(SPEC.replace("[1, 2, 3]", "[7]"))
    words = ("--results", str(tmp_path / "results"))
    assert type_(tmp_path / "a", "submit", "sweep.yaml", *words).returncode == 0
    for more in ((), ("--dry-run",)):
        done = type_(tmp_path / "b", "submit", "sweep.yaml", *words, *more)
        assert done.returncode == 2
        assert f"was made from {tmp_path}/a/sweep.yaml; give this one a name: of its own" in (
            done.stderr
        )
    assert len(list((tmp_path / "results/sweep/trials").iterdir())) == 3


def test_e07_spec_that_was_edited_copied_or_moved_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    make_project(tmp_path / "a")
    words = ("--results", str(tmp_path / "results"))
    type_(tmp_path / "a", "submit", "sweep.yaml", *words)
    (tmp_path / "a/sweep.yaml").write_text(SPEC.replace("3]", "4]"))
    assert "ran: 1" in type_(tmp_path / "a", "submit", "sweep.yaml", *words).stdout, "edited"
    (tmp_path / "b").mkdir()
    make_project(tmp_path / "b", spec=SPEC.replace("3]", "4]"))
    assert "ran: 0" in type_(tmp_path / "b", "submit", "sweep.yaml", *words).stdout, "copied"
    (tmp_path / "b/sweep.yaml").unlink()
    (tmp_path / "a/sweep.yaml").write_text(SPEC.replace("3]", "5]"))
    assert "ran: 1" in type_(tmp_path / "a", "submit", "sweep.yaml", *words).stdout, "moved"


def test_e07_case_fold_twins_are_told_apart_or_refused(tmp_path: Path) -> None:
    for name in ("A", "a"):
        (tmp_path / f"{name}.yaml").write_text(SPEC.replace("[1, 2, 3]", f"[{ord(name)}]"))
    (tmp_path / "count.sh").write_text("")
    codes = [type_(tmp_path, "submit", f"{name}.yaml").returncode for name in ("A", "a")]
    if os.path.exists(tmp_path / "results/a") and os.listdir(tmp_path / "results") == ["A"]:
        assert codes == [0, 2]  # a file system that does not tell them apart
    else:
        assert codes == [0, 0]
        assert len(list((tmp_path / "results").glob("?/trials/*"))) == 2


# --- E11: formulas ---


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b"])
def test_e11_formula_is_disarmed_in_cells_and_titles(tmp_path: Path, sign: str) -> None:
    text = f'{sign}cmd|"/C calc",;\n!A0'
    sweep = make_sweep(str(tmp_path / "demo"), parameters=("lr", sign + "x"))
    for number, value in enumerate([text, "plain"], start=1):
        params = {"lr": value, sign + "x": number}
        add_trial(sweep, f"{number:05d}-aaaa", params, {"loss": -number, sign + "m": value})
    rows = list(csv.reader(io.StringIO(format_csv(collect(sweep, {}, {}, NOW).rows), newline="")))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell[:1] == sign and not is_number(cell)]
    assert "'" + text in cells
    assert len({len(row) for row in rows}) == 1
    assert "-2" in cells, "numbers are left alone"


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# --- E12: YAML that explodes ---


def yaml_bombs() -> dict[str, str]:
    size = MAX_TEXT_CHARS - 10
    laughs = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], y: *a{n - 1}}}\n"
        for n in range(1, 30)
    )
    units = {
        "flow lists": "[",
        "flow maps": "{",
        "lists": "- ",
        "keys": "? ",
        "tags": "!",
        "anchors": "&",
        "aliases": "*",
        "quotes": "'",
        "lines": "\n",
        "comments": "#\n",
        "documents": "---\n",
        "directives": "%A b\n",
        "escapes": "\\",
        "empty items": "-\n",
    }
    whole = {name: (unit * size)[:size] for name, unit in units.items()}
    rows = {
        "numbers": "[" + "1," * (size // 2 - 1) + "]",
        "keys of one map": "\n".join(f"k{n}: 1" for n in range(90_000)),
        "long tag": "a: !" + "x" * (size - 10),
        "long anchor": "a: &" + "x" * (size - 10),
        "long plain text": "a: " + "x " * (size // 2 - 5),
        "cross product": "program: x\npartition: cpu\nparameters:\n"
        + "".join(f"  p{n}: {list(range(100))}\n" for n in range(30)),
        "long expression": "program: x\nparameters: {a: [1]}\nwhere: ['" + "(" * 1900 + "']",
        "power": "program: x\nparameters: {a: [1]}\nderived: {b: '9**9**9**9'}",
    }
    return {**whole, **rows, "laughs": laughs, "merges": merges}


@pytest.mark.parametrize("name", yaml_bombs())
def test_e12_yaml_bomb_is_refused_in_bounded_time_and_memory(tmp_path: Path, name: str) -> None:
    text = yaml_bombs()[name]
    assert len(text) <= MAX_TEXT_CHARS
    (tmp_path / "x.yaml").write_text(text)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))

    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "submit", "x.yaml", "--dry-run"],
        cwd=tmp_path,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr[-500:]
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 1000


@pytest.mark.parametrize("text", ["!" * 40_000, "a: !" + "x" * 40_000, "a: [b, !<" + "y" * 40_000])
def test_e12_tag_without_end_is_refused_before_it_is_parsed(text: str) -> None:
    """The YAML library takes quadratic time for it: 14 s for a megabyte."""
    with pytest.raises(SpecError, match="a word of more than 32000 characters after '!'"):
        parse_tree(text, file="f")


# --- E13: what YAML 1.1 read differently ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("no", "no"),
        ("on", "on"),
        ("12:30:45", "12:30:45"),
        ("2026-01-02", "2026-01-02"),
        ("0o10", 8),
        ("1.", 1.0),
        (".5", 0.5),
        ("~", None),
        ("=", "="),
    ],
)
def test_e13_scalar_means_what_it_looks_like(text: str, value: object) -> None:
    node = parse_tree(f"x: {text}\n", file="f")
    assert node is not None
    assert isinstance(node.value, dict)
    assert node.value["x"].value == value
    assert type(node.value["x"].value) is type(value)


@pytest.mark.parametrize(
    "text", ["x: 010", "x: 1_000", "x: 1\nx: 2", "a: {x: 1, x: 2}", "x: .nan", "x: !!python/none a"]
)
def test_e13_ambiguous_or_double_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(SpecError, match=r"^f:\d: "):
        parse_tree(text, file="f")


# --- E14, E15, E18: what Slurm gets and gives back ---


@pytest.mark.parametrize("name", ["sw\u00e9\u00e9p \U0001f642", "\u4e2d\u6587", "\u0645\u0631"])
def test_e14_unicode_name_is_kept_and_slurm_gets_an_ascii_token(tmp_path: Path, name: str) -> None:
    make_project(tmp_path, SPEC + f"name: {json.dumps(name)}\n")
    done = type_(tmp_path, "submit", "sweep.yaml", "a=1")
    assert done.returncode == 0, done.stderr
    assert os.path.isdir(tmp_path / "results" / safe_name(name))
    token = slug(name)
    assert token.isascii()
    assert len(token) <= 40
    assert all(char.isalnum() or char == "-" for char in token)


def test_e15_separator_or_line_break_in_a_reason_hides_no_task() -> None:
    text = "12|0|t|PENDING||held | by\nadmin|for|5|days|x\n12|1|t|RUNNING|n1|None\n"
    tasks = slurm_cli.parse_squeue(text)
    assert tasks["t", 0] == TaskState(SlurmState.PENDING, "held | by", "", "12_0")
    assert tasks["t", 1] == TaskState(SlurmState.RUNNING, "None", "n1", "12_1")


def test_e15_job_of_another_user_with_our_name_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(slurm_cli, "query", lambda argv: asked.append(list(argv)) or "")
    slurm_cli.queued_tasks(["t"])
    slurm_cli.queued_job_ids("t")
    slurm_cli.accounted_tasks(["t"], "now")
    slurm_cli.accounted_job_ids("t", "now")
    mine = f"--user={os.getuid()}"
    assert [mine in argv for argv in asked] == [True] * 4


@pytest.mark.parametrize(
    ("answer", "job_id"),
    [
        ("42\n", "42"),
        ("42;cluster\n", "42"),
        ("Welcome! 3 messages\nTotal: 7\n42\n", "42"),
        ("42\nsbatch: lua: submitted to 2 partitions\n", "42"),
        ("42 on cluster 7\n43;c\n", "43"),
    ],
)
def test_e18_noise_around_the_job_id_is_read_over(answer: str, job_id: str) -> None:
    assert ScriptExecutor._get_job_id_from_submission_command(answer) == job_id


# --- E20: escape codes ---


def test_e20_escape_codes_of_a_trial_reach_no_terminal(tmp_path: Path) -> None:
    make_project(tmp_path)
    assert type_(tmp_path, "submit", "sweep.yaml", "a=1").returncode == 0
    sweep = SweepPaths(str(tmp_path / "results/sweep"))
    with lock(sweep) as writer:
        writer.write("intent", token=ESCAPES, executor="local", trials=[ESCAPES, "00009-aaaa"])
    with open(sweep.journal, "ab") as file:
        file.write(f'{{"kind": "{ESCAPES}"\n'.encode())
    (tmp_path / "results/sweep/trials" / ESCAPES.replace("/", "").replace("\0", "")).mkdir()
    for number, outcome in enumerate(["failed", "preempted", None], start=7):
        name = f"{number:05d}-aaaa"
        end = ended(name, outcome=outcome, cause=ESCAPES, node=ESCAPES, requeue=ESCAPES)
        trial = add_trial(sweep, name, {"a": ESCAPES, ESCAPES: 1}, attempts=[end])
        write(trial.log, (ESCAPES + "\n").encode() * 3)
        write(trial.metrics, json.dumps({ESCAPES: ESCAPES, "loss": ESCAPES}).encode() + b"\n")
    add_trial(sweep, "00011-aaaa", {"a": ESCAPES}, {"loss": ESCAPES, ESCAPES: ESCAPES})
    write(sweep.trial("00012-aaaa").result, b'{"metrics": {"\x1b[2J": 1, "\x1b[2J": 2}}')
    for words in (["status", "--all"], ["collect"], ["status", "--json"], ["collect", "--json"]):
        done = type_(tmp_path, *words)
        assert done.returncode in (0, 1), done.stderr
        assert harmless(done.stdout), words
        assert harmless(done.stderr), words
    assert "click" in type_(tmp_path, "status").stdout, "the text itself stays"
    board = (tmp_path / "results/sweep/leaderboard.md").read_text()
    assert "\x1b" not in board
    assert "\u202e" not in board


def test_e20_escape_codes_in_errors_and_dry_runs_reach_no_terminal(tmp_path: Path) -> None:
    make_project(tmp_path)
    text = ESCAPES.replace("\0", "").replace("\r", "")
    for words in (
        ["submit", "sweep.yaml", "--dry-run", f"a={json.dumps(text)}"],
        ["submit", text + ".yaml"],
        ["submit", "sweep.yaml", f"{text}=1"],
        ["submit", "sweep.yaml", f"partition={text}"],
        ["status", text],
        ["status", f"{text}=1"],
        ["collect", f"--{text}"],
        ["collect", "--results", text],
        [text],
    ):
        done = type_(tmp_path, *words)
        assert harmless(done.stdout), words
        assert harmless(done.stderr), words


def test_e20_escape_codes_of_slurm_and_git_reach_no_terminal(tmp_path: Path) -> None:
    make_project(tmp_path, SPEC.replace("cluster: local", "cluster: slurm"))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {
        "sbatch": 'if [ "$1" = --version ]; then echo slurm 22; exit; fi\n'
        'printf "sbatch: error: no \\033[2J\\033]8;;x\\007 \\342\\200\\256 rtl\\n" >&2; exit 1',
        "srun": "exit 0",
        "sinfo": "echo cpu",
        "squeue": 'printf "squeue: \\033[2Jaway\\n" >&2; exit 1',
        "sacct": "exit 1",
        "scontrol": "echo ClusterName = c",
        "git": 'printf "fatal: detected dubious ownership \\033[2J\\n" >&2; exit 128',
    }.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    done = type_(tmp_path, "submit", "sweep.yaml", PATH=path)
    assert done.returncode == 2
    assert "sbatch: no" in done.stderr
    assert "the code is not recorded, git says" in done.stderr or "dubious" not in done.stderr
    assert harmless(done.stdout + done.stderr)
    for words in (["status"], ["collect"]):
        done = type_(tmp_path, *words, PATH=path)
        assert harmless(done.stdout + done.stderr), words

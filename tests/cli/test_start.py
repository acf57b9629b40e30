"""How the command starts: closed standard streams, and Ctrl-C before anything is read."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orchestrator import __main__ as entry
from tests.trial_writer import add_trial, make_sweep

ROOT = Path(__file__).parents[2]
CLOSED = ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
# Ctrl-C as a module of the command line is about to be read.
INTERRUPT = """\
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "orchestrator.cli.json_output":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs behind a shell ignores it
sys.meta_path.insert(0, Interrupt())
sys.argv = ["orchestrator", "--version"]
"""


def type_(folder: Path, words: str) -> tuple[int, str, str]:
    ended = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m orchestrator {words}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sweep = make_sweep(str(tmp_path / "results" / "demo"))
    os.chmod(sweep.root, 0o700)
    add_trial(sweep, "00001-aaaa", {"lr": 1}, {"loss": 0.5})
    return tmp_path


@pytest.mark.parametrize("closed", CLOSED)
def test_collect_does_its_work_without_standard_streams(folder: Path, closed: str) -> None:
    code, out, err = type_(folder, f"collect demo {closed}")
    assert (code, err) == (0, "")
    assert bool(out) is (">&-" not in closed.split()), "all of it, or what was closed"
    table = (folder / "results/demo/leaderboard.csv").read_text()
    assert table.count("\n") == 2
    assert "First place" not in table


@pytest.mark.parametrize(
    "words",
    ["status demo", "costs demo --json", "watch demo --once", "logs demo --trial 1", "--help"],
)
def test_command_with_closed_stdout_says_nothing_of_it(folder: Path, words: str) -> None:
    code, out, err = type_(folder, f"{words} >&-")
    assert code in (0, 2), err
    assert out == ""
    assert "Traceback" not in err
    assert "NoneType" not in err


@pytest.mark.parametrize(
    "start",
    [
        'runpy.run_module("orchestrator", run_name="__main__")',
        "from orchestrator.__main__ import main; main()",  # as the installed script does
    ],
)
def test_interrupt_while_modules_are_read_is_one_line(start: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPT + start],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "orchestrator: interrupted\n"


def test_installed_script_starts_where_interrupts_are_met() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert scripts == {"orchestrator": f"{entry.__name__}:{entry.main.__name__}"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["status demo", "costs demo", "collect demo"])
def test_command_names_standard_output_where_its_disk_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code, _, err = type_(folder, f"{words} > /dev/full")
    assert code == 2
    assert err.startswith("orchestrator: standard output: No space left on device; ")

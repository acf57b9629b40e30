"""What `watch` prints where there is no terminal, and what it does to one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters import journal
from orchestrator.cli import watch
from orchestrator.contract import records
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import dump_record
from tests.adapters.fake_slurm import FakeSlurm
from tests.trial_writer import add_trial, claim, ended, make_sweep, write, write_result
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
NAMES = ["00000-aaaa", "00001-aaaa"]
# Only ends a test that would hang.
BOUND_S = 120.0


def make(tmp_path: Path, is_failed: bool = False) -> SweepPaths:
    """Make a sweep with a done trial, and one that runs or failed."""
    sweep = make_sweep(str(tmp_path / "s"))
    os.chmod(sweep.root, 0o700)
    add_trial(sweep, NAMES[0], {"lr": 1}, {"loss": 0.5})
    end = ended(NAMES[1], 1, records.FAILED, kind="error", cause="exit code 1: \x1b[2J[b]no")
    running = claim(NAMES[1], token=None)
    trial = add_trial(sweep, NAMES[1], {"lr": 2}, attempts=[end if is_failed else running])
    # Its heartbeat stays fresh, however slow the machine is.
    os.utime(trial.attempt(1), (time.time() + 3600, time.time() + 3600))
    return sweep


def end_it(sweep: SweepPaths) -> None:
    write_result(sweep.trial(NAMES[1]), {"loss": 0.25}, [ended(NAMES[1])])


def test_ended_sweep_is_told_once_and_watch_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, is_failed=True)
    assert watch.run(["s", "--results", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^\S+Z ", "", line) for line in lines] == [
        "s: 1 done, 1 failed; every trial has ended; 4 GPU-hours, 10.00 EUR; "
        "best so far: loss 0.5 (minimize), trial 00000: lr=1",
        "failed: error: exit code 1: [b]no",
    ]


def test_once_says_where_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path)
    assert watch.run(["s", "--results", str(tmp_path), "--once"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("s: 1 running, 1 done; about ")
    assert "\x1b" not in out


def test_once_as_json_names_its_schema_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make(tmp_path)
    Path(sweep.trial(NAMES[1]).metrics).write_text('{"step": 3, "loss": NaN}\n')
    assert watch.run(["s", "--results", str(tmp_path), "--once", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found.items())) == ("schema", "orchestrator.watch/1")
    assert found["counts"] == {"running": 1, "done": 1}
    assert [row["trial"] for row in found["running"]] == [NAMES[1]]
    assert (found["running"][0]["step"], found["running"][0]["value"]) == (3, "nan")
    assert found["best"]["trial"] == NAMES[0]


def test_quiet_watch_prints_changes_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make(tmp_path)
    n_pauses = 0

    def pause(seconds: float) -> None:
        nonlocal n_pauses
        n_pauses += 1
        assert seconds >= 5
        if n_pauses == 3:
            end_it(sweep)

    monkeypatch.setattr(time, "sleep", pause)
    assert watch.run(["s", "--results", str(tmp_path), "--interval", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert n_pauses == 3
    assert [line.partition(" s: ")[2].partition(";")[0] for line in lines] == [
        "1 running, 1 done",
        "2 done",
    ]


def test_looks_are_rarer_when_they_take_long_or_fail() -> None:
    pause = watch.pause_after
    assert pause(0.1, 10, False, 10) == 10
    assert pause(6, 10, False, 10) == pytest.approx(54)
    assert pause(0.1, 10, True, 10) == 20
    assert pause(0.1, 10, True, 250) == 300
    assert pause(60, 10, True, 300) == 300
    assert pause(0.1, 3600, True, 3600) == 3600


# --- on a terminal -------------------------------------------------------------------------------


class Terminal:
    """A pretended terminal with `watch` in it."""

    def __init__(
        self, folder: Path, lines: int, columns: int, before: tuple[str, ...] = (), **environ: str
    ):
        self.master, slave = pty.openpty()
        self.seen = b""
        self.resize(lines, columns)
        words = ["watch", "s", "--results", str(folder), "--interval", "1"]
        # Of this terminal, not of who runs the tests: pytest's workers have a COLUMNS of their own.
        ours = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "orchestrator", *words],
            cwd=ROOT,
            env={**ours, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read_until(self, is_there: Callable[[bytes], bool]) -> bytes:
        """Read what is drawn until something is there; returns what came since the last time."""
        deadline = time.monotonic() + BOUND_S
        new = b""
        while not is_there(new):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.master], [], [], max(0.0, left))
            if not ready:
                raise TimeoutError(f"not there within {BOUND_S} s: {new[-4000:]!r}")
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the last process on it has ended
                data = b""
            if not data:
                break
            new += data
        self.seen += new
        return new

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        self.read_until(lambda new: False)
        return self.process.wait(timeout=BOUND_S)


Start = Callable[..., Terminal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Terminal] = []

    def begin(lines: int = 24, columns: int = 80, **more: Any) -> Terminal:
        started.append(Terminal(tmp_path, lines, columns, **more))
        return started[-1]

    yield begin
    for terminal in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
        with contextlib.suppress(OSError):
            os.close(terminal.master)


ENTERS, LEAVES, SHOWS = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.mark.parametrize("how", ["q", "Ctrl-C", "SIGTERM", "SIGHUP"])
def test_leaving_restores_the_terminal(tmp_path: Path, start: Start, how: str) -> None:
    make(tmp_path)
    terminal = start()
    terminal.read_until(lambda new: b"s ago; q leaves" in new)
    assert ENTERS in terminal.seen
    if how.startswith("SIG"):
        terminal.process.send_signal(signal.Signals[how])
    else:
        terminal.type(b"q" if how == "q" else b"\x03")
    new = terminal.read_until(lambda new: b"1 running, 1 done" in new.partition(LEAVES)[2])
    assert LEAVES in new
    assert SHOWS in new, "the cursor is shown again"
    assert terminal.end() == 0


def test_terminals_mode_is_restored(tmp_path: Path, start: Start) -> None:
    make(tmp_path)
    mode = f'stty -a > "{tmp_path}/mode"; exit'
    terminal = start(before=("bash", "-c", f'"$@"; {mode}', "bash"))
    terminal.read_until(lambda new: b"s ago; q leaves" in new)
    assert not termios.tcgetattr(terminal.master)[3] & termios.ICANON, "keys come one by one"
    terminal.type(b"q")
    terminal.end()
    words = (tmp_path / "mode").read_text().split()
    assert ("icanon" in words, "echo" in words, "isig" in words) == (True, True, True)


def test_screen_follows_the_size_of_the_terminal(tmp_path: Path, start: Start) -> None:
    make(tmp_path)
    terminal = start(24, 80)
    first = terminal.read_until(lambda new: b"s ago; q leaves" in new)
    assert NAMES[1].encode() not in first, "there is room for its number only"
    terminal.resize(60, 200)
    terminal.read_until(lambda new: NAMES[1].encode() in new)
    terminal.type(b"q")
    assert terminal.end() == 0


def test_live_watch_ends_with_the_sweep(tmp_path: Path, start: Start) -> None:
    sweep = make(tmp_path)
    terminal = start()
    terminal.read_until(lambda new: b"s ago; q leaves" in new)
    end_it(sweep)
    assert terminal.end() == 0
    assert b"2 done; every trial has ended" in terminal.seen.rpartition(LEAVES)[2]


def test_keys_are_heard_while_slurm_is_slow(tmp_path: Path, start: Start) -> None:
    sweep = make(tmp_path)
    with journal.lock(sweep) as writer:
        writer.write("intent", token="t", executor="slurm", cluster="c", trials=NAMES)
        writer.write("submitted", token="t", job_id="7")
    slurm = FakeSlurm(tmp_path / "bin", "", "")
    slurm.answer("squeue", "exec sleep 600")
    terminal = start(PATH=slurm.path)
    wait_until(slurm.calls, on_timeout=terminal.process.poll)
    terminal.read_until(lambda new: b"looking; q leaves" in new)
    terminal.type(b"q")
    assert terminal.end() == 0, "it did not wait for squeue"


def test_mistake_leaves_the_terminal_alone(tmp_path: Path, start: Start) -> None:
    terminal = start()
    assert terminal.end() == 2
    assert b"no sweep 's'" in terminal.seen
    assert ENTERS not in terminal.seen


def test_dumb_terminal_gets_lines(tmp_path: Path, start: Start) -> None:
    make(tmp_path, is_failed=True)
    terminal = start(TERM="dumb")
    assert terminal.end() == 1
    assert b"1 done, 1 failed" in terminal.seen
    assert b"\x1b" not in terminal.seen


def test_no_color_is_kept_to(tmp_path: Path, start: Start) -> None:
    make(tmp_path)
    terminal = start(NO_COLOR="1")
    terminal.read_until(lambda new: b"s ago; q leaves" in new)
    terminal.type(b"q")
    terminal.end()
    colors = re.findall(rb"\x1b\[[0-9;]*m", terminal.seen)
    assert not [code for code in colors if re.search(rb"\b(3[0-7]|4[0-7]|9[0-7])\b", code)]


def test_broken_record_is_named_and_hides_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make(tmp_path)
    write(sweep.trial(NAMES[1]).attempt(2), b"{")
    write(sweep.trial(NAMES[0]).result, dump_record({"trial": "other"}))
    assert watch.run(["s", "--results", str(tmp_path), "--once"]) == 0
    assert capsys.readouterr().out.startswith("s: ")

"""``orchestrator doctor`` as a person types it: without Slurm, and with commands that answer."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.fake_slurm import FakeSlurm
from tests.domain import sites

ROOT = Path(__file__).parents[2]
PROFILES = """\
spot: {preemptible: true, template: base.sbatch.j2, signal_before_end_s: 20}
gpu: {slurm_partition: a100, template: base.sbatch.j2}
"""


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "partitions.yaml").write_text(PROFILES)
    (folder / "base.sbatch.j2").write_text((ROOT / "templates/base.sbatch.j2").read_text())
    return tmp_path


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin", sites.config(), sites.PARTITIONS)


def type_(folder: Path, path: str, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "doctor", *words],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def read(folder: Path, path: str, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, err = type_(folder, path, "--json", *words)
    assert out, err
    return code, json.loads(out)


def test_doctor_without_slurm_looks_at_this_machine(templates: Path) -> None:
    nothing = templates / "empty"
    nothing.mkdir()
    code, out, err = type_(templates, str(nothing))
    assert (code, err) == (0, "")
    assert out.startswith("This machine has no Slurm: sweeps run here (`make demo`).\n")
    assert "link(2) works" in out
    assert out.endswith("all well\n")
    code, report = read(templates, str(nothing))
    assert (code, report["slurm"], report["cluster"], report["profiles"]) == (0, False, None, [])
    assert not (templates / "results").exists()


def test_doctor_names_a_profile_whose_partition_is_missing(
    templates: Path, slurm: FakeSlurm
) -> None:
    code, report = read(templates, slurm.path)
    assert code == 1
    assert set(report) == {
        "schema",
        "slurm",
        "unreachable",
        "cluster",
        "version",
        "profiles",
        "counts",
        "findings",
        "not_checked",
    }
    (problem,) = (f for f in report["findings"] if f["severity"] == "problem")
    assert problem == {
        "severity": "problem",
        "topic": "partition-missing",
        "profile": "gpu",
        "what_is": "The cluster has no partition a100; it has: cpu, ondemand, spot.",
        "what_we_do": "A sweep that names it is refused before anything is submitted.",
        "remedy": "Set `slurm_partition:` in templates/partitions.yaml, or remove the profile.",
    }
    assert report["counts"]["problem"] == 1
    assert (report["cluster"], report["version"]) == ("hpc2", "22.05.8")
    assert len(report["not_checked"]) == 5


def test_doctor_of_one_profile_leaves_the_others(templates: Path, slurm: FakeSlurm) -> None:
    code, report = read(templates, slurm.path, "spot")
    assert (code, report["profiles"]) == (0, ["spot"])
    assert {f["profile"] for f in report["findings"]} == {None, "spot"}


def test_doctor_submits_nothing_unless_asked(templates: Path, slurm: FakeSlurm) -> None:
    type_(templates, slurm.path)
    assert {call.split()[0] for call in slurm.calls()} == {"scontrol", "sacct"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spto"], "no profile 'spto' in templates; did you mean spot? it has: spot, gpu"),
        (["--wait", "long"], "use seconds, at most 86400"),
        (["--prob"], "unrecognized arguments: --prob"),
        (["--templates", "nowhere"], "nowhere/partitions.yaml: No such file"),
    ],
)
def test_doctor_mistake_is_one_line_and_exit_2(
    templates: Path, slurm: FakeSlurm, words: list[str], message: str
) -> None:
    code, out, err = type_(templates, slurm.path, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a08_doctor_of_a_controller_that_is_away_exits_3(templates: Path, slurm: FakeSlurm) -> None:
    slurm.answer(
        "scontrol", "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"
    )
    code, out, err = type_(templates, slurm.path)
    assert (code, err) == (3, "")
    assert "Slurm does not answer" in out
    assert "link(2) works" in out, "this machine is looked at all the same"
    assert read(templates, slurm.path)[1]["unreachable"].endswith("(connect failure)")


def test_a09_doctor_names_accounting_that_is_away(templates: Path, slurm: FakeSlurm) -> None:
    slurm.answer("sacct", "echo 'sacct: error: Connection refused' >&2; exit 1")
    code, report = read(templates, slurm.path, "spot")
    (finding,) = (f for f in report["findings"] if f["topic"] == "accounting")
    assert (code, finding["severity"]) == (0, "warning")
    assert "Connection refused" in finding["what_is"]


def test_doctor_piped_is_plain_and_fits_80_columns(templates: Path, slurm: FakeSlurm) -> None:
    for change in (sites.GANG, sites.NO_REQUEUE, sites.NO_ACCOUNTING, sites.CANCEL):
        (slurm.folder / "config").write_text(sites.config(**change))
        out = type_(templates, slurm.path)[1]
        assert "\x1b" not in out
        assert max(map(len, out.splitlines())) <= 80
        assert out.splitlines()[-1].startswith("1 problem, ")


def test_doctor_in_a_terminal_has_colour(templates: Path, slurm: FakeSlurm) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "doctor"],
        cwd=templates,
        env={"PATH": slurm.path, "HOME": str(templates), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 65536):
            text += chunk
    except OSError:
        pass  # Linux's way to say that the other side is closed
    os.close(ours)
    assert process.wait(timeout=120) == 1
    assert b"\x1b[1;31mproblem" in text


def test_e20_doctor_strips_escape_codes_of_what_slurm_says(
    templates: Path, slurm: FakeSlurm
) -> None:
    slurm.answer("scontrol", "printf 'error: \\033[31mred\\033[0m' >&2; exit 1")
    assert "error: red" in type_(templates, slurm.path)[1]


# --- the probe ------------------------------------------------------------------------------------

RUN_AT_ONCE = 'bash "${@: -1}" > /dev/null 2>&1; echo 7'


def test_doctor_probe_answers_and_leaves_nothing(templates: Path, slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", f'case "$1" in --version) ;; *) {RUN_AT_ONCE} ;; esac')
    code, report = read(templates, slurm.path, "spot", "--probe")
    topics = {f["topic"]: f["severity"] for f in report["findings"] if f["profile"] == "spot"}
    assert code == 0
    assert topics["probe-results"] == topics["probe-python"] == topics["probe-workdir"] == "ok"
    assert "probe-locks" not in topics, "the job sees the lock that doctor holds"
    assert report["not_checked"] == ["KillWait as the nodes really keep it", "quotas"]
    assert not (templates / "results").exists(), "what it made is gone"
    assert sum(call.startswith("scancel -n doctor-") for call in slurm.calls()) == 1


def test_doctor_probe_that_never_starts_is_cancelled(templates: Path, slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", "echo 7")
    slurm.answer("squeue", 'while [ "$1" != -n ]; do shift; done; echo "$2|PENDING|Resources"')
    code, report = read(templates, slurm.path, "spot", "--probe", "--wait", "1")
    (finding,) = (f for f in report["findings"] if f["topic"] == "probe-waiting")
    assert (code, finding["severity"]) == (0, "warning")
    assert "(it waits: Resources)" in finding["what_is"]
    assert any(call.startswith("scancel -n doctor-") for call in slurm.calls())


def test_doctor_probe_that_is_refused_says_why(templates: Path, slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", "echo 'sbatch: error: Invalid account' >&2; exit 1")
    code, report = read(templates, slurm.path, "spot", "--probe")
    (finding,) = (f for f in report["findings"] if f["topic"] == "probe-refused")
    assert (code, finding["severity"]) == (1, "problem")
    assert "Invalid account" in finding["what_is"]
    assert any(call.startswith("scancel -n doctor-") for call in slurm.calls())


def test_doctor_probe_is_cancelled_when_interrupted(templates: Path, slurm: FakeSlurm) -> None:
    slurm.answer("sbatch", 'echo 7; kill -TERM "$(ps -o ppid= -p "$PPID")"')
    slurm.answer("squeue", 'while [ "$1" != -n ]; do shift; done; echo "$2|PENDING|Resources"')
    code, out, _ = type_(templates, slurm.path, "spot", "--probe", "--wait", "50")
    assert (code, out) == (130, "")
    assert any(call.startswith("scancel -n doctor-") for call in slurm.calls())
    assert not (templates / "results").exists()

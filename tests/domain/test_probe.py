"""The probe's script, run by bash here, and what its answers mean."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.domain.finding import OK, PROBLEM, WARNING, Finding
from orchestrator.domain.partition import PartitionProfile
from orchestrator.domain.probe import ProbeResult, find_probe, parse_answer, probe_body

PROFILE = PartitionProfile("spot", "spot", "spot.sbatch.j2")
GOOD = {
    "node": "n1",
    "workdir": "77",
    "python": "3.11.2",
    "lock": "3",
    "missing": "",
    "clock": "1000.5",
    "server_clock": "1000.6",
}


def found(result: ProbeResult) -> dict[str, Finding]:
    findings = find_probe(
        PROFILE,
        result,
        python="/venv/bin/python",
        workdir="/work",
        workdir_inode=77,
        server_ahead_s=0.1,
        wait_s=120,
    )
    assert {finding.profile for finding in findings} == {"spot"}
    return {finding.topic: finding for finding in findings}


def run_body(folder: Path, workdir: str, python: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "lock").touch()
    text = probe_body(str(folder), workdir, python)
    subprocess.run(["bash"], input=text, text=True, check=True, timeout=60)
    assert not (folder / "report.new").exists()
    return parse_answer((folder / "report").read_text())


def test_probe_body_answers_what_it_sees(tmp_path: Path) -> None:
    folder = tmp_path / "it's; $(touch pwned)"
    answer = run_body(folder, str(tmp_path), sys.executable)
    assert answer["workdir"] == str(tmp_path.stat().st_ino)
    assert answer["python"] == ".".join(map(str, sys.version_info[:3]))
    assert answer["lock"] == "taken", "nobody holds it here"
    assert abs(float(answer["clock"]) - time.time()) < 60
    assert abs(float(answer["server_clock"]) - float(answer["clock"])) < 5
    assert not list(tmp_path.rglob("pwned"))


def test_probe_body_on_a_node_that_has_nothing(tmp_path: Path) -> None:
    answer = run_body(tmp_path / "a", str(tmp_path / "gone"), str(tmp_path / "no-python"))
    assert not {"workdir", "python", "import_error", "lock"} & set(answer)


def test_probe_body_with_a_python_that_lacks_us(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(
        "#!/bin/sh\necho Traceback >&2\necho 'No module named orchestrator' >&2\nexit 1\n"
    )
    bare.chmod(0o755)
    answer = run_body(tmp_path / "a", str(tmp_path), str(bare))
    assert answer["import_error"] == "No module named orchestrator"
    assert "python" not in answer


def test_find_probe_all_well() -> None:
    findings = found(ProbeResult(answer=GOOD))
    assert {finding.severity for finding in findings.values()} == {OK}
    assert set(findings) == {"probe-results", "probe-workdir", "probe-python", "probe-clock"}


@pytest.mark.parametrize(
    ("change", "topic", "severity", "words"),
    [
        ({"workdir": None}, "probe-workdir", PROBLEM, "does not see the working directory /work"),
        ({"workdir": "78"}, "probe-workdir", WARNING, "seems to be another one"),
        ({"python": None}, "probe-python", PROBLEM, "has no /venv/bin/python"),
        (
            {"python": None, "import_error": "No module named x"},
            "probe-python",
            PROBLEM,
            "does not run the orchestrator: No module named x",
        ),
        ({"missing": " srun"}, "probe-commands", PROBLEM, "has no srun on PATH"),
        ({"missing": " scontrol squeue"}, "probe-commands", WARNING, "no scontrol, squeue on"),
        ({"lock": "taken"}, "probe-locks", WARNING, "does not see this machine's locks"),
        ({"clock": "700.5"}, "probe-clock", PROBLEM, "300 s behind"),
        ({"clock": "1010.6"}, "probe-clock", WARNING, "10 s ahead of"),
    ],
)
def test_find_probe_names(
    change: dict[str, str | None], topic: str, severity: str, words: str
) -> None:
    answer = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    finding = found(ProbeResult(answer=answer))[topic]
    assert (finding.severity, words in finding.what_is) == (severity, True), finding.what_is


@pytest.mark.parametrize(
    ("result", "topic", "severity", "words"),
    [
        (ProbeResult(refused="Invalid account"), "probe-refused", PROBLEM, "Invalid account"),
        (ProbeResult(ended=True, log="cd: no"), "probe-results", PROBLEM, "output ends: cd: no"),
        (ProbeResult(waiting="Resources"), "probe-waiting", WARNING, "(it waits: Resources)"),
        (ProbeResult(waiting=""), "probe-waiting", WARNING, "not answered after 120 s: nothing"),
    ],
)
def test_find_probe_without_an_answer(
    result: ProbeResult, topic: str, severity: str, words: str
) -> None:
    findings = found(result)
    assert list(findings) == [topic]
    assert (findings[topic].severity, words in findings[topic].what_is) == (severity, True)


def test_parse_answer_is_printable_whatever_a_node_says() -> None:
    assert parse_answer("node=n1\nnonsense\npython=\x1b[31mx=y\n") == {
        "node": "n1",
        "python": "x=y",
    }

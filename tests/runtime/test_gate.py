"""The gate's files, and what it does in a pretended queue."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime import breaker, gate, gate_queue

# squeue answers from the file `queue`; scontrol notes its calls and changes it as Slurm would.
SQUEUE = '#!/bin/bash\ncat "$(dirname "$0")/queue"\n'
SCONTROL = """\
#!/bin/bash
cd "$(dirname "$0")"
echo "$*" >> calls
[ -e refuses ] && { echo "scontrol: refused" >&2; exit 1; }
case $1 in
  release) sed -i 's/|PENDING|.*/|PENDING|token|None/' queue ;;
  hold) sed -i 's/|PENDING|.*/|PENDING|token|JobHeldUser/' queue ;;
esac
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    root = tmp_path / "sweep"
    (root / "arrays/token").mkdir(parents=True)
    (root / "trials").mkdir()
    return root


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("squeue", SQUEUE), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    (folder / "queue").touch()
    (folder / "calls").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(gate_queue, "RESTART_DELAY_S", 0.0)
    monkeypatch.setattr(gate_queue, "SETTLE_S", 1.0)
    monkeypatch.setattr(gate_queue, "POLL_S", 0.01)
    return folder


def calls(slurm: Path) -> list[str]:
    return (slurm / "calls").read_text().splitlines()


def test_close_the_first_gives_the_reason(sweep: Path) -> None:
    root = str(sweep)
    assert gate.read_closed(root) is None
    assert gate.close(root, gate.BUDGET, "spent", "1-a", {"x": 1})
    assert not gate.close(root, gate.FAILURES, "others", "2-b", {})
    found = gate.read_closed(root)
    assert found is not None
    assert (found["kind"], found["reason"], found["by"], found["detail"]) == (
        "budget",
        "spent",
        "1-a",
        {"x": 1},
    )


def test_open_again_keeps_what_closed_it(sweep: Path) -> None:
    root = str(sweep)
    assert not gate.open_again(root)
    for number in (1, 2):
        gate.close(root, gate.BUDGET, "spent", "1-a", {})
        assert gate.open_again(root)
        assert (sweep / f"gate/opened-{number}.json").exists()
    assert gate.read_closed(root) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": 3, "reason": null, "detail": "x"}'])
def test_read_closed_what_cannot_be_read_closes_it_too(sweep: Path, text: str) -> None:
    (sweep / "gate").mkdir()
    (sweep / "gate/closed.json").write_text(text)
    found = gate.read_closed(str(sweep))
    assert found is not None
    assert (found["kind"], found["detail"]) == (gate.UNREADABLE, {})


def test_rules_without_anything_leave_no_file(sweep: Path) -> None:
    root = str(sweep)
    assert gate.read_rules(root) is None
    gate.write_rules(root, {"same_failure": 0, "budget": None})
    assert not (sweep / "gate").exists()
    gate.write_rules(root, {"same_failure": 3, "budget": None})
    assert gate.read_rules(root) == {"same_failure": 3}
    gate.write_rules(root, {"same_failure": 0})
    assert gate.read_rules(root) is None
    (sweep / "gate/rules.json").write_text("{")
    assert gate.read_rules(root) == {}, "no rule, but the gate is looked at"


def test_compress_and_expand_undo_each_other() -> None:
    tasks = ["7_0", "7_1", "7_2", "7_5", "12_3"]
    assert gate_queue.compress(reversed(tasks)) == ["7_[0-2,5]", "12_[3]"]
    assert [t for text in ("7_[0-2,5]", "12_3") for t in gate_queue.expand(text)] == tasks
    assert gate_queue.expand("7; rm") == gate_queue.expand("") == []


def test_hold_waiting_holds_and_notes_what_waits_alone(sweep: Path, slurm: Path) -> None:
    (slurm / "queue").write_text(
        "7|0|RUNNING|token|None\n7|1|PENDING|token|Priority\n7|2|PENDING|token|Resources\n"
        "8|N/A|PENDING|token|x\n"
    )
    assert gate_queue.hold_waiting(str(sweep), "1-a") == ["7_[1-2]"]
    assert calls(slurm) == ["hold 7_[1-2]"]
    assert gate.read_held(str(sweep)) == {"1-a.rest": ["7_[1-2]"]}
    assert gate_queue.hold_waiting(str(sweep), "2-b") == []


def test_release_waiting_lets_ours_go_and_a_persons_hold_stand(sweep: Path, slurm: Path) -> None:
    gate.note_held(str(sweep), "1-a", ["7_1"])
    gate.note_held(str(sweep), "2-b.rest", ["7_[2-3]"])
    (slurm / "queue").write_text(
        "7|1|PENDING|token|job requeued in held state\n"
        "7|2|PENDING|token|JobHeldUser\n7|4|PENDING|token|JobHeldUser\n"
    )
    assert gate_queue.release_waiting(str(sweep)) == ["7_[1-2]"]
    assert calls(slurm) == ["release 7_[1-2]", "update JobId=7_[1] StartTime=now"]
    assert gate.read_held(str(sweep)) == {}


def test_release_waiting_refused_raises_and_keeps_its_notes(sweep: Path, slurm: Path) -> None:
    gate.note_held(str(sweep), "2-b.rest", ["7_[2-3]"])
    (slurm / "queue").write_text("7|2|PENDING|token|JobHeldUser\n")
    (slurm / "refuses").touch()
    with pytest.raises(subprocess.SubprocessError, match=r"1 tasks are still held: .*refused"):
        gate_queue.release_waiting(str(sweep))
    assert gate.read_held(str(sweep)) == {"2-b.rest": ["7_[2-3]"]}
    (slurm / "refuses").unlink()
    assert gate_queue.release_waiting(str(sweep)) == ["7_[2]"]


def test_release_waiting_a_task_about_to_hold_itself_is_not_forgotten(
    sweep: Path, slurm: Path
) -> None:
    gate.note_held(str(sweep), "1-a", ["7_1"])
    (slurm / "queue").write_text("7|1|RUNNING|token|None\n")
    assert gate_queue.release_waiting(str(sweep)) == []
    assert gate.read_held(str(sweep)) == {"1-a": ["7_1"]}


def test_leave_held_in_resubmit_mode_leaves_a_mark(sweep: Path, slurm: Path) -> None:
    trial = TrialPaths(f"{sweep}/trials/00001-abcd")
    os.mkdir(trial.root)
    environ = {"SLURM_JOB_ID": "9", "SLURM_JOB_NAME": "token"}
    assert not gate_queue.leave_held(trial, environ, False, lambda line: None)
    assert gate.read_left(str(sweep)) == {"00001-abcd": "token"}
    assert calls(slurm) == []


def fail(sweep: Path, name: str, node: str = "n1", fingerprint: str = "f1", **end: Any) -> bool:
    attempts = sweep / "trials" / name / "attempts"
    attempts.mkdir(parents=True, exist_ok=True)
    (attempts / "1.json").write_text('{"outcome": "failed"}')
    record = {"trial": name, "attempt": 1, "kind": "error", "fingerprint": fingerprint}
    return breaker.note_failure(
        str(sweep), {**record, "node": node, "wall_s": 1.0, "cause": "ValueError: no", **end}
    )


def test_find_common_failure_of_k_trials(sweep: Path) -> None:
    fail(sweep, "00001-a")
    fail(sweep, "00002-b", node="n2")
    fail(sweep, "00003-c", fingerprint="f2")
    assert breaker.find_common_failure(str(sweep), 3) is None
    fail(sweep, "00004-d")
    found = breaker.find_common_failure(str(sweep), 3)
    assert found is not None
    reason, detail = found
    assert reason == "3 trials failed the same way, and none made progress: ValueError: no"
    assert detail == {
        "fingerprint": "f1",
        "trial": "00001-a",
        "trials": {"00001-a": 1, "00002-b": 1, "00004-d": 1},
    }
    assert breaker.find_common_failure(str(sweep), 0) is None
    breaker.forgive(str(sweep))
    assert breaker.find_common_failure(str(sweep), 3) is None


@pytest.mark.parametrize("trace", ["metrics.jsonl", "result.json", "checkpoints/step1"])
def test_find_common_failure_while_anybody_gets_somewhere_is_none(sweep: Path, trace: str) -> None:
    for number in (1, 2, 3):
        fail(sweep, f"0000{number}-a")
    well = sweep / "trials/00009-f"
    (well / "attempts").mkdir(parents=True)
    (well / "attempts/1.json").write_text("{}")
    (well / trace).parent.mkdir(exist_ok=True)
    (well / trace).write_text("{}\n")
    assert breaker.find_common_failure(str(sweep), 3) is None
    assert (sweep / "gate/going_well").exists()


@pytest.mark.parametrize(("where", "is_found"), [("n1", True), ("n2", False)])
def test_find_common_failure_of_one_node_waits_for_others(
    sweep: Path, where: str, is_found: bool
) -> None:
    for number in (1, 2, 3):
        fail(sweep, f"0000{number}-a", node="n1")
    running = sweep / "trials/00009-f/attempts"
    running.mkdir(parents=True)
    (running / "1.json").write_text(f'{{"node": "{where}", "claimed_unix": 9e9}}')
    assert (breaker.find_common_failure(str(sweep), 3) is not None) is is_found


def test_note_failure_that_is_the_trials_own_is_none(sweep: Path) -> None:
    for kind in ("cuda_oom", "non_finite", "killed", "stuck", "disk_full", None):
        assert not fail(sweep, "00001-a", kind=kind)
    assert not fail(sweep, "00001-a", fingerprint="../x")
    assert not (sweep / "gate").exists()

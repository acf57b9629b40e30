"""The local queue: its cap, its GPUs, and how it stops. Trials here are plain scripts."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.adapters.executors.local import LocalEvent, LocalExecutor, LocalTask
from orchestrator.contract.errors import EXIT_CHECKPOINTED
from orchestrator.contract.paths import TrialPaths
from orchestrator.runtime.guard import EXIT_HELD
from tests.waiting import await_pid, is_running, wait_until


def make_task(folder: Path, number: int, script: str, cpus: int = 1, gpus: int = 0) -> LocalTask:
    root = folder / f"{number:05d}-abcdef0123"
    root.mkdir()
    (root / "trial.sbatch").write_text(script)
    return LocalTask(TrialPaths(str(root)), cpus, gpus)


def test_run_keeps_to_the_cap(tmp_path: Path) -> None:
    script = f"touch {tmp_path}/on-$$; ls {tmp_path} | grep -c ^on-; sleep 0.3; rm {tmp_path}/on-$$"
    tasks = [make_task(tmp_path, n, script) for n in range(6)]
    codes = LocalExecutor(max_parallel=2, n_gpus=0).run(tasks, lambda event: None)
    seen = [int(Path(task.trial.log).read_text()) for task in tasks]
    assert set(codes.values()) == {0}
    assert max(seen) <= 2


def test_run_gives_every_trial_gpus_of_its_own(tmp_path: Path) -> None:
    mine = f"{tmp_path}/gpu-$CUDA_VISIBLE_DEVICES"
    script = f'mkdir {mine} && echo "$CUDA_VISIBLE_DEVICES"; sleep 0.3; rmdir {mine}'
    tasks = [make_task(tmp_path, n, script, gpus=1) for n in range(4)]
    LocalExecutor(max_parallel=4, n_gpus=2).run(tasks, lambda event: None)
    seen = [Path(task.trial.log).read_text().strip() for task in tasks]
    assert sorted(seen[:2]) == ["0", "1"], "the first two ran at the same time"
    assert set(seen[2:]) <= {"0", "1"}, "none had one that another still had"


def test_run_task_larger_than_the_machine_runs_alone(tmp_path: Path) -> None:
    tasks = [make_task(tmp_path, n, "exit 0", cpus=10_000) for n in range(2)]
    codes = LocalExecutor(max_parallel=None, n_gpus=0).run(tasks, lambda event: None)
    assert list(codes.values()) == [0, 0]


def test_run_checkpointed_trial_goes_to_the_end_of_the_queue(tmp_path: Path) -> None:
    again = f"test -e {tmp_path}/saved && exit 0; touch {tmp_path}/saved; exit 75"
    tasks = [make_task(tmp_path, 0, again), make_task(tmp_path, 1, "exit 3")]
    events: list[LocalEvent] = []
    codes = LocalExecutor(max_parallel=1, n_gpus=0).run(tasks, events.append)
    assert [(event.trial[:5], event.kind) for event in events] == [
        ("00000", "started"),
        ("00000", "again"),
        ("00001", "started"),
        ("00001", "ended"),
        ("00000", "started"),
        ("00000", "ended"),
    ]
    assert sorted(codes.values()) == [0, 3]


@pytest.mark.parametrize("code", [EXIT_CHECKPOINTED, EXIT_HELD])
def test_run_puts_what_goes_again_before_those_that_wait_for_it(tmp_path: Path, code: int) -> None:
    saved, ends = tmp_path / "saved", tmp_path / "ends"
    again = f"test -e {saved} || {{ touch {saved}; exit {code}; }}; echo >> {ends}"
    scripts = [
        again,
        f"until [ -e {saved} ]; do sleep 0.1; done; echo >> {ends}",
        f"echo >> {ends}",
    ]
    tasks = [make_task(tmp_path, n, script) for n, script in enumerate([*scripts, "exit 0"])]
    last = tasks[-1].trial.name

    def may_start(name: str) -> bool:
        return name != last or (ends.exists() and len(ends.read_text()) == 3)

    codes = LocalExecutor(max_parallel=2, n_gpus=0).run(tasks, lambda event: None, may_start)
    assert codes == {task.trial.name: 0 for task in tasks}


PROGRAM = """
import sys
from orchestrator.adapters.executors import local
from orchestrator.contract.paths import TrialPaths
local.CHECKPOINT_GRACE_S = 3600
tasks = [local.LocalTask(TrialPaths(sys.argv[1]), 1, 0)]
local.LocalExecutor(1, 0).run(tasks, lambda event: print(event.kind, flush=True))
"""


def test_trial_told_to_stop_before_it_listens_was_interrupted_and_did_not_fail(
    tmp_path: Path,
) -> None:
    task = make_task(tmp_path, 0, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    argv = [sys.executable, "-c", PROGRAM, task.trial.root]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        await_pid(tmp_path / "pid", process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert output.split() == ["started", "stopping", "interrupted"]


def test_second_signal_kills_what_ignores_the_first(tmp_path: Path) -> None:
    script = f"trap '' TERM; (trap '' TERM; echo $BASHPID > {tmp_path}/child; sleep 600)"
    task = make_task(tmp_path, 0, script)
    argv = [sys.executable, "-c", PROGRAM, task.trial.root]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = await_pid(tmp_path / "child", process)
        process.send_signal(signal.SIGINT)
        said = [process.stdout.readline().strip() for _ in range(2)]
        assert said == ["started", "stopping"], "it waits for the trial to checkpoint"
        process.send_signal(signal.SIGINT)  # not sooner: two at once are one
        output, _ = process.communicate(timeout=120)
    assert output.split() == ["killing", "interrupted"]
    wait_until(lambda: not is_running(child), on_timeout=lambda: child)

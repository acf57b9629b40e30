"""The Python side of the trial protocol."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.runtime import session


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("TRIAL_METRICS", str(path))
    return path


def test_report_appends_one_line_each(metrics: Path) -> None:
    session.report(1, loss=2.5)
    session.report(loss=2, accuracy=math.nan)
    assert metrics.read_text() == '{"step": 1, "loss": 2.5}\n{"loss": 2, "accuracy": NaN}\n'


def test_report_outside_of_a_trial_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRIAL_METRICS", raising=False)
    session.report(3, loss=1.0)
    assert capsys.readouterr().out == '{"step": 3, "loss": 1.0}\n'


def test_report_takes_numbers_of_other_libraries(metrics: Path) -> None:
    numpy = pytest.importorskip("numpy")
    session.report(numpy.int64(2), loss=numpy.float32(0.5))
    assert json.loads(metrics.read_text()) == {"step": 2, "loss": 0.5}


def test_report_text_is_refused(metrics: Path) -> None:
    with pytest.raises(TypeError, match="metric note: str, not a number"):
        session.report(note="fine")  # type: ignore[arg-type]


def test_rewind_drops_later_steps_and_cut_lines(metrics: Path) -> None:
    metrics.write_text('{"step": 1, "a": 1}\n{"step": 3, "a": 2}\n{"b": 1}\n{"step": 2, "a"')
    session.rewind(2)
    assert metrics.read_text() == '{"step": 1, "a": 1}\n{"b": 1}\n'


def test_rewind_without_metrics_does_nothing(metrics: Path) -> None:
    session.rewind(5)
    assert not metrics.exists()


def test_params_and_attempt_outside_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRIAL_PARAMS", "TRIAL_ATTEMPT", "TRIAL_SEED", "TRIAL_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert (session.params(), session.attempt(), session.seed()) == ({}, 1, None)
    assert not session.is_trial()


def test_signal_sets_flag_only() -> None:
    program = (
        "import os, signal\n"
        "from orchestrator.runtime import session\n"
        "session.install_signal_handlers()\n"
        "assert not session.should_stop()\n"
        "os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGUSR2)\n"
        "assert session.preemption_requested()\n"
        "session.exit_for_requeue()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert done.returncode == 75


def test_import_loads_no_heavy_package() -> None:
    program = (
        "import sys\n"
        "import orchestrator.runtime.attempt, orchestrator.runtime.session\n"
        "heavy = {'pandas', 'numpy', 'jinja2', 'torch', 'submitit', 'rich', 'ruamel', 'scipy',\n"
        "         'dataclasses', 'subprocess', 'pathlib', 'typing', 'argparse', 'logging'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, '.')\n{program}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.adapters import journal
from orchestrator.adapters.code_snapshot import list_snapshots
from orchestrator.adapters.code_state import newest_code
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.spec_loader import load_spec
from orchestrator.usecases.freeze import N_KEPT, collect_old_code, record_code


@pytest.fixture
def sweep(tmp_path: Path) -> SweepPaths:
    """A sweep with ten snapshots, the tenth the newest."""
    (tmp_path / "trials").mkdir()
    for number in range(10):
        folder = tmp_path / f"code/{number:012x}"
        folder.mkdir(parents=True)
        listed = folder.with_name(folder.name + ".json")
        listed.touch()
        os.utime(listed, (1000 + number, 1000 + number))
    return SweepPaths(str(tmp_path))


def write_script(sweep: SweepPaths, name: str, text: str) -> None:
    os.mkdir(sweep.trial(name).root)
    Path(sweep.trial(name).script).write_text(f"#!/bin/bash\n{text}\nexec true\n")


def numbers(sweep: SweepPaths) -> list[int]:
    return [int(name, 16) for name in list_snapshots(sweep.code)]


def test_old_code_goes_when_no_script_names_it(sweep: SweepPaths) -> None:
    write_script(sweep, "00000-a", f"# code: {0:012x}")
    write_script(sweep, "00001-b", f"# code: {2:012x}")
    write_script(sweep, "00002-c", "# live")
    os.mkdir(sweep.trial("00003-d").root)
    collect_old_code(sweep, f"{9:012x}")
    assert numbers(sweep) == [0, 2, *range(10 - N_KEPT, 10)]


def test_old_code_stays_where_a_script_cannot_be_read(sweep: SweepPaths) -> None:
    os.makedirs(sweep.trial("00000-a").script)
    collect_old_code(sweep, f"{9:012x}")
    assert numbers(sweep) == [*range(10)]


def test_few_snapshots_stay_and_the_newest_always(sweep: SweepPaths) -> None:
    collect_old_code(sweep, f"{0:012x}")
    assert numbers(sweep) == [0, *range(10 - N_KEPT + 1, 10)]
    collect_old_code(sweep, f"{0:012x}")
    assert len(numbers(sweep)) == N_KEPT


def test_rounds_after_live_code_go_on_with_live_code(tmp_path: Path) -> None:
    """Where there is no git that the journal's entry would tell of."""
    sweep, project = SweepPaths(str(tmp_path / "results/s")), tmp_path / "project"
    os.makedirs(sweep.trials)
    project.mkdir()
    (project / "t.sh").write_text("exit 0\n")
    text = f"program: t.sh\nworkdir: {project}\nparameters: {{a: 1}}\n"
    frozen, live = (load_spec(text + f"code: {how}\n", file="s.yaml") for how in ("freeze", "live"))
    with journal.lock(sweep) as writer:
        assert record_code(sweep, frozen, writer, []) is not None
        assert record_code(sweep, frozen, writer, [], is_round=True) is not None
        assert record_code(sweep, live, writer, []) is None
        assert record_code(sweep, live, writer, [], is_round=True) is None
    assert newest_code(sweep) is None

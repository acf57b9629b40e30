"""A sweep's budget and its release, typed on a machine without Slurm."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_gate import SLEEPS, SPEC, closed, states, type_

BUDGET = "budget: {cost: 2, currency: CNY}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep of six trials of half a second or more; one CPU costs 1 CNY a second."""
    templates = tmp_path / "templates"
    subprocess.run(
        ["cp", "-r", str(Path(__file__).parents[2] / "templates"), templates], check=True
    )
    prices = (templates / "partitions.yaml").read_text()
    prices = re.sub(r"(?m)^( +price_per_cpu_hour:).*$", r"\1 3600", prices)
    (templates / "partitions.yaml").write_text(prices)
    (tmp_path / "run.sh").write_text(SLEEPS)
    (tmp_path / "sweep.yaml").write_text(SPEC + "resources: {cpus: 1, time: 1}\n" + BUDGET)
    return tmp_path


def rule(folder: Path) -> Any:
    path = folder / "results/sweep/gate/rules.json"
    return json.loads(path.read_text())["budget"]["cost"]


def test_released_budget_stays_until_the_spec_says_another(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    assert closed(folder)["kind"] == "budget"
    code, out, err = type_(folder, "release", "budget.cost=1000")
    assert (code, states(folder)) == (0, {"done": 6}), err
    assert "this budget stays until budget: in sweep.yaml changes" in out
    for words in (["submit"], ["submit", "max_concurrent=2"], ["release"], ["submit"]):
        code, out, err = type_(folder, *words)
        assert (code, rule(folder)) == (0, 1000), (words, out, err)
    assert "budget.cost=1000: make release allowed it" in out
    # An amount that is typed, or written into the spec, is a decision of its own.
    _, _, err = type_(folder, "submit", "budget.cost=500")
    assert "budget.cost is 500 now, and make release had allowed 1000" in err
    assert rule(folder) == 500
    assert type_(folder, "release", "budget.cost=2000")[0] == 0
    text = (folder / "sweep.yaml").read_text()
    (folder / "sweep.yaml").write_text(text.replace("cost: 2,", "cost: 3000,"))
    assert (type_(folder, "release")[0], rule(folder)) == (0, 3000)
    assert (type_(folder, "submit")[0], rule(folder)) == (0, 3000)


def test_release_without_room_for_the_next_trial_is_refused(folder: Path) -> None:
    type_(folder, "submit", "sweep.yaml")
    before = closed(folder)
    spent = before["detail"]["spent"]["cost"]
    code, _, err = type_(folder, "release", f"budget.cost={spent * 1.02}")
    assert (code, "and the next one needs about" in err) == (2, True), err
    assert "allow more to go on: make release ARGS='budget.cost=...'" in err
    assert closed(folder) == before
    # Nothing of a refused release is kept.
    assert type_(folder, "release")[0] == 2
    assert type_(folder, "release", "budget.cost=1000")[0] == 0
    assert states(folder) == {"done": 6}

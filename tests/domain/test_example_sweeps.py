"""The sweeps that come with the project: they load, and hold what their comments say."""

from __future__ import annotations

import pathlib

import pytest

from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand

SWEEPS = pathlib.Path(__file__).parents[2] / "sweeps"


@pytest.mark.parametrize(
    ("name", "n_trials", "warnings"),
    [
        ("bash", 6, []),
        ("classification", 12, []),
        ("conditional", 26, []),
        ("deepseek-sft", 162, []),
        ("demo", 8, []),
        ("wandb", 12, ["project: is ignored; it is for Weights & Biases only"]),
    ],
)
def test_example_sweep_has_its_trials(name: str, n_trials: int, warnings: list[str]) -> None:
    spec = load_spec((SWEEPS / f"{name}.yaml").read_text(), file=f"{name}.yaml")
    found = expand(spec)
    assert (spec.name, len(found.trials), found.warnings) == (name, n_trials, ())
    assert [line.split(": ", 1)[1] for line in spec.warnings] == warnings


def test_example_sweeps_are_all_tested() -> None:
    names = {path.stem for path in SWEEPS.glob("*.yaml")}
    assert names == {"bash", "classification", "conditional", "deepseek-sft", "demo", "wandb"}

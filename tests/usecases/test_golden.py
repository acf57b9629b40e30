"""The rendered scripts, whole: a change to a template shows as a diff of tests/golden."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.profiles import read_profiles
from orchestrator.adapters.rendering import Renderer
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.frozen_code import FrozenCode
from orchestrator.domain.partition import shape_of
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand_trials
from orchestrator.usecases.scripts import PlannedTrial, Scripts

ROOT = Path(__file__).parents[2]
TEMPLATES = str(ROOT / "templates")
SPEC = r"""
name: golden
program: train/main.py
workdir: /home/ada/project
method: grid
metric: {name: loss, goal: minimize}
seeds: [7]
env: {TOKENIZERS_PARALLELISM: "false"}
environment: [module load cuda]
resources: {cpus: 4, mem_gb: 1.5, sbatch: {exclude: n13, hold: }}
parameters:
  learning_rate: 1e-5
  optim: {parameters: {name: adamw, betas: {value: [0.9, 0.95]}}}
  prompt: "$(touch pwned); \"x'\nsecond line"
"""


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Scripts, PlannedTrial]]:
    monkeypatch.setattr("sys.executable", "/opt/venv/bin/python")

    def scripts(partition: str) -> tuple[Scripts, PlannedTrial]:
        profile = replace(read_profiles(TEMPLATES)[partition], requeue=True)
        spec = load_spec(SPEC, file="sweeps/golden.yaml")
        trial = expand_trials(spec)[0]
        planned = PlannedTrial(f"00042-{trial.id}", trial, shape_of(trial.resources, profile))
        sweep = SweepPaths("/home/ada/project/results/golden")
        return Scripts(Renderer(TEMPLATES), sweep, spec, profile), planned

    return scripts


@pytest.mark.parametrize("partition", ["spot", "ondemand", "cpu"])
def test_trial_script(
    make: Callable[[str], tuple[Scripts, PlannedTrial]],
    check_golden: Callable[[str, str], None],
    partition: str,
) -> None:
    scripts, planned = make(partition)
    text = scripts.render_trial(planned)
    check_golden(f"trial-{partition}.sbatch", text)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_trial_script_with_a_copy_of_the_code(
    make: Callable[[str], tuple[Scripts, PlannedTrial]], check_golden: Callable[[str, str], None]
) -> None:
    scripts, planned = make("spot")
    scripts.code = FrozenCode("0123456789ab", "/home/ada", "project", ("project/my src", "."))
    text = scripts.render_trial(planned)
    check_golden("trial-frozen.sbatch", text)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("partition", ["spot", "ondemand", "cpu"])
def test_array_script(
    make: Callable[[str], tuple[Scripts, PlannedTrial]],
    check_golden: Callable[[str, str], None],
    partition: str,
) -> None:
    scripts, planned = make(partition)
    text = scripts.render_array("golden-0123456789", "0-161%10", planned.shape)
    check_golden(f"array-{partition}.sbatch", text)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)

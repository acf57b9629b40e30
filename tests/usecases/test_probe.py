"""The script of a probe: what a trial's job would ask for, and a body of its own."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.profiles import read_profiles
from orchestrator.adapters.rendering import Renderer
from orchestrator.usecases.probe import probe_script

TEMPLATES = str(Path(__file__).parents[2] / "templates")


@pytest.mark.parametrize("partition", ["spot", "ondemand", "cpu"])
def test_probe_script_has_the_header_of_the_partitions_trials(
    partition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/home/ada/project")
    profile = replace(
        read_profiles(TEMPLATES)[partition],
        account="physics",
        qos="low",
        signal_before_end_s=90,
        sbatch=(("exclude", "n13"),),
    )
    text = probe_script(Renderer(TEMPLATES), profile, "doctor-1a", "/scratch/x/doctor-1a", 120)
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    signal = "B:USR2@90" if partition == "cpu" else "USR2@90"
    assert directives == [
        "#SBATCH --job-name=doctor-1a",
        f"#SBATCH --partition={partition}",
        "#SBATCH --account=physics",
        "#SBATCH --qos=low",
        "#SBATCH --time=4",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=1",
        "#SBATCH --exclude=n13",
        "#SBATCH --no-requeue",
        f"#SBATCH --signal={signal}",
        "#SBATCH --chdir=/home/ada/project",
        "#SBATCH --output=/scratch/x/doctor-1a/log",
        "#SBATCH --open-mode=append",
        "#SBATCH --deadline=now+420",
    ]
    first = next(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    assert first == "trap '' USR2", "nothing of the template but its header"
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)

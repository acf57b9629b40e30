"""Modules, conda and containers: the trial's script, really run, with commands that note calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.profiles import read_profiles
from orchestrator.adapters.rendering import Renderer
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.partition import Container, PartitionProfile, shape_of
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand_trials
from orchestrator.usecases.scripts import PlannedTrial, Scripts

ROOT = Path(__file__).parents[2]
PROGRAM = """\
#!/bin/bash
echo "in=$IN_IMAGE module=$FAKE_MODULE conda=$FAKE_CONDA cwd=$PWD" > "$TRIAL_DIR/seen"
printf '%s\\n' "$@" > "$TRIAL_DIR/arguments"
echo '{"loss": 1}' >> "$TRIAL_METRICS"
exit "${CODE:-0}"
"""
# Each notes its words, then goes on as the real one would: it runs the program.
FAKES = {
    "apptainer": """\
printf '%s\\n' "$@" > "$NOTES/apptainer"
while [ "$1" != image.sif ]; do shift; done
shift
IN_IMAGE=yes exec "$@"
""",
    "srun": """\
printf '%s\\n' "$@" > "$NOTES/srun"
while [ "$1" != sh ]; do shift; done
IN_IMAGE=yes exec "$@"
""",
    "conda": """\
echo 'conda() { [ "$2" != broken ] && export FAKE_CONDA="$2"; }'
""",
}
MODULE = 'module() { echo "$*" >> "$NOTES/module"; export FAKE_MODULE="$2"; [ "$2" != broken ]; }'
VALUE = "it's $(touch pwned)\nsecond"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project"
    tools = folder / "bin"
    tools.mkdir(parents=True)
    for name, body in FAKES.items():
        (tools / name).write_text("#!/bin/bash\n" + body)
        (tools / name).chmod(0o755)
    (folder / "program.sh").write_text(PROGRAM)
    init = folder / "modules/init"
    init.mkdir(parents=True)
    (init / "bash").write_text(MODULE + "\n")
    return folder


def run_trial(
    project: Path, profile: PartitionProfile, **env: str
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Write a trial, and run its script with bash."""
    parameter = json.dumps(VALUE)
    spec = load_spec(
        f"name: s\nprogram: program.sh\nworkdir: {json.dumps(str(project))}\nmethod: grid\n"
        f"metric: {{name: loss, goal: minimize}}\nparameters: {{p: [{parameter}]}}\n",
        file="s.yaml",
    )
    (trial,) = expand_trials(spec)
    sweep = SweepPaths(str(project / "results/s"))
    os.makedirs(sweep.trials, exist_ok=True)
    scripts = Scripts(Renderer(str(ROOT / "templates")), sweep, spec, profile)
    planned = PlannedTrial(f"00000-{trial.id}", trial, shape_of(trial.resources, profile))
    scripts.write_trials([planned])
    paths = sweep.trial(planned.name)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "CONDA", "LMOD"))}
    done = subprocess.run(
        ["bash", paths.script],
        env={
            **kept,
            "PATH": f"{project}/bin:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "MODULESHOME": str(project / "modules"),
            "NOTES": str(project),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Path(paths.root), done


def profile_with(**changes: object) -> PartitionProfile:
    profile = read_profiles(str(ROOT / "templates"))["spot"]
    return replace(profile, requeue=True, **changes)  # type: ignore[arg-type]


def words(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1]


def test_apptainer_wraps_the_program_and_not_the_attempt(project: Path) -> None:
    container = Container("image.sif", mounts=("/data", "/a b:/c:ro"), options=("--cleanenv",))
    trial, done = run_trial(project, profile_with(container=container))
    assert done.returncode == 0, done.stderr
    assert (trial / "seen").read_text() == f"in=yes module= conda= cwd={project}\n"
    assert (trial / "arguments").read_text() == f"--p={VALUE}\n"
    assert json.loads((trial / "result.json").read_text())["metrics"] == {"loss": 1}
    called = words(project / "apptainer")
    sweep = str(project / "results/s")
    assert called[: called.index("image.sif")] == (
        ["exec", "--nv", "--bind", sweep, "--bind", str(project), "--pwd", str(project)]
        + ["--bind", "/data", "--bind", "/a b:/c:ro", "--cleanenv"]
    )
    assert not list(project.rglob("pwned"))


def test_apptainer_without_gpus_gets_no_nv(project: Path) -> None:
    profile = profile_with(container=Container("image.sif"), defaults={"gpus": 0})
    run_trial(project, profile)
    assert "--nv" not in words(project / "apptainer")


def test_exit_code_of_a_program_in_an_image_is_the_programs(project: Path) -> None:
    profile = profile_with(container=Container("image.sif"))
    trial, done = run_trial(project, profile, CODE="7")
    assert done.returncode == 7
    assert json.loads((trial / "attempts/1.json").read_text())["outcome"] == "failed"


def test_pyxis_makes_the_program_a_step_whose_words_stay_private(project: Path) -> None:
    container = Container("nvcr.io#nvidia/pytorch:25.01-py3", "pyxis", ("/data",))
    profile = profile_with(container=container)
    assert profile.layout == "batch", "a step within a step could not save"
    trial, done = run_trial(project, profile)
    assert done.returncode == 0, done.stderr
    assert (trial / "seen").read_text().startswith("in=yes ")
    assert (trial / "arguments").read_text() == f"--p={VALUE}\n"
    called = words(project / "srun")
    sweep = str(project / "results/s")
    assert "--container-image=nvcr.io#nvidia/pytorch:25.01-py3" in called
    assert f"--container-mounts={sweep}:{sweep},{project}:{project},/data:/data" in called
    assert f"--container-workdir={project}" in called
    assert "touch" not in " ".join(called), "accounting shows srun's line to all"


def test_folder_that_cannot_be_mounted_is_the_trials_failure(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "program.sh").write_text(PROGRAM)
    trial, done = run_trial(folder, profile_with(container=Container("image.sif")))
    assert done.returncode == 1
    assert "a folder with a comma or colon in its name cannot be mounted" in done.stderr
    assert not (trial / "seen").exists()


def test_modules_and_conda_are_loaded_in_a_shell_that_is_no_login_shell(project: Path) -> None:
    profile = profile_with(modules=("gcc/13", "cuda/13.0"), conda="torch env")
    trial, done = run_trial(project, profile)
    assert done.returncode == 0, done.stderr
    assert (trial / "seen").read_text() == f"in= module=cuda/13.0 conda=torch env cwd={project}\n"
    assert words(project / "module") == ["load gcc/13", "load cuda/13.0"]


def test_conda_is_found_where_its_variable_says(project: Path) -> None:
    hidden = project / "elsewhere"
    hidden.mkdir()
    (project / "bin/conda").rename(hidden / "conda")
    trial, done = run_trial(project, profile_with(conda="x"), CONDA_EXE=str(hidden / "conda"))
    assert done.returncode == 0, done.stderr
    assert "conda=x" in (trial / "seen").read_text()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"modules": ("broken",)}, "module load broken failed"),
        ({"conda": "broken"}, "conda activate broken failed"),
        ({"modules": ("broken",), "container": Container("image.sif")}, "module load broken"),
    ],
)
def test_what_cannot_be_loaded_is_the_trials_failure(
    project: Path, changes: dict[str, object], cause: str
) -> None:
    trial, done = run_trial(project, profile_with(**changes))
    assert done.returncode == 1
    assert cause in done.stderr
    assert not (trial / "seen").exists(), "the program did not start"
    assert json.loads((trial / "attempts/1.json").read_text())["outcome"] == "failed"

"""`orchestrator lint`: each mistake at the line of the template, profile or sweep to edit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from tests.cli.linting import QUIET, ROOT, SWEEP, copy_templates, extend, found, lint, template


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's templates and one sweep, and where `lint` is typed."""
    return copy_templates(tmp_path, monkeypatch)


def test_project_itself_has_no_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    code, report = lint(capsys)
    assert (code, report["findings"]) == (0, [])
    assert len(report["sweeps"]) == len(list((ROOT / "sweeps").glob("*.yaml")))
    assert report["scripts"] > len(report["templates"]) * len(report["sweeps"])


AT_LINE_4 = [
    ("environment", "module load {{ partition.modul }}", "undefined"),
    ("environment", "{% if partition.qos %}{{ nowhere | sh }}{% endif %}", "undefined"),
    ("environment", "export A={{ partition.container.imag | sh }}", "undefined"),
    ("header", "#SBATCH --tiem=60", "option"),
    ("header", "{% if partition.qos %}#SBATCH --tiem=60{% endif %}", "option"),
    ("header", "#SBATCH --time", "option"),
    ("header", "# SBATCH --exclusive", "near-miss"),
    ("environment", "#SBATCH --exclusive", "late"),
    ("header", "#SBATCH --output=x", "twice"),
    ("environment", "export A={{ launch.workdir }}", "unquoted"),
    ("environment", "export A={{ trial.params.x | sbatch }}", "unquoted"),
    ("header", "#SBATCH --comment={{ job.name | sh }}", "unquoted"),
    ("environment", "export A={{ launch.env.ORCHESTRATOR_LINT | as_is }}", "render"),
    ("environment", "export A={{ trial.command[1] | as_is }}", "unquoted"),
    ("environment", "echo )", "bash"),
    ("environment", "{% if launch.code %}echo ){% endif %}", "bash"),
    ("environment", "{% if launch.code %}{{ launch.code.nmae | sh }}{% endif %}", "render"),
    ("environment", "export A={{ launch.code.workdir }}", "unquoted"),
    ("environment", "{{ 1 / 0 }}", "render"),
]


@pytest.mark.parametrize(("block", "text", "check"), AT_LINE_4, ids=[t for _, t, _ in AT_LINE_4])
def test_mistake_in_a_template_is_at_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str], block: str, text: str, check: str
) -> None:
    template(folder, extend(block, text))
    code, report = lint(capsys)
    assert code == 1
    assert ("templates/h100.sbatch.j2", 4, check) in found(report)
    assert {f["file"] for f in report["findings"]} == {"templates/h100.sbatch.j2"}


@pytest.mark.parametrize(
    "text",
    [
        "export A={{ launch.workdir | sh }} B={{ resources.cpus }}",
        "export A={{ trial.command | map('sh') | join(' ') }}",
        "{% set where = launch.workdir | sh %}\ncd {{ where }}",
        "{% for name in ['a', 'b'] %}\nmodule load {{ name }}\n{% endfor %}",
        "{% macro load(name) %}module load {{ name | sh }}{% endmacro %}\n{{ load('x') }}",
        "{{ 'export A=1' if resources.gpus else 'export A=2' }}",
        "# {{ trial.params | json }}",
        "export SEED={{ trial.seed if trial.seed is not none else 0 }}",
    ],
)
def test_well_written_template_is_let_pass(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    template(folder, extend("environment", text))
    code, report = lint(capsys)
    assert (code, report["findings"]) == (0, [])


def test_header_that_drops_its_parents_is_at_the_block(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '{% extends "base.sbatch.j2" %}\n\n{% block header %}\n#SBATCH -p x\n{% endblock %}\n'
    template(folder, text)
    code, report = lint(capsys)
    assert code == 1
    assert set(found(report)) == {("templates/h100.sbatch.j2", 3, "missing")}
    said = " ".join(f["message"] for f in report["findings"])
    for name in ("signal", "open-mode", "output", "job-name", "chdir", "array"):
        assert f"no #SBATCH --{name}: " in said


def test_broken_files_are_one_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template(folder, '{% extends "b.sbatch.j2" %}\n', "a")
    template(folder, '{# b #}\n{% extends "a.sbatch.j2" %}\n', "b")
    template(folder, "#!/bin/bash\n{% if %}\n", "c")
    (folder / "templates/d.sbatch.j2").write_bytes(b"#!/bin/bash\n\n# \xff\n")
    (folder / "sweeps/b.yaml").write_text(SWEEP.replace("grid", "gird"))
    code, report = lint(capsys)
    assert code == 1
    assert found(report) == [
        ("sweeps/b.yaml", 2, "sweep"),
        ("templates/a.sbatch.j2", 1, "template"),
        ("templates/b.sbatch.j2", 2, "template"),
        ("templates/c.sbatch.j2", 2, "template"),
        ("templates/d.sbatch.j2", 3, "template"),
    ]
    messages = [f["message"] for f in report["findings"]]
    assert messages[1] == "it extends itself: b.sbatch.j2 -> a.sbatch.j2 -> b.sbatch.j2"
    assert messages[4] == "not UTF-8; save it as UTF-8"
    assert not [message for message in messages if "\n" in message]


PROFILES = """\
big:
  template: base.sbatch.j2
  gpus_per_node: 8
  defaults: {gpus: 9}
cheap:
  price_per_gpu_hour: -1
  grace_s: soon
gone:
  template: other
odd:
  template: base.sbatch.j2
  sbatch: {exclud: n1, tmpdri: 3}
spot:
  gpus_per_node: 8
  price_per_gpu_hour: 0     # FILL IN: what it costs
"""


def test_mistakes_in_profiles_are_all_named_at_their_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "templates/partitions.yaml").write_text(PROFILES)
    code, report = lint(capsys)
    assert code == 1
    problems = {f["line"]: f["message"] for f in report["findings"] if f["severity"] == "problem"}
    assert {f["file"] for f in report["findings"]} == {"templates/partitions.yaml"}
    assert problems == {
        4: "big.defaults.gpus: 9 is more than gpus_per_node: 8; correct one of them",
        6: "cheap.price_per_gpu_hour: -1 is not allowed; use a number that is not negative",
        7: "cheap.grace_s: 'soon' is not allowed; use a whole number of at least 0",
        9: "gone.template: no file other; there are: base.sbatch.j2, "
        "cpu.sbatch.j2, ondemand.sbatch.j2, spot.sbatch.j2",
        12: "sbatch has no option --tmpdri; did you mean --tmp?",
    }
    warnings = [(f["line"], f["check"]) for f in report["findings"] if f["severity"] == "warning"]
    assert warnings == [(15, "to-fill")]


@pytest.mark.parametrize("bad", ["-1", ".nan", ".inf", "cheap"])
def test_submit_refuses_a_bad_price_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], bad: str
) -> None:
    text = (folder / "templates/partitions.yaml").read_text().replace("0.90", bad)
    (folder / "templates/partitions.yaml").write_text(text)
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("orchestrator: templates/partitions.yaml:11: spot.price_per_gpu_hour: ")
    assert error.count("\n") == 1
    assert not (folder / "results").exists()


def test_submit_names_circular_inheritance_and_what_is_no_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template(folder, '{% extends "b.sbatch.j2" %}\n', "spot")
    template(folder, '{% extends "spot.sbatch.j2" %}\n', "b")
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    assert "without end" in capsys.readouterr().err
    (folder / "templates/b.sbatch.j2").write_bytes(b"\n\xff\n")
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    error = capsys.readouterr().err
    assert error == "orchestrator: templates/b.sbatch.j2:2: not UTF-8; save it as UTF-8\n"
    assert not (folder / "results").exists(), "nothing is left of it"


def test_sweep_that_asks_for_more_than_its_node_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sweeps/a.yaml").write_text(SWEEP.replace("gpus: 1", "gpus: 9"))
    (folder / "sweeps/b.yaml").write_text(SWEEP.replace("spot", "sopt"))
    (folder / "sweeps/c.yaml").write_text(SWEEP.replace("cpus: 1", "sbatch: {exclsive: ''}"))
    code, report = lint(capsys)
    assert code == 1
    assert found(report) == [
        ("sweeps/a.yaml", 5, "limit"),
        ("sweeps/b.yaml", 4, "sweep"),
        ("sweeps/c.yaml", 5, "option"),
    ]
    assert "9 is too much for partition spot: a node has 8" in report["findings"][0]["message"]
    assert "did you mean spot?" in report["findings"][1]["message"]


def test_option_of_a_plugin_is_allowed_by_a_remark(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remark = "{# lint: allow --tmpfs, --gpu-clock #}\n"
    text = "#SBATCH --tmpfs=4G\n#SBATCH --gpu-clock 1200"
    template(folder, remark + extend("header", text))
    code, report = lint(capsys)
    assert (code, report["findings"]) == (0, [])


def test_part_of_a_template_need_not_stand_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "templates/load.j2").write_text("module load x\n")
    template(folder, extend("environment", '{% include "load.j2" %}'))
    code, report = lint(capsys)
    assert (code, report["findings"]) == (0, [])
    assert "load.j2" not in report["templates"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--templates", "nowhere"), "no templates folder at nowhere"),
        (("--against", "nowhere", "--cluster", "none"), "--against nowhere: no such folder, and"),
        (("--against", "--output=x"), "expected one argument"),
    ],
)
def test_nothing_to_check_is_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    del folder
    assert run(["lint", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_controller_that_does_not_answer_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = folder / "bin"
    tools.mkdir()
    for name in ("sbatch", "scontrol"):
        (tools / name).write_text(
            "#!/bin/bash\necho 'Unable to contact slurm controller' >&2\nexit 1"
        )
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    assert run(["lint", "--cluster", "slurm"]) == 3
    assert "Unable to contact slurm controller" in capsys.readouterr().err
    code, report = lint(capsys, "--against", "none")
    assert code == 0
    assert "Unable to contact slurm controller" in report["not_checked"][0]


def commit(folder: Path) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True, timeout=60)
    subprocess.run([*git, "add", "templates"], check=True, timeout=60)
    subprocess.run([*git, "commit", "-qm", "x"], check=True, timeout=60)


def test_edit_shows_which_scripts_it_changes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(folder)
    code, report = lint(capsys, "--cluster", "none")
    assert (code, report["against"], report["changes"]) == (0, "HEAD", [])
    path = folder / "templates/cpu.sbatch.j2"
    path.write_text(path.read_text().replace("CUDA_VISIBLE_DEVICES=", "CUDA_VISIBLE_DEVICES=none"))
    code, report = lint(capsys, "--cluster", "none")
    assert code == 0
    assert report["changes"] == [
        {
            "scripts": ["sweeps/a.yaml on cpu: trial"],
            "diff": ["-export CUDA_VISIBLE_DEVICES=", "+export CUDA_VISIBLE_DEVICES=none"],
        }
    ]


def test_edit_compared_with_a_folder_names_new_and_broken(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "templates", folder / "old")
    with open(folder / "templates/partitions.yaml", "a") as file:
        file.write("h100: {template: spot.sbatch.j2}\n")
    template(folder, extend("environment", "{{ nope | sh }}"), "ondemand")
    code, report = lint(capsys, "--cluster", "none", "--against", "old")
    assert code == 1
    changes = {tuple(change["diff"]): change["scripts"] for change in report["changes"]}
    assert changes[("+ a new script",)] == [
        "sweeps/a.yaml on h100: array, supervisor, trial",
        "sweeps/a.yaml on ondemand: does not render",
    ]
    assert changes[("- no longer there",)] == ["sweeps/a.yaml on ondemand: trial"]


def test_report_for_people_has_file_and_line_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template(folder, extend("header", "#SBATCH --tiem=60"))
    assert run(["lint", *QUIET]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 templates x 3 profiles x 1 sweep: ")
    assert lines[1] == (
        "templates/h100.sbatch.j2:4: problem: sbatch has no option --tiem; did you mean --time? "
        "[option]"
    )
    assert lines[-1] == "1 problem"


def test_misspelt_value_in_the_base_template_is_said_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder / "templates/base.sbatch.j2"
    base.write_text(base.read_text().replace("{{ job.name", "{{ job.nmae", 1))
    code, report = lint(capsys)
    (finding,) = report["findings"]
    assert (code, finding["check"], finding["line"]) == (1, "undefined", 17)
    assert "nmae" in finding["message"]
    assert "name" in finding["message"].replace("nmae", ""), "and what was meant"


def test_sweep_of_several_partitions_fits_one_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = SWEEP.replace("partition: spot", "partition: [cpu, spot]")
    (folder / "sweeps/a.yaml").write_text(several)
    assert lint(capsys)[0] == 0, "one GPU is too many for cpu alone"
    (folder / "sweeps/a.yaml").write_text(several.replace("gpus: 1", "gpus: 99"))
    assert found(lint(capsys)[1]) == [("sweeps/a.yaml", 5, "limit")]
    (folder / "sweeps/a.yaml").write_text(several.replace("cpu,", "cpus,"))
    code, report = lint(capsys)
    assert (code, found(report)) == (1, [("sweeps/a.yaml", 4, "sweep")])
    assert "unknown partition 'cpus'; did you mean cpu?" in report["findings"][0]["message"]


def test_sweep_on_a_profile_with_a_mistake_is_not_blamed_for_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = folder / "templates/partitions.yaml"
    profiles.write_text(profiles.read_text().replace("gpus: 1, cpus: 2", "gpus: 9, cpus: 2", 1))
    code, report = lint(capsys)
    assert (code, [check for _, _, check in found(report)]) == (1, ["profile"])

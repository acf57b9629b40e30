"""Values and templates that would inject directives or code, or never end."""

from __future__ import annotations

import dataclasses
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.profiles import read_profiles
from orchestrator.adapters.rendering import Renderer, quote_sbatch_path
from orchestrator.contract.errors import SpecError, TemplateError, UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.partition import shape_of
from orchestrator.domain.partition_loader import load_profiles
from orchestrator.domain.spec_loader import load_spec
from orchestrator.domain.trials import expand
from orchestrator.usecases.scripts import PlannedTrial, Scripts
from tests.faults.prompt import TEMPLATES, make_project, type_

# What starts another line for bash, sbatch, an editor or Python, and what hides.
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2J"]
INJECTED = "#SBATCH --account=injected"
SPEC = {
    "name": '"demo"',
    "program": '"count.sh"',
    "method": "grid",
    "metric": "{name: loss, goal: minimize}",
    "parameters": "{a: [1]}",
    "partition": '"spot"',
}


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'


def render_both(spec_text: str, profile_changes: dict[str, Any] | None = None) -> list[str]:
    """Render a sweep's first trial and its array, without a Slurm."""
    spec = load_spec(spec_text, file="demo.yaml")
    profile = read_profiles(TEMPLATES)[spec.partition or "spot"]
    profile = dataclasses.replace(profile, requeue=True, **(profile_changes or {}))
    trial = expand(spec).trials[0]
    shape = shape_of(trial.resources, profile)
    sweep = SweepPaths("/results/demo")
    scripts = Scripts(Renderer(TEMPLATES), sweep, spec, profile)
    planned = PlannedTrial(f"00000-{trial.id}", trial, shape)
    return [scripts.render_trial(planned), scripts.render_array("demo-0a", "0-0", shape)]


def render_with_profile(text: str, key: str) -> None:
    profile = load_profiles(text, file="partitions.yaml")["spot"]
    render_both(spec_with(), {key: getattr(profile, key)})


def spec_with(**keys: str) -> str:
    return "".join(f"{key}: {value}\n" for key, value in {**SPEC, **keys}.items())


def directives(script: str) -> list[str]:
    """Return the options that sbatch, or whatever splits lines in another way, would see."""
    lines = re.split("[\n\r\x0b\x0c\x1c\x85\u2028\u2029]", script)
    return [line.split("=")[0] for line in lines if line.lstrip().startswith("#SBATCH")]


BASE = [directives(script) for script in render_both(spec_with())]


@pytest.mark.parametrize("line_break", BREAKS, ids=ascii)
@pytest.mark.parametrize(
    "key",
    ["name", "partition", "workdir", "description", "env", "environment", "gpu_type", "comment"]
    + ["command", "parameter", "option"],
)
def test_e02_line_break_in_any_key_of_a_spec_adds_no_directive(key: str, line_break: str) -> None:
    text = quoted(f"x{line_break}{INJECTED}")
    keys = {
        "env": {"env": f"{{A: {text}}}"},
        "environment": {"environment": f"[{text}]"},
        "gpu_type": {"resources": f"{{gpu_type: {text}}}"},
        "comment": {"resources": f"{{sbatch: {{comment: {text}}}}}"},
        "option": {"resources": f"{{sbatch: {{{text}: 1}}}}"},
        "command": {"command": f"[{text}]"},
        "parameter": {"parameters": f"{{{text}: [{text}]}}"},
    }.get(key, {key: text})
    try:
        scripts = render_both(spec_with(**keys))
    except UserError:
        return  # refused, which is fine too
    for script, base in zip(scripts, BASE, strict=True):
        found = directives(script)
        if key == "environment":  # shell lines by design: never a line of Slurm's
            found = found[: len(base)]
        assert found == base


@pytest.mark.parametrize("line_break", BREAKS, ids=ascii)
@pytest.mark.parametrize(
    "key", ["slurm_partition", "account", "qos", "constraint", "gpu_type", "sbatch"]
)
def test_e02_line_break_in_a_profile_is_refused(key: str, line_break: str) -> None:
    text = quoted(f"x{line_break}{INJECTED}")
    value = f"{{comment: {text}}}" if key == "sbatch" else text
    with pytest.raises(UserError):
        render_with_profile(f"spot: {{{key}: {value}, defaults: {{gpus: 1}}}}\n", key)


def test_e02_line_of_slurm_among_shell_lines_is_refused() -> None:
    with pytest.raises(TemplateError, match="stands after the first command"):
        render_both(spec_with(environment=f'["{INJECTED}"]'))


@pytest.mark.parametrize("name", ["arra", "job-nam", "outp", "sig", "requ", "array", "wrap\\n"])
def test_e02_shortened_name_of_a_stated_option_is_refused(name: str) -> None:
    """Sbatch takes any beginning of an option's name that fits no other."""
    with pytest.raises(SpecError):
        load_spec(spec_with(resources=f'{{sbatch: {{"{name}": "0-9"}}}}'), file="x")


def test_e02_option_that_begins_like_another_is_taken() -> None:
    load_spec(spec_with(resources="{sbatch: {ntasks: 2, mem-per-cpu: 1G}}"), file="x")


def test_e02_shortened_option_of_a_template_stands_twice(tmp_path: Path) -> None:
    text = "#!/bin/bash\n#SBATCH --array=0-1\n#SBATCH --arr=0-9\n"
    (tmp_path / "t.j2").write_text(text)
    with pytest.raises(TemplateError, match="--array stands twice"):
        Renderer(str(tmp_path)).render("t.j2", {})


@pytest.mark.parametrize("text", ["/a%j/%%x", "/a b/-x", '/q"x/é'])
def test_e02_path_of_a_log_is_taken_as_it_is(text: str) -> None:
    assert quote_sbatch_path(text).strip('"').replace("%%", "%").replace('\\"', '"') == text


def test_e02_backslash_in_the_path_of_a_log_is_refused() -> None:
    """Slurm drops it and opens a file elsewhere, or none: the job dies without a word."""
    with pytest.raises(TemplateError, match="name another folder with RESULTS="):
        quote_sbatch_path("/a\\b/log")


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% for x in y %}", "{#", "${{ x }}"])
def test_e03_template_syntax_in_a_value_stays_text(text: str) -> None:
    script = render_both(spec_with(parameters=f"{{a: [{quoted(text)}]}}"))[0]
    assert f"'--a={text}'" in script


@pytest.mark.parametrize(
    "expression",
    [
        "x.__class__.__mro__",
        "x['__class__']",
        "x|attr('__class__')",
        "'{0.__class__.__mro__}'.format(x)",
        "'{0.__class__}'.format_map({'0': x})",
        "lipsum.__globals__['os'].popen('id').read()",
        "cycler.__init__.__globals__",
        "self.__init__.__globals__",
        "namespace.__init__.__globals__",
        "joiner.__init__.__globals__.os",
        "numbers.append(1)",
        "values.update(a=1)",
        "(x.bit_length).__self__.__class__",
    ],
)
def test_e04_python_behind_a_template_cannot_be_reached(tmp_path: Path, expression: str) -> None:
    (tmp_path / "t.j2").write_text(f"#!/bin/bash\n{{{{ {expression} }}}}\n")
    context = {"x": 1, "numbers": [1], "values": {"b": 1}}
    with pytest.raises(TemplateError, match=r"t\.j2:2: "):
        Renderer(str(tmp_path)).render("t.j2", context)
    assert context == {"x": 1, "numbers": [1], "values": {"b": 1}}


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../secret", "..\\secret"])
@pytest.mark.parametrize("verb", ["include", "extends", "import"])
def test_e04_template_reads_no_file_outside_its_folder(
    tmp_path: Path, name: str, verb: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "templates"
    (folder / "a").mkdir(parents=True)
    alias = " as x" if verb == "import" else ""
    text = name.replace("\\", "\\\\")
    (folder / "t.j2").write_text(f'#!/bin/bash\n{{% {verb} "{text}"{alias} %}}\n')
    with pytest.raises(TemplateError, match="no template"):
        Renderer(str(folder)).render("t.j2", {})


@pytest.mark.parametrize("text", ["--lr={{ params.leraning_rate }}", "{{ lr }}", "{{ x.y.z }}"])
def test_e05_misspelt_name_is_an_error_not_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.j2").write_text(f"#!/bin/bash\n{text}\n")
    with pytest.raises(TemplateError, match=r"t\.j2:2: .*templates/README\.md"):
        Renderer(str(tmp_path)).render("t.j2", {"params": {}, "x": {}})


BOMBS = [
    "{{ 'a' * 10**8 }}",
    "{{ 'a' * 10**12 }}",
    "{{ [0] * 10**10 }}",
    "{{ 9**(9**9) }}",
    "{{ ((10**1000)**1000)**1000 }}",
    "{{ '%0999999999d' % 1 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% include 't.j2' %}",
    "{% set x = namespace(v='a') %}{% for i in range(40) %}{% set x.v = x.v * 2 %}{% endfor %}",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_e06_template_that_grows_without_end_is_refused_soon(tmp_path: Path, bomb: str) -> None:
    (tmp_path / "t.j2").write_text(f"#!/bin/bash\n{bomb}\n")
    program = (
        "import sys\n"
        "from orchestrator.adapters.rendering import Renderer\n"
        "from orchestrator.contract.errors import TemplateError\n"
        "try:\n    Renderer(sys.argv[1]).render('t.j2', {})\n"
        "except TemplateError as error:\n    print(error)\n    sys.exit(9)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    assert done.stdout.startswith(f"{tmp_path}/t.j2")
    assert len(done.stdout) < 500
    assert "memory" not in done.stdout, "it was refused before it took any"


def test_e01_values_that_are_shell_arrive_and_nothing_runs(tmp_path: Path) -> None:
    values = ["; touch pwned", "$(touch pwned)", "`touch pwned`", "${IFS}", "a\nb", "'\"\\"]
    program = 'printf "%s" "${1#--v=}" > "$TRIAL_DIR/got"\n'
    listed = ", ".join(map(quoted, values))
    spec = f"program: count.sh\npartition: cpu\nparameters: {{v: [{listed}]}}\n"
    folder = make_project(tmp_path, spec, program)
    done = type_(folder, "submit", "sweep.yaml", "--cluster", "local")
    assert done.returncode == 0, done.stderr
    got = [p.read_text() for p in sorted(folder.glob("results/sweep/trials/*/got"))]
    assert got == values
    assert not list(folder.rglob("pwned"))

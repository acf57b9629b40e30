"""`orchestrator lint`: what only shows when one template extends another, or bash reads both."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.main import run
from tests.cli.linting import copy_templates, extend, found, lint, template


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's templates and one sweep, and where `lint` is typed."""
    return copy_templates(tmp_path, monkeypatch)


LOST = """\
{% extends "base.sbatch.j2" %}

{% block enviroment %}
module load cuda
{% endblock %}
"""
LOST_WORDS = (
    "base.sbatch.j2 has no block 'enviroment', so its lines are left out; did you mean environment?"
)


def test_block_that_no_parent_has_is_a_problem_and_refused_by_submit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template(folder, LOST, "spot")
    template(folder, '{% extends "spot.sbatch.j2" %}\n{% block mine %}{% endblock %}\n')
    code, report = lint(capsys)
    assert code == 1
    assert found(report) == [
        ("templates/h100.sbatch.j2", 2, "block"),
        ("templates/spot.sbatch.j2", 3, "block"),
    ]
    messages = [f["message"] for f in report["findings"]]
    assert messages[0].startswith("spot.sbatch.j2 has no block 'mine'")
    assert messages[1] == LOST_WORDS
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    error = capsys.readouterr().err
    assert error == f"orchestrator: templates/spot.sbatch.j2:3: {LOST_WORDS}\n"


UNBALANCED = [
    'export A="x',
    "echo 'x",
    "export B=$(date",
    "if true; then\necho x",
    "for i in 1 2; do\necho x",
    "module() {\necho x",
    "x=${A",
]


@pytest.mark.parametrize("text", UNBALANCED)
def test_what_is_left_open_is_at_the_line_that_opens_it(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    template(folder, extend("environment", text), "spot")
    code, report = lint(capsys)
    assert code == 1
    assert set(found(report)) == {("templates/spot.sbatch.j2", 4, "bash")}


def test_two_mistakes_of_bash_are_each_at_a_line_of_their_template(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template(folder, extend("environment", "echo )\necho )"), "spot")
    code, report = lint(capsys)
    assert (code, set(found(report))) == (1, {("templates/spot.sbatch.j2", 4, "bash")})


def test_quote_left_open_in_the_base_template_is_at_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder / "templates/base.sbatch.j2"
    lines = base.read_text().split("\n")
    number = lines.index("{% block environment %}") + 1
    lines.insert(number, 'echo "x')
    base.write_text("\n".join(lines))
    code, report = lint(capsys)
    assert code == 1
    assert set(found(report)) == {("templates/base.sbatch.j2", number + 1, "bash")}


def test_block_within_a_block_or_called_by_name_is_none_too_many(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = "{% block inner %}\nexport A=1\n{% endblock %}\n{{ self.more() }}"
    outside = "{% block more %}\nexport B=1\n{% endblock %}\n"
    template(folder, extend("environment", inner) + outside)
    code, report = lint(capsys)
    assert (code, report["findings"]) == (0, [])


def test_parent_that_is_missing_is_at_the_line_that_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template(folder, '\n{% extends "bas.sbatch.j2" %}\n', "spot")
    words = "no template bas.sbatch.j2 in templates; did you mean base.sbatch.j2? it has: "
    code, report = lint(capsys)
    assert (code, set(found(report))) == (1, {("templates/spot.sbatch.j2", 2, "render")})
    assert report["findings"][0]["message"].startswith(words)
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"orchestrator: templates/spot.sbatch.j2:2: {words}")
    assert error.count("\n") == 1


def test_submit_calls_what_is_missing_as_the_template_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template(folder, extend("environment", "echo {{ resources.gpuss }}"), "spot")
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    error = capsys.readouterr().err
    assert "templates/spot.sbatch.j2:4: 'resources' has no 'gpuss'; did you mean gpus? " in error


def test_profiles_that_are_no_text_are_a_problem_at_their_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "templates/partitions.yaml"
    path.write_bytes(b"# x\n" * 5000 + b"# \xff\n" + path.read_bytes())
    code, report = lint(capsys)
    assert (code, found(report)) == (1, [("templates/partitions.yaml", 5001, "profile")])
    assert report["findings"][0]["message"] == "not UTF-8; save it as UTF-8"
    assert run(["submit", "sweeps/a.yaml", "--cluster", "local"]) == 2
    error = capsys.readouterr().err
    assert error == "orchestrator: templates/partitions.yaml:5001: not UTF-8; save it as UTF-8\n"


def test_profile_shows_what_a_currency_looks_like(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "templates/partitions.yaml"
    path.write_text(path.read_text() + "h100: {template: base.sbatch.j2, currency: 5}\n")
    code, report = lint(capsys)
    message = "h100.currency: 5 is not allowed; use text, such as CNY"
    assert (code, [f["message"] for f in report["findings"]]) == (1, [message])


def test_quote_left_open_in_the_shell_lines_of_a_profile_or_sweep_is_theirs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "templates/partitions.yaml"
    text = path.read_text()
    line = text.count("\n") + 3
    path.write_text(f"{text}h100:\n  template: base.sbatch.j2\n  environment: ['echo \"x']\n")
    code, report = lint(capsys)
    assert (code, set(found(report))) == (1, {("templates/partitions.yaml", line, "bash")})
    path.write_text(text)
    spec = folder / "sweeps/a.yaml"
    line = spec.read_text().count("\n") + 1
    spec.write_text(spec.read_text() + "environment: ['echo \"x']\n")
    code, report = lint(capsys)
    assert (code, set(found(report))) == (1, {("sweeps/a.yaml", line, "bash")})

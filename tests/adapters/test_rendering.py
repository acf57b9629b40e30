"""Quoting and the errors of templates; what bash and sbatch read back is in the golden tests."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters.rendering import (
    Renderer,
    quote_sbatch,
    quote_sbatch_path,
    quote_sh,
)
from orchestrator.contract.errors import TemplateError, UserError


def bash_reads(word: str) -> str:
    done = subprocess.run(
        ["bash", "-c", f"printf %s {word}"], capture_output=True, timeout=120, check=True
    )
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("plain-1.5e-05", "plain-1.5e-05"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", "'it'\"'\"'s'"),
        ("$(touch pwned); \"x'", "'$(touch pwned); \"x'\"'\"''"),
        ("a\nb", "$'a\\nb'"),
        ("\n#SBATCH --partition=hi", "$'\\n#SBATCH --partition=hi'"),
        ("\x1b[31m'\\", "$'\\033[31m\\'\\\\'"),
        ("[a-z]*?~{1,2}", "'[a-z]*?~{1,2}'"),
        ("中文", "'中文'"),
        (7, "7"),
    ],
)
def test_quote_sh_is_one_word_on_one_line(value: object, word: str) -> None:
    assert quote_sh(value) == word
    assert "\n" not in quote_sh(value)
    assert bash_reads(quote_sh(value)) == str(value)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_quote_sh_any_text_arrives_verbatim(value: str) -> None:
    assert bash_reads(quote_sh(value)) == value


def test_quote_sh_nul_is_refused() -> None:
    with pytest.raises(TemplateError, match="NUL"):
        quote_sh("a\0b")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("spot", "spot"),
        ("0-9%3", "0-9%3"),
        ("with space", '"with space"'),
        ("#hash", '"#hash"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
    ],
)
def test_quote_sbatch_quotes_what_sbatch_would_misread(value: str, word: str) -> None:
    assert quote_sbatch(value) == word


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\tb", "a\0b", "a\x1bb", "a\u2028b"])
def test_quote_sbatch_control_characters_are_refused(value: str) -> None:
    with pytest.raises(TemplateError, match="control characters"):
        quote_sbatch(value)


def test_quote_sbatch_path_doubles_percent_signs() -> None:
    assert quote_sbatch_path("/a%b/c d") == '"/a%%b/c d"'


@dataclass(frozen=True)
class Job:
    """A record among a template's values."""

    gpus: int


def render(folder: Path, text: str, **context: object) -> str:
    (folder / "t.sbatch.j2").write_text(text)
    return Renderer(str(folder)).render("t.sbatch.j2", context)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/bash\n{{ x }}\n{{ nope }}\n", ":3: 'nope' is undefined; templates/README.md"),
        ("#!/bin/bash\n{% if %}\n", ":2: Expected an expression"),
        ("#!/bin/bash\n{{ x.__class__.__mro__ }}\n", ":2: access to attribute '__class__'"),
        ("#!/bin/bash\n{{ 1 / 0 }}\n", ":2: division by zero"),
        ("echo\n", ": the script must start with #!/bin/bash"),
        (
            "#!/bin/bash\necho\n#SBATCH --time=1\n",
            ": rendered line 3: '#SBATCH --time=1' stands after the first command (line 2)",
        ),
        (
            "#!/bin/bash\n#SBATCH --array=0-1\n#SBATCH --array=0-2\n",
            ": rendered line 3: --array stands twice",
        ),
        ("#!/bin/bash\n{{ 'a' * 2000000 }}\n", ":2: the product is too long"),
    ],
)
def test_render_mistake_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(tmp_path, text, x=1)
    assert str(caught.value).startswith(f"{tmp_path}/t.sbatch.j2{message}")


LISTED = "templates/README.md lists the values a template may use"
SHELL = "what is meant for the shell stands outside of {{ }} and {% %}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ job.gpuss }}", f"'job' has no 'gpuss'; did you mean gpus? {LISTED}"),
        ("{{ job['gpuss'] }}", f"'job' has no 'gpuss'; did you mean gpus? {LISTED}"),
        ("{{ env.inner.b }}", f"'env.inner' has no 'b'; it has: abc; {LISTED}"),
        ("{{ jobb.gpus }}", f"'jobb' is undefined; did you mean job? {LISTED}"),
        (
            "{{ box.image }}",
            "'box.image' is not set, so it has no 'x'; write {% if box.image %} around it",
        ),
        ("{% extends 'tt.sbatch.j2' %}", "no template tt.sbatch.j2 in "),
        ("{% include 'tt.sbatch.j2' %}", "no template tt.sbatch.j2 in "),
        ("{% echo x %}", f"no tag 'echo'; {SHELL}"),
        ("{% iff x %}", "no tag 'iff'; did you mean if?"),
        ("{% %}", "{% %} without a tag; write {% if ... %}"),
        ("{% if job echo %}", f"expected %}}, found 'echo'; {SHELL}"),
        ("{% if job %}", "{% if %} is never closed; add {% endif %}"),
        ("{% endif %}", "{% endif %} has no {% if %} before it"),
        ("{% else %}", "{% else %} has no {% if %} before it"),
        ("{% if job %}{% endfor %}", "{% endfor %} while {% if %} is open; add {% endif %}"),
        ("{{ job", "the template ends where }} is missing"),
        ("{{ job | shh }}", "no filter 'shh'; did you mean sh? the filters that quote: sh, "),
        ("{{ $HOME }}", f"'$' is not allowed here, or never closed; {SHELL}"),
        ("n=${#words[@]}", "{# opens a remark that nothing closes; add #}, or write {{ '{#' }}"),
    ],
)
def test_render_mistake_is_said_in_the_templates_words(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        render(
            tmp_path,
            f"#!/bin/bash\n\n{text.replace('box.image', 'box.image.x')}\n",
            job=Job(2),
            env={"inner": {"abc": 1}},
            box={"image": None},
        )
    assert str(caught.value).startswith(f"{tmp_path}/t.sbatch.j2:3: {message}")


def test_render_unknown_template_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.sbatch.j2").write_text("#!/bin/bash\n")
    with pytest.raises(TemplateError) as caught:
        Renderer(str(tmp_path)).render("b.sbatch.j2", {})
    words = "did you mean a.sbatch.j2? it has: a.sbatch.j2"
    assert str(caught.value) == f"no template b.sbatch.j2 in {tmp_path}; {words}"


def test_render_mistake_in_a_parent_template_names_the_parent(tmp_path: Path) -> None:
    (tmp_path / "base.j2").write_text("#!/bin/bash\n{% block a %}\n{{ gone }}\n{% endblock %}\n")
    with pytest.raises(TemplateError) as caught:
        render(tmp_path, '{% extends "base.j2" %}')
    assert str(caught.value).startswith(f"{tmp_path}/base.j2:3: 'gone' is undefined")


def test_render_values_are_never_template_text(tmp_path: Path) -> None:
    text = render(tmp_path, "#!/bin/bash\necho {{ x | sh }}\n", x="{{ 7 * 7 }}")
    assert text == "#!/bin/bash\necho '{{ 7 * 7 }}'\n"


def test_renderer_missing_folder_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no templates folder"):
        Renderer(str(tmp_path / "none"))

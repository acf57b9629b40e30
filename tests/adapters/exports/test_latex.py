import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.exports.latex import (
    format_interval,
    format_latex,
    latex_text,
    write,
)
from orchestrator.contract.errors import UserError
from tests.adapters.exports.sweeps import make_confirmed_source, make_source
from tests.boards import make_board, make_trials

# What our own escapes may spell; with these taken out, nothing that TeX obeys may be left.
_ESCAPES = re.compile(
    r"\\text(?:backslash|ascii(?:tilde|circum|grave)|less|greater|bar|quotedbl|quotesingle)\{\}"
    r"|\\[{}$&#%_]|[-,]\{\}|\{[\[\]]\}|\\sweepchar\{[^\x00-\x7f]\}\{[0-9A-F]{2,6}\}"
)


def has_only_text(text: str) -> bool:
    return not re.search(r"[\\{}$&#%_^~<>|\"'`\x00-\x1f\x7f]", _ESCAPES.sub("", text))


@given(st.text(max_size=80))
def test_latex_text_of_anything_is_text(text):
    assert has_only_text(latex_text(text))


def test_latex_text_spells_every_special_character():
    assert latex_text("\\write18{rm} 5% a_b $x$ #1 & ^~") == (
        r"\textbackslash{}write18\{rm\} 5\% a\_b \$x\$ \#1 \& "
        r"\textasciicircum{}\textasciitilde{}"
    )
    assert latex_text("1--2") == "1-{}-{}2"


def test_format_latex_marks_best_and_ties_and_shows_intervals():
    trials = make_trials(
        [{"lr": lr, "seed": s} for lr in (1e-5, 1e-3) for s in range(3)],
        lambda p: p["lr"] + (p["seed"] if p["lr"] < 1e-4 else 2 - p["seed"]) / 100,
    )
    board = make_board(trials, seeded=True, name="a_b")
    standing, *lines = format_latex(board, 10).splitlines()
    assert standing.startswith("% The first place is tied: ")
    caption = lines.pop(3)
    assert caption.startswith(r"  \caption{All 2 ranked configurations of a\_b. $^\dagger$~Not")
    assert caption.endswith(r"Mean over repeats $\pm$ half of its 95\,\% interval.}")
    assert lines == [
        r"\begin{table}[htbp]",
        r"  \centering",
        r"  \setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
        r"  \label{tab:a-b}",
        r"  \sbox2{%",
        r"  \begin{tabular}{rlrrr}",
        r"    \toprule",
        r"    Rank & Trial & lr & loss $\downarrow$ & Repeats \\",
        r"    \midrule",
        r"    1 & 00000 & $1 \times 10^{-5}$ & {\boldmath$\mathbf{0.010 \pm 0.025}$} & 3/3 \\",
        r"    2 & 00003 & $0.001$ & $0.011 \pm 0.025$$^\dagger$ & 3/3 \\",
        r"    \bottomrule",
        r"  \end{tabular}}%",
        r"  \ifdim\wd2>\linewidth\ifdefined\resizebox",
        r"    \resizebox{\linewidth}{!}{\usebox2}\else\usebox2\fi\else\usebox2\fi",
        r"\end{table}",
    ]


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [
        (12.3456, 0.1234, r"12.35 \pm 0.12"),
        (12.3456, 123.4, r"12 \pm 123"),
        (0.5, 0.0, r"0.5 \pm 0"),
        (1e-9, 1e-10, r"1 \times 10^{-9} \pm 1 \times 10^{-10}"),
    ],
)
def test_format_interval_has_digits_that_go_together(mean, half, expected):
    assert format_interval(mean, half) == expected


def test_format_latex_of_hostile_names_has_nothing_that_tex_obeys(tmp_path):
    source = make_source(str(tmp_path / "demo"), metric="l$o_s%s")
    text = format_latex(source.board, 5)
    rows = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    cells = [row.split(" & ")[3] for row in rows if "&" in row]
    assert len(cells) == 2
    assert has_only_text(cells[0])
    assert cells[0].startswith("=cmd\\textbar{}")


def test_format_latex_shows_the_top_and_refuses_an_empty_board():
    board = make_board(make_trials([{"x": x} for x in range(5)], lambda p: p["x"]))
    text = format_latex(board, 2)
    assert text.count(r" \\") == 3
    assert r"\caption{The best 2 of 5 ranked configurations of" in text
    with pytest.raises(UserError, match="nothing is ranked"):
        format_latex(make_board([]), 2)


def test_format_latex_has_what_fresh_seeds_came_to(tmp_path):
    source, _ = make_confirmed_source(str(tmp_path / "demo"))
    text = format_latex(source.board, 5)
    assert r" & Repeats & Fresh seeds \\" in text
    assert r" & 2/2 & $0.5 \pm 3.2$ (2) \\" in text
    assert r" & 2/2 &  \\" in text
    assert "Fresh seeds had no part in the choice." in text


def test_characters_that_pdflatex_does_not_know_are_spelled_and_defined():
    assert latex_text("é–…€") == "é–…€"
    assert latex_text("中🚀") == r"\sweepchar{中}{4E2D}\sweepchar{🚀}{1F680}"
    params = [{"data": "中"}, {"data": "y"}]
    text = format_latex(make_board(make_trials(params, lambda p: 1.0)), 2)
    assert text.startswith(r"\providecommand{\sweepchar}[2]{")
    plain = format_latex(make_board(make_trials([{"x": 1}, {"x": 2}], lambda p: 1.0)), 2)
    assert "sweepchar" not in plain


@pytest.mark.parametrize("engine", ["pdflatex", "lualatex"])
def test_latex_compiles(tmp_path, engine):
    if shutil.which(engine) is None or shutil.which("kpsewhich") is None:
        pytest.skip(f"no {engine} here")
    packages = ["booktabs.sty", "graphicx.sty", "ecrm1000.tfm"]
    found = subprocess.run(["kpsewhich", *packages], capture_output=True, timeout=300, check=False)
    if len(found.stdout.splitlines()) < len(packages):
        pytest.skip(f"this LaTeX lacks one of {', '.join(packages)}")
    write(make_source(str(tmp_path / "demo"), metric="loss 中🚀é"), str(tmp_path))
    (tmp_path / "doc.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,graphicx}\usepackage[T1]{fontenc}"
        r"\begin{document}\input{leaderboard.tex}\end{document}"
    )
    argv = [engine, "-halt-on-error", "-interaction=batchmode", "doc.tex"]
    done = subprocess.run(argv, cwd=tmp_path, timeout=300, check=False)
    log = (tmp_path / "doc.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log  # its text of 60 characters is shrunk with it

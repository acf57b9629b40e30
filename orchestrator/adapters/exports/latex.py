r"""The best configurations as a LaTeX table for a paper. Runs on the login node.

A ``table`` with ``booktabs`` rules: rank, trial, parameters that vary, the objective with half the
width of its 95 % interval where there are repeats, the same of the fresh seeds of ``make confirm``,
GPU-hours where one trial is one configuration and there were GPUs. The first place is bold; what
cannot be told from it has a dagger, where the leaderboard knows ties. With ``graphicx``, a table
wider than the text is shrunk to fit.

All text is text: every character that means something to TeX is spelled out, control characters
and such as turn the reading direction are removed, so ``\write18`` in a name is eight letters.
Characters that pdfLaTeX does not know stand in ``\sweepchar``, which the file defines: LuaLaTeX and
XeLaTeX show them, if the font has them, and pdfLaTeX shows their code, ``<U+4E2D>``.
"""

from __future__ import annotations

import math
from typing import Any

from orchestrator.adapters.exports.publish import publish_bytes
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.adapters.leaderboard_files import cell_values, show_value
from orchestrator.contract.errors import UserError
from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line

MAX_CELL_CHARS = 60
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # In pairs they are dashes, and these guillemets.
    "-": r"-{}",
    ",": r",{}",
    "[": r"{[}",
    "]": r"{]}",
}
# What pdfLaTeX sets with \usepackage[T1]{fontenc} and nothing else: Latin-1, most of Latin
# Extended-A and some punctuation.
_KNOWN = frozenset(map(chr, {*range(0xA1, 0x180)} - {0xAD, 0x126, 0x127, 0x138, 0x149, 0x17F})) | {
    *"–—‘’‚“”„†‡•…‹›€"
}
_DEFINE_CHAR = (
    r"\providecommand{\sweepchar}[2]"
    r"{\ifdefined\Umathcode#1\else\textless{}U+#2\textgreater{}\fi}"
)


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``leaderboard.tex``.

    Raises:
        UserError: Nothing is ranked.
    """
    text = format_latex(source.board, source.top)
    path = publish_bytes(folder, "leaderboard.tex", text.encode("utf-8"))
    note = r"in the preamble: \usepackage{booktabs,graphicx} and \usepackage[T1]{fontenc}"
    return Exported([path], [note])


def latex_text(text: str, max_chars: int = MAX_CELL_CHARS) -> str:
    """Spell text so that TeX sets it as it is, on one line."""
    return "".join(map(_spell, one_line(text, max_chars)))


def _spell(char: str) -> str:
    if char.isascii() or char in _KNOWN:
        return _SPECIAL.get(char, char)
    return f"\\sweepchar{{{char}}}{{{ord(char):X}}}"


def format_latex(board: Leaderboard, top: int) -> str:
    """Format the first ``top`` configurations as a LaTeX table.

    Raises:
        UserError: Nothing is ranked.
    """
    if not board.leads or board.objective is None:
        raise UserError("nothing is ranked yet, so there is no table to make")
    frame = board.frame.iloc[list(board.leads[:top])]
    rows = [dict(zip(frame.columns, cells, strict=True)) for cells in _rows(frame)]
    is_seeded = board.summary.seeded
    parameters = [n for n in board.searched if any(row[n] is not None for row in rows)]
    objective = f"{latex_text(board.objective)} $\\{_arrow(board.summary.goal)}$"
    has_gpus = not is_seeded and any(row.get("gpu_hours") for row in rows)
    headers = ["Rank", "Trial", *map(latex_text, parameters), objective]
    headers += ["Repeats"] if is_seeded else []
    is_confirmed = any(row.get("confirmed_mean") is not None for row in rows)
    headers += ["Fresh seeds"] if is_confirmed else []
    headers += ["GPU-hours"] if has_gpus else []
    layout = (
        "rl"
        + "".join(_align(frame[name].dtype) for name in parameters)
        + "r" * (1 + is_seeded + is_confirmed + has_gpus)
    )
    lines = []
    has_ties = False
    for row in rows:
        is_tied = row["rank"] != 1 and row.get("tie") == 1
        has_ties |= is_tied
        cells = [str(row["rank"]), latex_text(str(row["trial"]).partition("-")[0])]
        cells += [_value(row[name]) for name in parameters]
        cells.append(_objective(row, board, row["rank"] == 1) + (r"$^\dagger$" if is_tied else ""))
        cells += [f"{row['repeats_done']}/{row['repeats']}"] if is_seeded else []
        cells += [_confirmed(row)] if is_confirmed else []
        cells += [show_value(row["gpu_hours"], 3)] if has_gpus else []
        lines.append(" & ".join(cells) + r" \\")
    notes: list[str] = []
    notes += [r"$^\dagger$~Not told from the best by its repeats."] if has_ties else []
    notes += ["Mean over repeats $\\pm$ half of its 95\\,\\% interval."] if is_seeded else []
    notes += ["Fresh seeds had no part in the choice."] if is_confirmed else []
    n_ranked = len(board.leads)
    few = f"The best {len(rows)} of {n_ranked}" if len(rows) < n_ranked else f"All {n_ranked}"
    caption = f"{few} ranked configurations of {latex_text(board.summary.name)}."
    table = "\n".join(
        [
            *([f"% {latex_text(board.standing.words, 400)}"] if board.standing.words else []),
            r"\begin{table}[htbp]",
            r"  \centering",
            # A caption above a rule needs room below it, which article and others do not give.
            r"  \setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
            f"  \\caption{{{' '.join([caption, *notes])}}}",
            f"  \\label{{tab:{_label(board.summary.name)}}}",
            r"  \sbox2{%",
            f"  \\begin{{tabular}}{{{layout}}}",
            r"    \toprule",
            f"    {' & '.join(headers)} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}}%",
            r"  \ifdim\wd2>\linewidth\ifdefined\resizebox",
            r"    \resizebox{\linewidth}{!}{\usebox2}\else\usebox2\fi\else\usebox2\fi",
            r"\end{table}",
            "",
        ]
    )
    return f"{_DEFINE_CHAR}\n{table}" if r"\sweepchar{" in table else table


def _rows(frame: Any) -> Any:
    return zip(*(cell_values(frame[name]) for name in frame.columns), strict=True)


def _value(value: Any) -> str:
    if type(value) in (int, float) and math.isfinite(value):
        return f"${_plain(value)}$"
    return latex_text(show_value(value))


def _align(dtype: Any) -> str:
    return "r" if str(dtype) in ("Int64", "Float64") else "l"


def _arrow(goal: str) -> str:
    return "uparrow" if goal == "maximize" else "downarrow"


def _label(name: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "-" for char in name)[:60]


def _objective(row: dict[str, Any], board: Leaderboard, is_best: bool) -> str:
    """Format mean and interval with digits that go together."""
    name = str(board.objective)
    mean, low, high = (row.get(f"{name}_{word}") for word in ("mean", "ci95_low", "ci95_high"))
    if not board.summary.seeded or mean is None:
        text = _plain(row[name])
    elif low is None or high is None or not math.isfinite(high - low):
        text = _plain(mean)
    else:
        text = format_interval(mean, (high - low) / 2)
    return f"{{\\boldmath$\\mathbf{{{text}}}$}}" if is_best else f"${text}$"


def _confirmed(row: dict[str, Any]) -> str:
    """Format mean, interval and number of the runs on fresh seeds, if there were any."""
    mean, low, high = (row.get(f"confirmed_{word}") for word in ("mean", "ci95_low", "ci95_high"))
    if mean is None:
        return ""
    if low is None or high is None or not math.isfinite(high - low):
        text = _plain(mean)
    else:
        text = format_interval(mean, (high - low) / 2)
    return f"${text}$ ({row['confirmed_n']})"


def format_interval(mean: float, half: float) -> str:
    """Format ``mean ± half``: the half with two digits, the mean with as many decimals."""
    if half <= 0 or not 1e-6 <= max(abs(mean), half) < 1e7:
        return f"{_plain(mean)} \\pm {_plain(half, 2)}"
    decimals = min(max(1 - math.floor(math.log10(half)), 0), 10)
    return f"{mean:.{decimals}f} \\pm {half:.{decimals}f}"


def _plain(value: Any, digits: int = 5) -> str:
    number = float(value)
    mantissa, _, exponent = f"{number:.{digits}g}".partition("e")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}" if exponent else mantissa

r"""The best configurations as a LaTeX table for a paper. Runs on the login node.

A ``table`` with ``booktabs`` rules: rank, trial, parameters that vary, the objective with half the
width of its 95 % interval where there are repeats, GPU-hours where one trial is one configuration
and there were GPUs. The first place is bold; what cannot be told from it has a dagger, where the
leaderboard knows ties.

All text is text: every character that means something to TeX is spelled out, control characters
and such as turn the reading direction are removed, so ``\write18`` in a name is eight letters.
Characters beyond ASCII stay as they are; some need LuaLaTeX or XeLaTeX and a font that has them.
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


def write(source: ExportSource, folder: str) -> Exported:
    """Write ``leaderboard.tex``.

    Raises:
        UserError: Nothing is ranked.
    """
    text = format_latex(source.board, source.top)
    path = publish_bytes(folder, "leaderboard.tex", text.encode("utf-8"))
    note = r"in the preamble: \usepackage{booktabs} and \usepackage[T1]{fontenc}"
    return Exported([path], [note])


def latex_text(text: str, max_chars: int = MAX_CELL_CHARS) -> str:
    """Spell text so that TeX sets it as it is, on one line."""
    return "".join(_SPECIAL.get(char, char) for char in one_line(text, max_chars))


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
    headers += ["GPU-hours"] if has_gpus else []
    layout = (
        "rl"
        + "".join(_align(frame[name].dtype) for name in parameters)
        + "r" * (1 + is_seeded + has_gpus)
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
        cells += [show_value(row["gpu_hours"], 3)] if has_gpus else []
        lines.append(" & ".join(cells) + r" \\")
    notes: list[str] = []
    notes += [r"$^\dagger$~Not told from the best by its repeats."] if has_ties else []
    notes += ["Mean over repeats $\\pm$ half of its 95\\,\\% interval."] if is_seeded else []
    caption = (
        f"The best of {len(board.leads)} ranked configurations of {latex_text(board.summary.name)}."
    )
    return "\n".join(
        [
            *([f"% {latex_text(board.standing.words, 400)}"] if board.standing.words else []),
            r"\begin{table}[htbp]",
            r"  \centering",
            f"  \\caption{{{' '.join([caption, *notes])}}}",
            f"  \\label{{tab:{_label(board.summary.name)}}}",
            f"  \\begin{{tabular}}{{{layout}}}",
            r"    \toprule",
            f"    {' & '.join(headers)} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


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

"""The comment at the top of ``best.yaml``: which configuration it is, how good, how to go on. Pure.

Made of the leaderboard alone, without reading the spec, so that ``collect`` can tell cheaply
whether the file that is there still says the same. The last line is a digest of all above it, so
that a file is known for one that nobody has edited.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from orchestrator.domain.leaderboard import Leaderboard
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.ranking import SEED
from orchestrator.domain.standing import Certainty

# Without the counts that the leaderboard gives: they change with each trial that ends.
_CERTAINTY = {
    Certainty.PROVISIONAL: "Its first place is provisional: make collect says why.",
    Certainty.TIED: "Its first place is tied: make collect says with how many.",
    Certainty.CLEAR: "Its first place is clear, though the runs that chose it flatter it.",
    Certainty.CONFIRMED: "Its first place is confirmed on fresh seeds.",
    Certainty.OVERTURNED: "Its first place is overturned: on fresh seeds {better} is better.",
}
# Raise it when best_spec writes something else for the same spec and parameters.
_VERSION = 2
_FIRST = re.compile(
    rb"# The best configuration of sweep .{1,300} so far, as a sweep: trial (\S+)\."
)
_SEAL = b"# sha256 of the lines above: "


def best_trial(board: Leaderboard) -> str | None:
    """Return the name of the first trial of the best configuration; None if nothing is ranked."""
    return str(board.table["trial"].cells[board.leads[0]]) if board.leads else None


def format_header(
    board: Leaderboard, results: str, spec_text: str, overrides: Sequence[str]
) -> str:
    """Format the comment.

    Args:
        board: The leaderboard; something is ranked.
        results: The results folder, ``results`` or a whole path.
        spec_text: The sweep's spec.
        overrides: What was put over it when it was submitted.
    """
    name = best_trial(board)
    assert name is not None
    sweep = board.summary.name
    number = name.partition("-")[0].lstrip("0") or "0"
    elsewhere = "" if results == "results" else f" RESULTS={shlex.quote(results)}"
    file = shlex.quote(f"{results}/{sweep}/best.yaml")
    digest = hashlib.sha256(json.dumps([_VERSION, spec_text, list(overrides)]).encode("ascii"))
    lines = [
        f"The best configuration of sweep {sweep} so far, as a sweep: trial {name}.",
        describe_objective(board),
        _CERTAINTY.get(board.standing.certainty, "").format(better=_best_on_fresh_seeds(board)),
        f"  run it again      make submit SWEEP={file}{elsewhere}",
        f"  check its numbers make reproduce SWEEP={shlex.quote(sweep)} TRIAL={number}{elsewhere}",
        *_next_line(board, file, elsewhere),
        "make collect writes this file anew until somebody edits it.",
        f"Made of the spec {digest.hexdigest()[:12]}.",
    ]
    return "".join(f"# {_comment(line)}\n" for line in lines if line)


def seal(text: str) -> bytes:
    """Return the whole file: a text, and the digest of it in a line of its own."""
    data = text.encode("utf-8")
    return data + _SEAL + hashlib.sha256(data).hexdigest().encode("ascii") + b"\n"


def named_trial(data: bytes) -> str | None:
    """Return the name of the trial that a ``best.yaml`` is of; None if it is no file of ours."""
    first = _FIRST.fullmatch(data.partition(b"\n")[0])
    return None if first is None else first[1].decode("utf-8", "replace")


def is_unedited(data: bytes) -> bool:
    """Tell whether a file is as ``seal`` made it."""
    text, found, digest = data.rpartition(_SEAL)
    return bool(found) and digest.strip().decode("ascii", "replace") == (
        hashlib.sha256(text).hexdigest()
    )


def _best_on_fresh_seeds(board: Leaderboard) -> str:
    best = next((one for one in board.outcome.configurations if one.rank == 1), None)
    return "another" if best is None else f"trial {best.runs.name}"


def describe_objective(board: Leaderboard) -> str:
    """Say in a line how good the best is."""
    if not board.leads or board.objective is None:
        return ""
    row = board.table.row(board.leads[0])
    name = board.objective
    words = f"{name} ({board.summary.goal}): "
    mean = f"{name}_mean"
    if not (board.summary.seeded and mean in board.table):
        return f"{words}{_number(row[name])}, one run"
    n, n_all = int(row["repeats_done"]), int(row["repeats"])
    of = f"{n} repeats" if n == n_all else f"{n} of {n_all} repeats"
    words += f"{_number(row[mean])}, the mean of {of}"
    low, high = (_finite(row.get(f"{name}_ci95_{word}")) for word in ("low", "high"))
    if low is None or high is None:
        return f"{words}; no interval from one"
    return f"{words}; 95 % interval {_number(low)} to {_number(high)}"


def _next_line(board: Leaderboard, file: str, elsewhere: str) -> list[str]:
    """Show how a next sweep starts from here, with a parameter of this one."""
    row = board.table.row(board.leads[0])
    for column in board.searched:
        name, value = board.source_names.get(column, column), row[column]
        kind = board.table[column].dtype
        if name != SEED and kind in ("Int64", "Float64") and _finite(value):
            half = value // 2 if kind == "Int64" else value / 2
            spell = str if kind == "Int64" else _number
            near = dict.fromkeys(spell(each) for each in (half, value, 2 * value) if each)
            values = f"{name}={','.join(near)}"
            new = shlex.quote(f"name={board.summary.name}-2 {values}")
            return [f"  search around it  make submit SWEEP={file}{elsewhere} ARGS={new}"]
    return []


def _number(value: Any) -> str:
    try:
        return f"{float(value):.6g}"
    except (TypeError, ValueError):
        return str(value)


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):  # pandas' missing
        return None
    return number if math.isfinite(number) else None


def _comment(line: str) -> str:
    if line.isprintable():
        return line  # a command is typed as it stands: neither cut nor are its blanks joined
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + one_line(line.strip(), 400)

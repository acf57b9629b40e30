"""The whole leaderboard as CSV, Markdown, Parquet or JSON. Runs on the login node.

CSV and Markdown are those of ``adapters.leaderboard_files``, and so are their guards against
formulas and markup. Parquet has the types of ``domain.typed_columns`` and every text as it is; NaN
and null differ in it, though pandas reads both as missing. JSON is standard JSON: numbers with all
digits, ``"nan"``, ``"inf"`` and ``"-inf"`` as text, missing cells as null.
"""

from __future__ import annotations

import io
from typing import Any

import pandas as pd

from orchestrator.adapters.exports.publish import publish_bytes
from orchestrator.adapters.exports.source import Exported, ExportSource
from orchestrator.adapters.leaderboard_files import cell_values, format_csv, format_markdown
from orchestrator.contract.records import dump_record
from orchestrator.domain.leaderboard import Leaderboard

SCHEMA = "orchestrator.leaderboard/1"


def write(source: ExportSource, folder: str, name: str) -> Exported:
    """Write the table as ``csv``, ``markdown``, ``parquet`` or ``json``."""
    board = source.board
    if name == "csv":
        file, data = "leaderboard.csv", format_csv(board.frame).encode("utf-8")
    elif name == "markdown":
        file, data = "leaderboard.md", format_markdown(board).encode("utf-8")
    elif name == "parquet":
        file, data = "leaderboard.parquet", _parquet(board.frame)
    else:
        file, data = "leaderboard.json", dump_record(leaderboard_record(board))
    return Exported([publish_bytes(folder, file, data)])


def leaderboard_record(board: Leaderboard) -> dict[str, Any]:
    """Return the leaderboard as JSON values; ``dump_record`` spells what is not finite."""
    names = [str(name) for name in board.frame.columns]
    columns = [cell_values(board.frame[name]) for name in board.frame.columns]
    return {
        "schema": SCHEMA,
        "sweep": board.summary.name,
        "objective": board.objective,
        "goal": board.summary.goal,
        "objectives": [{"column": c, "goal": goal} for c, goal in board.objectives],
        "parameters": list(board.parameters),
        "constants": list(board.constants),
        "metrics": list(board.metrics),
        "standing": {
            "certainty": board.standing.certainty.value,
            "words": board.standing.words,
        },
        "counts": {state.value: n for state, n in board.counts.items()},
        "rows": [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)],
    }


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()

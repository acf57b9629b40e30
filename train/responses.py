"""``responses.jsonl``: what a trial's model answered, for people to read and to rate.

One JSON object a line, in the order of the prompts' ids: ``prompt_id, prompt, reference, answer,
chrf`` (0 to 100), ``score`` (0 to 5), and whose answer it is: ``step, weights``. It appears whole,
by one rename. Until then what was answered stands in ``.responses.jsonl.part``, so that an attempt
goes on where the one before it was stopped or killed.

Standard library only; called by rank 0, on the compute node.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.runtime import durable

NAME = "responses.jsonl"
# Longer texts are cut in the file, never in the score: nobody rates a book.
MAX_TEXT_CHARS = 4000
_WANTED = {"prompt_id": str, "answer": str, "chrf": float, "score": float}

Row = dict[str, Any]


def place(output_dir: str) -> Path:
    """Name the file: in the trial's directory, or beside the checkpoints of a run by hand."""
    return Path(os.environ.get("TRIAL_DIR") or output_dir) / NAME


def make_row(prompt_id: str, texts: Mapping[str, str], chrf: float, author: Row) -> Row:
    """Make a line of the file.

    Args:
        prompt_id: Whose answer.
        texts: ``prompt``, ``reference`` and ``answer``.
        chrf: 0 to 100.
        author: ``step`` and ``weights`` of the model that answered.
    """
    cut = {name: _cut(text) for name, text in texts.items()}
    return {"prompt_id": prompt_id, **cut, "chrf": chrf, "score": score_of(chrf), **author}


def score_of(chrf: float) -> float:
    """Map chrF to the response score: 5 x chrF / 100."""
    return 5 * chrf / 100


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def read_done(path: Path, author: Row) -> dict[str, Row]:
    """Read what this very model answered already, by prompt; others' rows and torn lines are not.

    Args:
        path: The finished file; its unfinished part is looked at too.
        author: ``step`` and ``weights`` of the model.
    """
    done: dict[str, Row] = {}
    for file in (path, part_of(path)):
        try:
            lines = file.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            continue
        for line in lines:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if line.endswith(b"\n") and _is_of(row, author):
                    done[row["prompt_id"]] = row
    return done


def _is_of(row: Any, author: Row) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(name), kind) for name, kind in _WANTED.items())
        and {name: row.get(name) for name in author} == author
    )


def part_of(path: Path) -> Path:
    """Name the unfinished part of the file."""
    return path.with_name(f".{path.name}.part")


def start_part(path: Path, done: Iterable[Row]) -> None:
    """Begin the unfinished part with what is done; what is of no use goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(str(part_of(path)), _spell(done))


def append_part(path: Path, rows: Iterable[Row]) -> None:
    """Add what was answered just now, by one write: a kill leaves lines whole or cut."""
    with open(part_of(path), "ab", buffering=0) as file:
        file.write(_spell(rows))


def finish(path: Path, rows: Iterable[Row]) -> None:
    """Publish the whole file and drop its unfinished part."""
    data = _spell(sorted(rows, key=lambda row: row["prompt_id"]))
    if not path.exists() or path.read_bytes() != data:
        durable.replace(str(path), data)
    part_of(path).unlink(missing_ok=True)


def _spell(rows: Iterable[Row]) -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode("utf-8", "backslashreplace")

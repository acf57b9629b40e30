"""Reads the rows of a training through its task, and splits them by content.

What a row is, says the task (``tasks``); where rows come from, ``sources``. What has another form
is refused with file and line. Runs on the compute node. Not covered: streaming.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

from arguments import ArgumentMistake, Arguments
from sources import TRAIN, Part, find_held_back, open_source
from tasks import Row, Split, Task, find_task


def split_rows(arguments: Arguments) -> Split:
    """Read the training and the evaluation rows.

    Held back is ``eval_data``; else the validation or test split that ``data`` brings; else a row
    if the checksum of its content falls below ``eval_fraction``: equal rows never stand on both
    sides, every seed has the same split, and adding rows moves none. Of the training rows,
    ``max_train_examples`` remain, chosen by checksum too: fewer are a part of more.

    Raises:
        ArgumentMistake: A row that cannot be read, or an empty side.
    """
    task = find_task(arguments.task)
    part = open_source(arguments.data, TRAIN)
    rows = list(_parse(task, part, arguments))
    held_back_part = find_held_back(arguments)
    if held_back_part:
        train, held_back = rows, list(_parse(task, held_back_part, arguments))
    else:
        train, held_back = [], []
        for row in rows:
            is_held_back = _checksum(row) < arguments.eval_fraction * 2**32
            (held_back if is_held_back else train).append(row)
    for side, name in ((train, "training"), (held_back, "evaluation")):
        if not side:
            raise ArgumentMistake(
                f"--data={arguments.data}: {len(rows)} rows leave none for {name}; give more rows, "
                "--eval_data, or another --eval_fraction"
            )
    return Split(_limit(train, arguments.max_train_examples), held_back, part.class_names)


def read_rows(source: str, arguments: Arguments | None = None) -> Iterator[Row]:
    """Read the rows of a source, of its training split if it has splits.

    Args:
        source: As ``--data``.
        arguments: Says the task and the names of columns; None: dialogues.

    Raises:
        ArgumentMistake: Names file, line and what is wrong.
    """
    arguments = arguments or Arguments()
    yield from _parse(find_task(arguments.task), open_source(source, TRAIN), arguments)


def _parse(task: Task, part: Part, arguments: Arguments) -> Iterator[Row]:
    for record, where in part.records:
        yield task.parse(record, where, arguments), where


def _checksum(row: Row) -> int:
    return zlib.crc32(json.dumps(row[0], ensure_ascii=False, sort_keys=True).encode())


def _limit(rows: list[Row], most: int) -> list[Row]:
    """Keep the ``most`` rows of the smallest checksums, in their order; 0: all."""
    if not most or len(rows) <= most:
        return rows
    # From the top: those with the smallest checksums may have been held back.
    chosen = sorted(range(len(rows)), key=lambda index: (-_checksum(rows[index]), index))[:most]
    return [rows[index] for index in sorted(chosen)]

"""Reads rows: the self-made dialogues, a JSONL file, or a directory of ``save_to_disk``.

A row is ``{"messages": [{"role": ..., "content": ...}, ...]}`` or
``{"prompt": ..., "response": ...}``. What has another form is refused with file and line.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dialogues
from arguments import ArgumentMistake, Arguments

ROLES = ("system", "user", "assistant")
# A row: its messages, and where it stands (a 1-based line or row number).
Row = tuple[Sequence[dict[str, str]], int]


def split_rows(arguments: Arguments) -> tuple[list[Row], list[Row]]:
    """Read the training and the evaluation rows.

    Without ``eval_data``, a row is held back if the checksum of its content falls below
    ``eval_fraction``: equal rows never stand on both sides, every seed has the same split, and
    adding rows moves none.

    Raises:
        ArgumentMistake: A row that cannot be read, or an empty side.
    """
    rows = list(read_rows(arguments.data))
    if arguments.eval_data:
        train, held_back = rows, list(read_rows(arguments.eval_data))
    else:
        train, held_back = [], []
        for row in rows:
            text = json.dumps(row[0], ensure_ascii=False, sort_keys=True)
            is_held_back = zlib.crc32(text.encode()) < arguments.eval_fraction * 2**32
            (held_back if is_held_back else train).append(row)
    for side, name in ((train, "training"), (held_back, "evaluation")):
        if not side:
            raise ArgumentMistake(
                f"--data={arguments.data}: {len(rows)} rows leave none for {name}; give more rows, "
                "--eval_data, or another --eval_fraction"
            )
    return train, held_back


def read_rows(source: str) -> Iterator[Row]:
    """Read the dialogues of a source.

    Raises:
        ArgumentMistake: Names file, line and what is wrong.
    """
    if source == "dialogues":
        for number, dialogue in enumerate(dialogues.make_dialogues(), 1):
            yield dialogue, number
    elif os.path.isdir(source):
        for number, row in enumerate(_load_dataset(source), 1):
            yield check_row(row, f"{source}: row {number}"), number
    else:
        with open(source, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _parse_line(line, f"{source}:{number}"), number


def _parse_line(line: bytes, where: str) -> list[dict[str, str]]:
    try:
        row = json.loads(line)
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise ArgumentMistake(f"{where}: not JSON: {error}") from None
    return check_row(row, where)


def check_row(row: Any, where: str) -> list[dict[str, str]]:
    """Bring a row into the form of messages.

    Raises:
        ArgumentMistake: The row has another form, or no answer.
    """
    if not isinstance(row, Mapping):
        raise ArgumentMistake(f"{where}: found {type(row).__name__}, an object is needed")
    if "messages" in row:
        messages = row["messages"]
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
            raise ArgumentMistake(f"{where}: messages: a list of at least one message is needed")
    elif "prompt" in row and "response" in row:
        messages = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["response"]},
        ]
    else:
        raise ArgumentMistake(
            f"{where}: found the keys {', '.join(map(str, row)) or 'none'}; needed are messages, "
            "or prompt and response"
        )
    for index, message in enumerate(messages):
        place = f"{where}: messages[{index}]"
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ArgumentMistake(f"{place}: an object with role and content is needed")
        if message["role"] not in ROLES:
            raise ArgumentMistake(
                f"{place}: role {message['role']!r} is not known; allowed: {', '.join(ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise ArgumentMistake(f"{place}: content is not a text")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles or roles[0] == "assistant":
        raise ArgumentMistake(f"{where}: needs a question and an answer (role assistant) after it")
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _load_dataset(directory: str) -> Any:
    # Lazy: the library brings pyarrow and pandas, which most trials do without.
    from datasets import Dataset, DatasetDict, load_from_disk

    try:
        loaded: Dataset | DatasetDict = load_from_disk(directory)
    except (OSError, ValueError) as error:
        raise ArgumentMistake(
            f"{directory}: not a directory of datasets.save_to_disk: {error}"
        ) from None
    if isinstance(loaded, DatasetDict):
        if "train" not in loaded:
            raise ArgumentMistake(f"{directory}: has the splits {', '.join(loaded)}, no train")
        return loaded["train"]
    return loaded

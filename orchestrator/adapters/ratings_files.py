"""Files of human ratings: a sweep's ``ratings.csv``, sheets for raters, and trials' answers.

Runs on the login node. Trials' ``responses.jsonl`` come from foreign programs, tables from
spreadsheets: what cannot be used is named and passed over. Text that a spreadsheet would compute is
guarded as in the leaderboard (``leaderboard_files.csv_text``). Files appear by one rename; two
imports at the same moment keep the later one's.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Sequence

from orchestrator.adapters.leaderboard_files import csv_text
from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.contract.errors import CorruptRecord, UserError
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.contract.records import dump_record, read_record
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.ratings import COLUMNS, Answer, Rating, TableRow, read_table
from orchestrator.runtime import durable

MAX_TABLE_BYTES = 64 * 2**20
MAX_RESPONSES_BYTES = 64 * 2**20
SHEET_COLUMNS = ("key", "question", "reference", "answer", "rating", "rater")
_TEXTS = ("prompt_id", "prompt", "reference", "answer")


def read_ratings_table(path: str, name: str) -> tuple[list[TableRow], list[str]]:
    """Read a table of ratings; see ``domain.ratings.read_table``.

    Args:
        path: The file.
        name: What messages call it.

    Raises:
        FileNotFoundError: There is none.
        UserError: It is no table of ratings.
    """
    try:
        data, _ = read_file(path, MAX_TABLE_BYTES)
        text = data.decode("utf-8-sig")
    except UnusableFile as error:
        raise UserError(f"{name}: {error}") from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{name}:{line}: not UTF-8; save it as CSV UTF-8 in the spreadsheet"
        ) from None
    return read_table(text, name)


def write_ratings(sweep: SweepPaths, ratings: Iterable[Rating]) -> None:
    """Write ``ratings.csv``."""
    rows = ([r.trial, r.prompt, repr(r.value), r.rater] for r in ratings)
    _write_table(sweep.ratings, COLUMNS, rows)


def write_sheet(path: str, rows: Iterable[Sequence[str]]) -> None:
    """Write a sheet for a rater; with a byte order mark, else Excel takes UTF-8 for Latin-1."""
    _write_table(path, SHEET_COLUMNS, rows, mark="\ufeff")


def _write_table(
    path: str, columns: Sequence[str], rows: Iterable[Sequence[str]], mark: str = ""
) -> None:
    lines = [",".join(columns)]
    lines += [",".join(csv_text(cell) if cell else "" for cell in row) for row in rows]
    text = mark + "\n".join(lines) + "\n"
    durable.replace(path, text.encode("utf-8", "backslashreplace"))


def read_answers(paths: TrialPaths, problems: list[str]) -> list[Answer] | None:
    """Read what a trial answered; None if it left no answers.

    Args:
        paths: The trial.
        problems: Gets a line for a file that cannot be used, and for its first bad line.
    """
    name = f"{paths.name}/responses.jsonl"
    try:
        data, _ = read_file(paths.responses, MAX_RESPONSES_BYTES)
    except FileNotFoundError:
        return None
    except UnusableFile as error:
        problems.append(f"{name}: {error}")
        return None
    found: dict[str, Answer] = {}
    n_bad, first_bad = 0, 0
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        answer = _parse_answer(line, paths.name)
        if answer is None or answer.prompt in found:
            n_bad, first_bad = n_bad + 1, first_bad or number
        else:
            found[answer.prompt] = answer
    if n_bad:
        more = f" ({n_bad - 1} more such lines)" if n_bad > 1 else ""
        problems.append(
            f"{name}:{first_bad}: not an object with the texts {', '.join(_TEXTS)}, "
            f"each prompt_id once{more}"
        )
    return list(found.values())


def _parse_answer(line: bytes, trial: str) -> Answer | None:
    try:
        row = json.loads(line)
        texts = [row[name] for name in _TEXTS]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(type(text) is str for text in texts) or not texts[0]:
        return None
    prompt, *shown = texts
    return Answer(trial, prompt, *(strip_controls(text) for text in shown))


def rating_salt(sweep: SweepPaths) -> str:
    """Return what makes this sweep's keys blind, made on first use.

    Raises:
        CorruptRecord: The file that keeps it cannot be used.
    """
    try:
        salt = read_record(sweep.rating_salt).get("salt")
    except FileNotFoundError:
        salt = secrets.token_hex(16)
        try:
            durable.write_new(sweep.rating_salt, dump_record({"salt": salt}))
        except FileExistsError:  # another command made it just now
            return rating_salt(sweep)
    if not isinstance(salt, str) or not salt:
        raise CorruptRecord(f"{sweep.rating_salt}: no salt; keys of older sheets are lost with it")
    return salt


def is_filled_in(path: str) -> bool:
    """Tell whether a sheet is there and holds ratings, or is none that could be written over."""
    if not os.path.lexists(path):
        return False
    try:
        rows, problems = read_ratings_table(path, path)
    except (UserError, OSError):
        return True
    return bool(rows or problems)

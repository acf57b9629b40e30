"""People's ratings of what trials answered: reading tables of them, and what they come to.

Pure: text and values in, values out. A table of ratings is CSV (comma, semicolon or tab, whatever
the spreadsheet wrote) in one of two forms:

- ``trial, prompt, rating, rater``: who rates knows the trial, given by number or name;
- ``key, ..., rating, rater``: a blind sheet, where the key stands for one answer to one prompt,
  which several trials may have given.

``rater`` may be left out; a row without a rating is not rated yet. Each row that cannot be used is
named once, with file and line. Not covered: agreement between raters beyond its spread.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrator.contract.errors import UserError
from orchestrator.domain.plain_text import one_line

HUMAN_SCORE = "human_score"
LEAST, MOST = 0.0, 5.0
COLUMNS = ("trial", "prompt", "rating", "rater")
MAX_RATER_CHARS = 100
_KEY_CHARS = 12
# A decimal comma is what half of the world's spreadsheets write; 0 to 5 needs no thousands.
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)")
_GUARDED = re.compile("'[=+\\-@\t\r＝＋－＠]")


class Rating(NamedTuple):
    """One person's rating of one trial's answer to one prompt."""

    trial: str
    """The trial's directory name."""
    prompt: str
    """The prompt's id, as in ``responses.jsonl``."""
    value: float
    """0 to 5; more is better."""
    rater: str
    """Who; empty if nobody said."""


class Answer(NamedTuple):
    """What one trial answered to one prompt."""

    trial: str
    """The trial's directory name."""
    prompt: str
    """The prompt's id."""
    question: str
    """The prompt."""
    reference: str
    """What the data answers."""
    text: str
    """What the trial's model answered."""


class TableRow(NamedTuple):
    """A line of a table, not understood yet."""

    where: str
    """File and line, as ``ratings.csv:7``."""
    cells: Mapping[str, str]
    """By column; blank ones too."""


class Human(NamedTuple):
    """What the ratings of one trial come to."""

    mean: float
    """Mean over the prompts, each being the mean over its raters."""
    n: int
    """Ratings."""
    spread: float | None
    """Standard deviation of ratings of the same answer, pooled; None without two of one."""


def read_table(text: str, file: str) -> tuple[list[TableRow], list[str]]:
    """Part a table into rows.

    Args:
        text: CSV with a header.
        file: Its name, for messages.

    Returns:
        Rows that have a rating, and what is wrong with others.

    Raises:
        UserError: The header is of neither form.
    """
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    rows: list[TableRow] = []
    problems: list[str] = []
    names: list[str] = []
    line = 1
    try:
        for cells in reader:
            where, line = f"{file}:{line}", reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = _read_header(cells, where)
                continue
            row = dict.fromkeys(names, "")
            row.update(zip(names, (_unguard(cell.strip()) for cell in cells), strict=False))
            if row["rating"]:
                rows.append(TableRow(where, row))
    except csv.Error as error:
        problems.append(f"{file}:{line}: not CSV from here on: {error}")
    if not names:
        raise UserError(f"{file}:1: empty; {_NEEDED}")
    return rows, problems


_NEEDED = (
    "needed are the columns trial, prompt, rating (and rater), or those of the sheet that "
    "make ratings writes"
)


def _read_header(cells: Sequence[str], where: str) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    if "rating" in names and ("key" in names or {"trial", "prompt"} <= {*names}):
        return names
    found = ", ".join(one_line(name, 40) for name in names[:8])
    raise UserError(f"{where}: found the columns {found}; {_NEEDED}")


def _unguard(cell: str) -> str:
    """Take off the apostrophe that keeps a spreadsheet from computing a cell."""
    return cell[1:] if _GUARDED.match(cell) else cell


def understand(
    rows: Iterable[TableRow],
    find_trial: Callable[[str], str],
    by_key: Mapping[str, Sequence[Answer]],
    prompts_of: Callable[[str], frozenset[str] | None],
) -> tuple[list[Rating], list[str]]:
    """Turn rows of a table into ratings.

    Args:
        rows: What ``read_table`` returned.
        find_trial: Returns the name of the trial that a word means, or raises ``UserError``.
        by_key: The answers that a blind sheet's key stands for.
        prompts_of: Ids of the prompts that a trial answered; None if it left no answers.

    Returns:
        Ratings, and a line for each row that is of no use.
    """
    ratings: list[Rating] = []
    problems: list[str] = []
    seen: dict[tuple[str, str, str], str] = {}
    for row in rows:
        try:
            found = _understand_row(row.cells, find_trial, by_key, prompts_of)
            for rating in found:
                place = (rating.trial, rating.prompt, rating.rater)
                if place in seen:
                    who = f"by {one_line(rating.rater, 40)}" if rating.rater else "without a rater"
                    raise UserError(f"rated {who} in {seen[place]} already; allowed is once")
        except UserError as error:
            problems.append(f"{row.where}: {error}")
            continue
        seen.update(((rating.trial, rating.prompt, rating.rater), row.where) for rating in found)
        ratings += found
    return ratings, problems


def _understand_row(
    cells: Mapping[str, str],
    find_trial: Callable[[str], str],
    by_key: Mapping[str, Sequence[Answer]],
    prompts_of: Callable[[str], frozenset[str] | None],
) -> list[Rating]:
    value = parse_rating(cells["rating"])
    rater = cells.get("rater", "")
    if len(rater) > MAX_RATER_CHARS or one_line(rater, MAX_RATER_CHARS) != rater:
        raise UserError(
            f"rater {one_line(rater, 40)!r}: allowed are {MAX_RATER_CHARS} printable characters"
        )
    if "key" in cells:
        key = cells["key"]
        if key not in by_key:
            raise UserError(
                f"key {one_line(key, 40)!r} is of no answer of this sweep; allowed are those of a "
                "sheet of its present answers (make ratings)"
            )
        return [Rating(answer.trial, answer.prompt, value, rater) for answer in by_key[key]]
    trial, prompt = find_trial(cells["trial"]), cells["prompt"]
    known = prompts_of(trial)
    if not prompt or (known is not None and prompt not in known):
        allowed = f"one of the {len(known)} prompt ids in its responses.jsonl" if known else "an id"
        raise UserError(f"prompt {one_line(prompt, 40)!r} of trial {trial}: allowed is {allowed}")
    return [Rating(trial, prompt, value, rater)]


def parse_rating(text: str) -> float:
    """Read a rating; ``4,5`` is ``4.5``.

    Raises:
        UserError: It is no number from 0 to 5.
    """
    value = float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else math.nan
    if not LEAST <= value <= MOST:
        raise UserError(f"rating {one_line(text, 40)!r}: allowed are numbers from 0 to 5")
    return value


def merge_ratings(old: Iterable[Rating], new: Iterable[Rating]) -> list[Rating]:
    """Join ratings, sorted; a newer one of the same answer by the same rater replaces the older."""
    merged = {(rating.trial, rating.prompt, rating.rater): rating for rating in (*old, *new)}
    return [merged[place] for place in sorted(merged)]


def sum_up(ratings: Iterable[Rating]) -> dict[str, Human]:
    """Return what the ratings of each trial come to."""
    by_trial: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        by_trial[rating.trial][rating.prompt].append(rating.value)
    return {trial: _sum_up(by_trial[trial].values()) for trial in sorted(by_trial)}


def _sum_up(groups: Iterable[Sequence[float]]) -> Human:
    means, squares, freedom, n = [], [], 0, 0
    for values in groups:
        mean = math.fsum(values) / len(values)
        means.append(mean)
        squares += [(value - mean) ** 2 for value in values]
        freedom += len(values) - 1
        n += len(values)
    spread = math.sqrt(math.fsum(squares) / freedom) if freedom else None
    return Human(math.fsum(means) / len(means), n, spread)


def human_metrics(human: Human) -> dict[str, float | int]:
    """Name what the ratings come to as metrics of the leaderboard."""
    found: dict[str, float | int] = {HUMAN_SCORE: human.mean, f"{HUMAN_SCORE}_n": human.n}
    return found if human.spread is None else {**found, f"{HUMAN_SCORE}_spread": human.spread}


def group_answers(answers: Iterable[Answer], salt: str) -> dict[str, list[Answer]]:
    """Give each answer to each prompt a key that tells nothing of its trial.

    Trials that answered the same share a key and are rated together: it saves half of the work
    where most answers are right.
    """
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[make_key(salt, answer.prompt, answer.text)].append(answer)
    return dict(groups)


def make_key(salt: str, prompt: str, text: str) -> str:
    """Make a blind key; it begins with a letter, so that no spreadsheet takes it for a number."""
    return "r" + _digest(salt, prompt, text)[:_KEY_CHARS]


def shuffled_keys(keys: Iterable[str], salt: str, rater: str) -> list[str]:
    """Put keys in an order that tells nothing, and is each rater's own."""
    return sorted(keys, key=lambda key: _digest(salt, rater, key))


def _digest(*parts: str) -> str:
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()

"""People's ratings of a sweep's answers: sheets for raters, and what came back.

Runs on the login node. It neither prints nor asks Slurm. No trial's file is changed: ratings stand
in the sweep's ``ratings.csv``, and are joined with the results when the leaderboard is made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.adapters import ratings_files
from orchestrator.adapters.trial_dir import list_trials
from orchestrator.contract.errors import UserError
from orchestrator.contract.paths import SweepPaths
from orchestrator.domain.ratings import (
    Answer,
    Human,
    Rating,
    group_answers,
    human_metrics,
    merge_ratings,
    shuffled_keys,
    sum_up,
    understand,
)
from orchestrator.domain.trial_choice import choose_trial
from orchestrator.domain.trial_files import TrialFiles


@dataclass(frozen=True)
class Ratings:
    """A sweep's ratings."""

    by_trial: Mapping[str, Human] = field(default_factory=dict)
    """What they come to, by trial name."""
    all: tuple[Rating, ...] = ()
    """Every one that counts."""
    problems: tuple[str, ...] = ()
    """Rows that do not, and files of answers that could not be read; each named once."""
    useless: tuple[str, ...] = ()
    """Those of them that are rows: writing the table anew would lose them."""

    @property
    def stamp(self) -> str:
        """A digest of what they come to; empty without any."""
        text = json.dumps([[name, *human] for name, human in self.by_trial.items()])
        return hashlib.sha256(text.encode("ascii")).hexdigest() if self.by_trial else ""

    def join(self, trials: Sequence[TrialFiles]) -> Sequence[TrialFiles]:
        """Put the ratings beside the trials' own metrics; their records stay as they are."""
        if not self.by_trial:
            return trials
        return [
            trial._replace(metrics={**trial.metrics, **human_metrics(self.by_trial[trial.name])})
            if trial.name in self.by_trial
            else trial
            for trial in trials
        ]


@dataclass(frozen=True)
class Sheet:
    """A sheet that was written for a rater."""

    path: str
    """The file."""
    n_rows: int
    """Answers to rate."""
    n_trials: int
    """Trials whose answers they are."""
    n_answers: int
    """Answers of these trials; equal ones to the same prompt are one row."""
    n_rated: int
    """Rows left out, since this rater has rated them."""
    problems: tuple[str, ...] = ()
    """Answers that could not be read."""


def load_ratings(sweep: SweepPaths) -> Ratings:
    """Read the sweep's ``ratings.csv``; what cannot be used is named in ``problems``."""
    try:
        return _read(sweep, sweep.ratings, "ratings.csv")
    except FileNotFoundError:
        return Ratings()
    except UserError as error:
        return Ratings(problems=(str(error),), useless=(str(error),))


def import_ratings(sweep: SweepPaths, files: Sequence[str]) -> Ratings:
    """Add tables of ratings to the sweep's ``ratings.csv``.

    A rating of the same answer by the same rater replaces the older one. Rows that cannot be used
    are named, and the others count.

    Raises:
        UserError: A file that is not there or is no table of ratings, or a ``ratings.csv`` that
            holds rows of no use: they would be lost.
    """
    # Each file first: what is wrong with it shall not hide behind an older one's mistakes.
    tables = [_read_given(sweep, file) for file in files]
    old = load_ratings(sweep)
    if old.useless:
        raise UserError(
            f"{sweep.ratings} has rows that cannot be used; mend them before adding others: "
            f"{old.useless[0]}"
        )
    merged: Sequence[Rating] = old.all
    problems = [*old.problems]
    for file, found in zip(files, tables, strict=True):
        merged = merge_ratings(merged, found.all)
        problems += found.problems
        if not found.all and not found.useless:
            problems.append(f"{file}: no row of it has a rating yet")
    if tuple(merged) != old.all:
        ratings_files.write_ratings(sweep, merged)
    return Ratings(sum_up(merged), tuple(merged), tuple(dict.fromkeys(problems)))


def _read_given(sweep: SweepPaths, file: str) -> Ratings:
    try:
        return _read(sweep, file, file)
    except FileNotFoundError:
        raise UserError(f"{file}: there is no such file") from None


def _read(sweep: SweepPaths, path: str, name: str) -> Ratings:
    rows, unread = ratings_files.read_ratings_table(path, name)
    names = list_trials(sweep)
    chosen: dict[str, str] = {}
    prompts: dict[str, frozenset[str] | None] = {}
    problems: list[str] = []

    def find_trial(word: str) -> str:
        if word not in chosen:
            chosen[word] = choose_trial(names, word)
        return chosen[word]

    def prompts_of(trial: str) -> frozenset[str] | None:
        if trial not in prompts:
            answers = ratings_files.read_answers(sweep.trial(trial), problems)
            prompts[trial] = None if answers is None else frozenset(a.prompt for a in answers)
        return prompts[trial]

    by_key: Mapping[str, Sequence[Answer]] = {}
    if any("key" in row.cells for row in rows):
        answers = _read_all(sweep, names, problems)
        by_key = group_answers(answers, ratings_files.rating_salt(sweep))
    ratings, wrong = understand(rows, find_trial, by_key, prompts_of)
    useless = (*unread, *wrong)
    named = tuple(dict.fromkeys((*problems, *useless)))
    return Ratings(sum_up(ratings), tuple(merge_ratings((), ratings)), named, useless)


def _read_all(sweep: SweepPaths, names: Iterable[str], problems: list[str]) -> list[Answer]:
    return [
        answer
        for name in names
        for answer in ratings_files.read_answers(sweep.trial(name), problems) or ()
    ]


def write_sheet(
    sweep: SweepPaths,
    *,
    rater: str = "",
    trials: Sequence[str] = (),
    n_prompts: int | None = None,
    path: str | None = None,
) -> Sheet:
    """Write a sheet of answers for a person to rate, shuffled and without their trials.

    Args:
        sweep: Whose answers.
        rater: Filled in, and what this rater has rated already is left out; may be empty.
        trials: Words for the trials; empty means all.
        n_prompts: Take so many prompts, the same of each trial; None takes all.
        path: Where to; None means ``rating-sheet.csv`` in the sweep's folder.

    Raises:
        UserError: No such trial, no answers, or a sheet there that somebody has filled in.
    """
    path = path or sweep.rating_sheet
    if ratings_files.is_filled_in(path):
        raise UserError(
            f"{path}: is filled in, or no sheet; it is left as it is. Take its ratings over (make "
            f"collect RATINGS={path}) and remove it, or name another with --output"
        )
    names = list_trials(sweep)
    wanted = [choose_trial(names, word) for word in trials] if trials else names
    problems: list[str] = []
    answers = _read_all(sweep, dict.fromkeys(wanted), problems)
    if n_prompts is not None:
        kept = set(sorted({answer.prompt for answer in answers})[:n_prompts])
        answers = [answer for answer in answers if answer.prompt in kept]
    if not answers:
        why = f": {problems[0]}" if problems else ""
        raise UserError(
            f"{sweep.name}: no trial has left a responses.jsonl to rate{why}; train/main.py writes "
            "it with --response_score_prompts=50"
        )
    salt = ratings_files.rating_salt(sweep)
    groups = group_answers(answers, salt)
    rated = {(r.trial, r.prompt) for r in load_ratings(sweep).all if rater and r.rater == rater}
    keys = [
        key
        for key, group in groups.items()
        if not all((answer.trial, answer.prompt) in rated for answer in group)
    ]
    rows = []
    for key in shuffled_keys(keys, salt, rater):
        answer = groups[key][0]
        rows.append([key, answer.question, answer.reference, answer.text, "", rater])
    ratings_files.write_sheet(path, rows)
    return Sheet(
        path=os.path.abspath(path),
        n_rows=len(rows),
        n_trials=len({answer.trial for answer in answers}),
        n_answers=len(answers),
        n_rated=len(groups) - len(keys),
        problems=tuple(problems),
    )

"""Naming what is wrong with trials' files: each problem once, however many trials have it.

Pure: texts in, texts out. A program that writes its metrics wrongly does so in each of ten thousand
trials, and in each attempt; what differs in nothing but its numbers is one problem. Called by
``usecases.collect`` and ``observe``; runs on the login node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Problems that differ in more than numbers are capped too: names of junk, for example.
MAX_PROBLEMS_PER_TRIAL = 10
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass
class _Group:
    """Problems that are alike."""

    trial: str
    """The first trial that has it."""
    text: str
    """As it stands there."""
    n_here: int = 0
    """How often that trial has it."""
    others: set[str] = field(default_factory=set)
    """The other trials that have it."""

    def in_words(self) -> str:
        """Name the first, and count the others."""
        more = []
        if self.n_here > 1:
            more.append(f"{self.n_here - 1:,} more like it there")
        if self.others:
            n = len(self.others)
            more.append(f"the like in {n:,} more trial{'s' if n != 1 else ''}")
        suffix = f" (and {', '.join(more)})" if more else ""
        return f"{self.trial}/{self.text}{suffix}"


def name_problems(trials: Iterable[tuple[str, list[str]]]) -> list[str]:
    """Name the problems of trials, alike ones once with their first trial and their number.

    Args:
        trials: Names and what is wrong with the files of each, each text beginning with the file.
    """
    groups: dict[str, _Group] = {}
    rest: dict[str, int] = {}
    for trial, texts in trials:
        n_new = 0
        for text in texts:
            key = _NUMBER.sub("0", text)
            group = groups.get(key)
            if group is None:
                n_new += 1
                if n_new > MAX_PROBLEMS_PER_TRIAL:
                    rest[trial] = rest.get(trial, 0) + 1
                    continue
                group = groups[key] = _Group(trial, text)
            if group.trial == trial:
                group.n_here += 1
            else:
                group.others.add(trial)
    named = [group.in_words() for group in groups.values()]
    if rest:
        n_trials, n = len(rest), sum(rest.values())
        where = next(iter(rest)) if n_trials == 1 else f"{n_trials:,} trials"
        named.append(f"{where}: {n:,} more problem{'s' if n != 1 else ''}")
    return named


def name_gone(trials: Sequence[str]) -> list[str]:
    """Say in one line which trials were submitted and have no folder any more; none if none.

    Args:
        trials: Their names.
    """
    if not trials:
        return []
    n = len(trials) - 1
    others = f" (and so are those of {n:,} more trial{'s' if n != 1 else ''})" if n else ""
    return [
        f"trials/{trials[0]}: its folder is gone, though it was submitted{others}; what it ran and "
        "cost is in no number, and make submit runs it anew"
    ]

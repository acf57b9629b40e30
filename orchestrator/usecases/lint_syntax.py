"""What bash says of a rendered script, and the line that it is about, for ``lint``. Login node.

Where a quote, a ``do`` or an ``if`` is left open, bash complains of a line far below, often of
another template. The line to edit is the one without which bash has no complaint.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from orchestrator.adapters.template_trace import Place, Traced

BASH_TIMEOUT_S = 20.0
# Tries in all: each is a bash that only reads, some milliseconds.
MAX_TRIES = 1000
_BASH_LINE = re.compile(r"line (\d+): (.*)")
_OPENED = re.compile(r"command on line (\d+)")
_NOTHING = ":"


class SyntaxJudge:
    """Asks bash about scripts, the same one once, and finds the lines to blame."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._answers: dict[str, tuple[int | None, str] | None] = {}
        self._blamed: set[Place] = set()
        self._n_tries = 0

    def judge(self, traced: Traced, path: str) -> tuple[Place, str] | None:
        """Return the line to edit and bash's complaint; None if it has none.

        Args:
            traced: The script.
            path: The template's file, to blame if no line can be.
        """
        complaint = self._ask(traced.text)
        if complaint is None:
            return None
        line, words = complaint
        if not traced.places or line is None:
            return Place(path, None), words
        return self._blame(traced, min(line, len(traced.places)), words), words

    def judge_lines(self, items: Sequence[str]) -> str | None:
        """Return bash's complaint of the first of some pieces of shell that has one."""
        for item in items:
            if (complaint := self._ask(item)) is not None:
                return complaint[1]
        return None

    def _ask(self, text: str) -> tuple[int | None, str] | None:
        if text not in self._answers:
            self._answers[text] = ask_bash(text)
        return self._answers[text]

    def _blame(self, traced: Traced, line: int, words: str) -> Place:
        lines, places = traced.text.split("\n"), traced.places
        for run in self._suspects(lines, places, line, words):
            place = places[run.start]
            if self._n_tries >= MAX_TRIES and place not in self._blamed:
                continue
            self._n_tries += 1
            left = ask_bash("\n".join([*lines[: run.start], _NOTHING, *lines[run.stop :]]))
            # Of two mistakes, bash names the second once the first is mended.
            is_own = run.start == line - 1 and "EOF" not in words
            is_next = is_own and left is not None and (left[0] or 0) > line
            if left is None or is_next:
                self._blamed.add(place)
                return place
        return places[line - 1]

    def _suspects(
        self, lines: Sequence[str], places: Sequence[Place], line: int, words: str
    ) -> Iterator[range]:
        """Yield lines that may be to blame, as 0-based ranges, the likeliest first."""
        opened = _OPENED.search(words)
        first = [index for index, place in enumerate(places) if place in self._blamed]
        first += [line - 1, int(opened[1]) - 1] if opened else [line - 1]
        # The skeleton has most lines and few edits: the others' are looked at before its own.
        skeleton = places[0].file
        blocks = [run for run in _runs(places) if places[run.start].file != skeleton]
        first += [index for run in blocks for index in run]
        order = dict.fromkeys([*first, *range(len(lines))])
        yield from (range(i, i + 1) for i in order if i < len(lines) and lines[i].strip())
        yield from blocks


def _runs(places: Sequence[Place]) -> list[range]:
    """Return the stretches of lines that come of one file."""
    runs: list[range] = []
    start = 0
    for index in range(1, len(places) + 1):
        if index == len(places) or places[index].file != places[start].file:
            runs.append(range(start, index))
            start = index
    return runs


def ask_bash(text: str) -> tuple[int | None, str] | None:
    """Return line and complaint of ``bash -n``; None if it has none, or there is no bash."""
    bash = shutil.which("bash")
    if bash is None:
        return None
    done = subprocess.run(
        [bash, "--norc", "-n"],
        input=text.encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=False,
        timeout=BASH_TIMEOUT_S,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode == 0:
        return None
    words = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
    match = _BASH_LINE.search(words)
    return (int(match[1]), match[2]) if match else (None, words)

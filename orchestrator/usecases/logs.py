"""One trial's log in parts: an attempt each, from the whole log or from its end.

Runs on the login node and reads only. What is shown is fit for a terminal: control characters are
gone, and of a line that was rewritten with carriage returns (a progress bar) the last version is
left. A log may have gigabytes: with a number of lines it is read from its end, otherwise in blocks.

``Follower`` waits for more of it without holding it open, since a file server tells of growth only
at the next open (NFS, close-to-open consistency); it goes on when the log is replaced or cut short.
Called by the command ``logs``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.adapters.journal import JournalState
from orchestrator.adapters.regular_file import UnusableFile, read_file
from orchestrator.adapters.trial_log import BLOCK_BYTES, LogFile
from orchestrator.contract.paths import SweepPaths, TrialPaths
from orchestrator.domain.plain_text import strip_controls
from orchestrator.domain.trial_files import TrialFiles

# A line without an end, such as a progress bar of days, is read so far.
MAX_LINE_BYTES = 2**20
# At most so much is read for the last lines, however long they are.
MAX_TAIL_BYTES = 64 * 2**20
# And so much before them, to say of which attempt they are.
MAX_SCAN_BYTES = 8 * 2**20
SLURM_LOG_BYTES = 256 * 1024
MAX_SLURM_LINES = 50


@dataclass(frozen=True)
class LogLine:
    """One line of a log, or the place where an attempt begins."""

    text: str
    """Safe to show; of a beginning the attempt's own words."""
    begins: int = 0
    """The attempt that begins here; 0: none."""


@dataclass(frozen=True)
class Tail:
    """The end of a log."""

    lines: Sequence[LogLine]
    """Its lines."""
    attempt: int
    """Which attempt the first of them is of; 0 if that is not known."""
    is_cut: bool
    """Whether there are lines before them."""
    end: int
    """Where it ends, in bytes: what is read next begins there."""


class _Decoder:
    """Turns bytes of a log into lines."""

    def __init__(self, name: str):
        self._begins = re.compile(
            rf"\[orchestrator\] [0-9T:.Z-]{{16,30}} {re.escape(name)} attempt ([1-9][0-9]{{0,8}}) "
            r"(on .*)"
        )

    def line(self, data: bytes) -> LogLine:
        text = strip_controls(data.decode("utf-8", "replace").rstrip("\r\n")).replace("\n", " ")
        text = text.expandtabs(8).rstrip()
        begins = self._begins.fullmatch(text)
        return LogLine(text, int(begins[1])) if begins else LogLine(text)


def read_tail(
    paths: TrialPaths, attempt: int | None, n_lines: int, *, is_growing: bool = False
) -> Tail:
    """Read the last lines of a trial's log.

    Args:
        paths: The trial.
        attempt: Only of this attempt; None: of all.
        n_lines: How many lines; 0 reads none.
        is_growing: Leave a last line without its end to whoever reads on from there.

    Raises:
        FileNotFoundError: There is no log yet, or the attempt is not in it.
        CorruptRecord: It is there and cannot be read.
    """
    decoder = _Decoder(paths.name)
    with LogFile(paths) as log:
        start, end = _bounds(log, attempt)
        data, at = b"", end
        while at > start and data.count(b"\n") <= n_lines and end - at < MAX_TAIL_BYTES:
            begin = max(start, at - BLOCK_BYTES)
            data, at = log.read(begin, at) + data, begin
        pieces = data.split(b"\n")
        last = pieces.pop()  # without its end: empty, or still being written
        if is_growing and last:
            end, data, last = end - len(last), data[: -len(last)], b""
        pieces += [last] if last else []
        is_cut = at > start or len(pieces) > n_lines
        pieces = pieces[len(pieces) - min(n_lines, len(pieces)) :]
        first = at + len(data) - sum(len(piece) + 1 for piece in pieces) + (1 if last else 0)
        lines = tuple(decoder.line(piece[-MAX_LINE_BYTES:]) for piece in pieces)
        number = attempt or 0
        if lines and not number and not lines[0].begins:
            before = next(log.marks_backwards(max(0, first), MAX_SCAN_BYTES), None)
            number = before.attempt if before is not None else 0
        return Tail(lines, number, is_cut, end)


def read_all(
    paths: TrialPaths, attempt: int | None, end_at: int | None = None
) -> Iterator[LogLine]:
    """Read a trial's log from the beginning, or one attempt's part of it, line by line.

    Args:
        paths: The trial.
        attempt: Only of this attempt; None: of all.
        end_at: Read no further than this, in bytes; None: to the end.

    Raises:
        FileNotFoundError: There is no log yet, or the attempt is not in it.
        CorruptRecord: It is there and cannot be read.
    """
    decoder = _Decoder(paths.name)
    with LogFile(paths) as log:
        start, end = _bounds(log, attempt)
        end = end if end_at is None else min(end, end_at)
        rest = b""
        while start < end and (data := log.read(start, min(end, start + BLOCK_BYTES))):
            start += len(data)
            *whole, rest = (rest + data).split(b"\n")
            yield from map(decoder.line, whole)
            rest = rest[-MAX_LINE_BYTES:]
        if rest:
            yield decoder.line(rest)


def _bounds(log: LogFile, attempt: int | None) -> tuple[int, int]:
    if attempt is None:
        return 0, log.size
    part = log.find_attempt(attempt)
    if part is None:
        raise FileNotFoundError(f"{log.path}: attempt {attempt} is not in it")
    return part


class Follower:
    """Reads what a log gets, from some place on."""

    def __init__(self, paths: TrialPaths, start: int):
        """Start.

        Args:
            paths: The trial.
            start: Where to begin, in bytes.
        """
        self._paths, self._at = paths, start
        self._decoder = _Decoder(paths.name)
        self._identity: tuple[int, int] | None = None
        self._rest = b""
        self.note = ""
        """What happened to the file at the last read, in words; empty if nothing did."""

    @property
    def unfinished(self) -> str:
        """The line that is being written, safe to show; empty if there is none."""
        return self._decoder.line(self._rest).text if self._rest else ""

    def read(self) -> list[LogLine]:
        """Read the lines that were finished since the last time; none while there is no log.

        Raises:
            CorruptRecord: The log is there and cannot be read.
        """
        self.note = ""
        try:
            with LogFile(self._paths) as log:
                return self._read(log)
        except FileNotFoundError:
            return []

    def _read(self, log: LogFile) -> list[LogLine]:
        identity, size = log.identity, log.size
        if self._identity not in (None, identity):
            self._at, self._rest, self.note = 0, b"", "the log was replaced; from its beginning"
        elif size < self._at:
            self._at, self._rest, self.note = 0, b"", "the log was cut short; from its beginning"
        self._identity = identity
        lines: list[LogLine] = []
        while self._at < size and (data := log.read(self._at, min(size, self._at + BLOCK_BYTES))):
            self._at += len(data)
            *whole, rest = (self._rest + data).split(b"\n")
            lines += map(self._decoder.line, whole)
            self._rest = rest[-MAX_LINE_BYTES:]
        return lines


def read_slurm_log(
    sweep: SweepPaths, trial: TrialFiles, journal: JournalState
) -> list[tuple[str, list[str]]]:
    """Read what Slurm and the shell said about a trial outside of its own log.

    The tasks of an array share one such file. Of an array in which the trial has attempts the lines
    are kept that name a job of theirs; of one in which it never started all of the last ones.

    Returns:
        Token and lines of each array that has some, oldest first.
    """
    found = []
    for submission in journal.submissions_of(trial.name):
        if submission.executor != "slurm":
            continue
        lines = _slurm_lines(sweep.array(submission.token).log)
        jobs = {a.job_id for a in trial.attempts if a.token == submission.token and a.job_id}
        if jobs:
            named = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(jobs)))})(?:\.\w+)?\b")
            lines = [line for line in lines if named.search(line)]
        if lines:
            found.append((submission.token, lines[-MAX_SLURM_LINES:]))
    return found


def _slurm_lines(path: str) -> list[str]:
    try:
        data, status = read_file(path, SLURM_LOG_BYTES, tail=True)
    except FileNotFoundError:
        return []
    except UnusableFile as error:
        return [f"({os.path.basename(path)}: {error})"]
    if status.st_size > len(data):
        data = data.partition(b"\n")[2]
    text = strip_controls(data.decode("utf-8", "replace")).expandtabs(8)
    return [line.rstrip() for line in text.split("\n") if line.strip()]

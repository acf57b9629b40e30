"""Reading a trial's log, in which all its attempts stand one after the other.

Runs on the login node; writes nothing. A log may have any size and hold anything: it is read in
blocks, from the end, and no more of it than is wanted. An attempt's part begins with the line that
it writes first (``runtime.attempt``); a program that prints such a line only moves a heading.

Does not clean what it reads: see ``domain.plain_text``. Called by ``usecases.failures`` and
``usecases.logs``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.adapters.regular_file import UnusableFile, open_regular
from orchestrator.contract.errors import CorruptRecord
from orchestrator.contract.paths import TrialPaths

BLOCK_BYTES = 2**20
# Longer than the line that an attempt begins with; a block is read with so much of the next.
_OVERLAP_BYTES = 4096
_MARK = rb"^\[orchestrator\] [0-9T:.Z-]{16,30} %s attempt ([1-9][0-9]{0,8}) on "


class Mark(NamedTuple):
    """The line that an attempt's part of a log begins with."""

    offset: int
    """Where it stands, in bytes."""
    attempt: int
    """The attempt."""


class LogFile:
    """A trial's log, opened for reading; a context manager."""

    def __init__(self, paths: TrialPaths):
        """Open it.

        Raises:
            FileNotFoundError: There is none yet.
            CorruptRecord: It is there and cannot be read.
        """
        self.path = paths.log
        self._mark = re.compile(_MARK % re.escape(paths.name.encode()), re.MULTILINE)
        try:
            self._fd = open_regular(self.path)
        except UnusableFile as error:
            raise CorruptRecord(f"{self.path}: {error}") from None

    def __enter__(self) -> LogFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Its size in bytes now."""
        return self._stat().st_size

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: another file under the same name has others."""
        status = self._stat()
        return status.st_dev, status.st_ino

    def _stat(self) -> os.stat_result:
        try:
            return os.fstat(self._fd)
        except OSError as error:
            raise CorruptRecord(f"{self.path}: cannot be read: {error.strerror}") from None

    def read(self, start: int, end: int) -> bytes:
        """Read bytes; fewer come back where the file is shorter than it was.

        Raises:
            CorruptRecord: It cannot be read any more.
        """
        parts = []
        try:
            while start < end and (data := os.pread(self._fd, min(end - start, 2**24), start)):
                parts.append(data)
                start += len(data)
        except OSError as error:
            raise CorruptRecord(f"{self.path}: cannot be read: {error.strerror}") from None
        return b"".join(parts)

    def marks(self, data: bytes, offset: int) -> list[Mark]:
        """Find the attempts that begin in a piece of the log.

        Args:
            data: The piece; it begins with a line.
            offset: Where it stands in the log.
        """
        found = self._mark.finditer(data)
        return [Mark(offset + match.start(), int(match[1])) for match in found]

    def marks_backwards(self, end: int, max_bytes: int | None = None) -> Iterator[Mark]:
        """Find the attempts that begin before an offset, the last first; reads as far as asked.

        Args:
            end: The offset.
            max_bytes: Look at no more than so much; None: at all of it.
        """
        floor = 0 if max_bytes is None else max(0, end - max_bytes)
        while end > floor:
            start = max(floor, end - BLOCK_BYTES)
            # One byte more in front tells whether the block begins with a line.
            before = max(0, start - 1)
            data = self.read(before, end + _OVERLAP_BYTES)
            for mark in reversed(self.marks(data, before)):
                if start <= mark.offset < end:
                    yield mark
            end = start

    def find_attempt(self, number: int, max_bytes: int | None = None) -> tuple[int, int] | None:
        """Find an attempt's part: where it begins and ends.

        Args:
            number: The attempt.
            max_bytes: As ``marks_backwards`` has it.

        Returns:
            None if it is not there. The part of an attempt that wrote no first line is not.
        """
        end = size = self.size
        for mark in self.marks_backwards(size, max_bytes):
            if mark.attempt == number:
                return mark.offset, end
            end = mark.offset
        return None

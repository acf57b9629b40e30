"""The lines of a failed attempt's log that tell why it failed: its traceback whole, and the end.

Pure: lines in, lines out. Called by ``usecases.failures``; runs on the login node. The cause itself
was found on the compute node by ``runtime.cause``, whose patterns are used here too.

Covered: Python's tracebacks, chained ones whole, of several ranks the first that is the failure
itself and not only word of another process's; what stands behind the last ones in the log. Not
covered: other languages' stack traces, which show as the log's last lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.runtime.cause import EXCEPTION, RANK, TRACEBACK, WRAPPERS

# A message of more lines is cut: somebody raised with a whole file in it.
MAX_MESSAGE_LINES = 12
_CHAINED = ("During handling of the above", "The above exception was")
# Of a traceback that is too long so many lines stay at its start, which names the program's line.
_HEAD_LINES = 8
# One long line says no more on a screen than its beginning.
MAX_LINE_CHARS = 1000


@dataclass(frozen=True)
class _Block:
    """One traceback, chained ones included, in the lines of one rank."""

    lines: tuple[str, ...]
    name: str
    end: int


def find_excerpt(lines: Sequence[str], max_lines: int, n_last: int = 5) -> tuple[str, ...]:
    """Pick what tells why an attempt failed.

    Args:
        lines: The attempt's log or its end, safe to show.
        max_lines: At most so many come back; a longer traceback keeps its two ends.
        n_last: Lines of the log's end that are shown below the traceback; without a traceback
            the end alone is shown, up to ``max_lines``.

    Returns:
        The lines; ``...`` stands where lines were left out.
    """
    if max_lines <= 0:
        return ()
    told = [line[:MAX_LINE_CHARS] for line in lines]
    # What the attempt itself says at its end is the reason once more, and srun passes on a code.
    told = [line for line in told if not line.startswith(("[orchestrator] ", "srun: "))] or told
    while told and not told[-1].strip():
        told.pop()
    block = _find_traceback(told)
    if block is None:
        return tuple(told[-max_lines:])
    found = _cut(block.lines, max_lines)
    rest = [line for line in told[block.end + 1 :] if line.strip()]
    room = min(n_last, max_lines - len(found))
    if not rest or room <= 0:
        return found
    gap = ("...",) if len(rest) > room and room > 1 else ()
    return (*found, *gap, *rest[-(room - len(gap)) :])


def _cut(lines: Sequence[str], max_lines: int) -> tuple[str, ...]:
    if len(lines) <= max_lines:
        return tuple(lines)
    head = min(_HEAD_LINES, max_lines // 2)
    tail = max_lines - head - 1
    left_out = f"... {len(lines) - head - tail} lines ..."
    return (*lines[:head], left_out, *lines[len(lines) - tail :])


def _find_traceback(lines: Sequence[str]) -> _Block | None:
    """Find the last traceback of each rank, and of those the first that is no wrapper."""
    last: dict[str, _Block] = {}
    ranks: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(lines):
        match = RANK.match(line)
        rank = match[0] if match else ""
        ranks.setdefault(rank, []).append((number, line[len(rank) :]))
    for rank, own in ranks.items():
        block = _last_block(own)
        if block is not None:
            last[rank] = block
    telling = [block for block in last.values() if block.name not in WRAPPERS]
    return min(telling or last.values(), key=lambda block: block.end, default=None)


def _last_block(lines: Sequence[tuple[int, str]]) -> _Block | None:
    """Find the last traceback in the lines of one rank; one of a wrapper only without another."""
    found: list[_Block] = []
    index = 0
    while index < len(lines):
        if not lines[index][1].lstrip(" +|").startswith(TRACEBACK):
            index += 1
            continue
        start = index
        name, index = _skip_traceback(lines, index)
        while (after := _chained(lines, index)) is not None:
            name, index = _skip_traceback(lines, after)
        texts = tuple(text for _, text in lines[start:index])
        found.append(_Block(texts, name, lines[index - 1][0]))
    telling = [block for block in found if block.name not in WRAPPERS] or found
    return telling[-1] if telling else None


def _skip_traceback(lines: Sequence[tuple[int, str]], index: int) -> tuple[str, int]:
    """Return the exception's name, and the index behind the traceback that begins at ``index``."""
    index += 1
    while index < len(lines) and (lines[index][1].startswith(" ") or not lines[index][1]):
        index += 1
    if index == len(lines) or not (match := EXCEPTION.match(lines[index][1])):
        return "", index
    index += 1
    end = min(len(lines), index + MAX_MESSAGE_LINES)
    while index < end and _is_message(lines[index][1]):
        index += 1
    return match[1].rpartition(".")[2], index


def _is_message(text: str) -> bool:
    """Whether a line behind an exception's first one still belongs to its message."""
    is_other = text.startswith(("[orchestrator]", "slurmstepd:", "srun:", *_CHAINED))
    return bool(text.strip()) and not is_other and not text.lstrip(" +|").startswith(TRACEBACK)


def _chained(lines: Sequence[tuple[int, str]], index: int) -> int | None:
    """Return where the traceback begins that is chained to the one before ``index``."""
    while index < len(lines) and not lines[index][1].strip():
        index += 1
    if index == len(lines) or not lines[index][1].startswith(_CHAINED):
        return None
    index += 1
    while index < len(lines) and not lines[index][1].strip():
        index += 1
    is_next = index < len(lines) and lines[index][1].lstrip(" +|").startswith(TRACEBACK)
    return index if is_next else None

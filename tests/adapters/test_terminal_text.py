"""Lines for a terminal."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from orchestrator.adapters.terminal_text import wrap


@pytest.mark.parametrize("word", ["\u3000" * 20, "\u00a0" * 20 + "a", "a\u3000" * 9, "\u4e2d" * 20])
@pytest.mark.parametrize("width", [2, 3, 7])
def test_wrap_cuts_long_words_of_wide_or_blank_characters(word: str, width: int) -> None:
    lines = wrap(word, width)
    assert "".join(lines) == word
    assert max(map(cell_len, lines)) <= width


def test_wrap_breaks_at_spaces() -> None:
    assert wrap("one two three\nfour", 8) == ["one two", "three", "four"]

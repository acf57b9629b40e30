"""Making text that strangers wrote safe to show: logs, error messages, parameter values.

Pure. Used by whatever shows text to people; it does not escape for HTML, Markdown or rich markup,
which is the business of the writer of that format.
"""

from __future__ import annotations

import re

# ECMA-48: CSI and other escape sequences, then the string sequences (OSC, DCS, APC, PM, SOS) up to
# BEL or ST. An unfinished string sequence ends with its line, else it would swallow the rest.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# C0 but TAB and newline, DEL, C1, the bidirectional overrides that reorder what is read, what has
# no width and makes two names look alike, line and paragraph separators, and lone surrogates, which
# no encoding can print.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def strip_controls(text: str) -> str:
    """Remove terminal escape sequences and control characters; TAB and newline stay.

    Of a line that was rewritten with carriage returns (a progress bar) the last version stays.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text.replace("\r\n", "\n"))
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROLS.sub("", text)


def one_line(text: str, max_chars: int = 200) -> str:
    """Return text as one printable line, cut with an ellipsis at ``max_chars``."""
    if not (len(text) <= max_chars and text.isascii() and text.isprintable()):
        # Twice what is needed is looked at, so that a megabyte of text costs nothing.
        text = " ".join(strip_controls(text[: 4 * max_chars].replace("\r", " ")).split())
    return text if len(text) <= max_chars else text[: max_chars - 1].rstrip() + "…"

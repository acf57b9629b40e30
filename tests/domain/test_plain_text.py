import pytest

from orchestrator.domain.plain_text import one_line, strip_controls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1b]0;never ended\nnext", "\nnext"),
        ("\x9b31mC1", "C1"),
        ("\x1bPdevice\x1b\\x", "x"),
        ("\x1b(Bcharset\x1bM", "charset"),
        ("cut \x1b[", "cut "),
        ("1%\r2%\r3%\n", "3%\n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("bell\x07back\x08del\x7fnul\0", "bellbackdelnul"),
        ("\u202eevil\u202c \u2066x\u2069\u200f", "evil x"),
        ("\ud800lone", "lone"),
        ("naïve 学习 🙂", "naïve 学习 🙂"),
    ],
)
def test_strip_controls_text_returns_what_is_printable(text, expected):
    assert strip_controls(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a\nb\r\n  c\t", "a b c"),
        ("x" * 21, "x" * 19 + "…"),
        ("\x1b[31m" + "y" * 5, "y" * 5),
        ("word " * 10**6, "word word word word…"),
    ],
)
def test_one_line_text_returns_one_printable_line(text, expected):
    assert one_line(text, 20) == expected

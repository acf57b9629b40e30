"""Expressions: what they compute, what they refuse, and that nothing is slow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.errors import SpecError
from orchestrator.domain.expressions import Expression, compile_expression

VALUES: dict[str, Any] = {
    "lr": 0.1,
    "n": 8,
    "opt": "sgd",
    "optim.wd": 0.5,
    "a-b": 7,
    "sizes": [1, 2, 3],
    "flag": True,
    "off": None,
}


def compiled(source: str) -> Expression:
    return compile_expression(source, known=list(VALUES), key="where", file="s.yaml", line=4)


def evaluate(source: str) -> Any:
    return compiled(source).evaluate(VALUES)


def outcome(source: str) -> str:
    """Return the error's text, or nothing for an expression that is fine."""
    try:
        evaluate(source)
    except SpecError as error:
        return str(error)
    return ""


def refusal(source: str) -> str:
    with pytest.raises(SpecError) as caught:
        evaluate(source)
    return str(caught.value).removeprefix("s.yaml:4: where: ")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("n * 2 + 1", 17),
        ("2 ** 3 ** 2", 512),
        ("-n // 3 % 5", 2),
        ("n / 16", 0.5),
        ("opt == 'sgd' and lr < 1", True),
        ("opt in ['adamw', 'lamb']", False),
        ("opt not in ('adamw',)", True),
        ("0 < lr <= 0.1 < n", True),
        ("not flag or n > 7", True),
        ("'big' if n > 4 else 'small'", "big"),
        ("optim.wd * 2", 1.0),
        ("params['a-b'] + params['n']", 15),
        ("sizes[0] + sizes[-1]", 4),
        ("len(sizes) + len(opt)", 6),
        ("min(n, 4) + max([1, 2]) + abs(-3)", 9),
        ("round(lr * 3, 2)", 0.3),
        ("ceil(1.2) + floor(1.8) + int('3') + sqrt(4)", 8.0),
        ("log2(n) + log10(100) + log(1) + float(1)", 6.0),
        ("opt + '-' + str(n)", "sgd-8"),
        ("off is none and off == None", True),
        ("true and not False", True),
        ("off", None),
        ("[n, opt]", [8, "sgd"]),
        ("{{ n + 1 }}", 9),
        ("  n  ", 8),
    ],
)
def test_evaluate_expression_gives_its_value(source: str, value: Any) -> None:
    found = evaluate(source)
    assert (found, type(found)) == (value, type(value))


def test_evaluate_missing_parameter_is_none() -> None:
    assert compiled("opt is none").evaluate({}) is True


def test_compile_expression_knows_the_names_it_uses() -> None:
    assert compiled("optim.wd > 0 if opt == 'x' else n > 1").names == {"optim.wd", "opt", "n"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nn > 1",
            "`nn > 1` has the unknown name nn; did you mean n? "
            "known are lr, n, opt, optim.wd, a-b, sizes, flag, off",
        ),
        (
            "opt == lamb",
            "`opt == lamb` has the unknown name lamb; quote it if it is text: 'lamb'; "
            "known are lr, n, opt, optim.wd, a-b, sizes, flag, off",
        ),
        ("lr = 1", "`lr = 1` is no expression; use == to compare"),
        ("lr && n", "`lr && n` is no expression; use and, or, not"),
        (
            "n +",
            "`n +` is no expression; correct it, such as x > 0 and y == 'a'",
        ),
        (
            "__import__('os').system('id')",
            "`__import__('os').system('id')` calls that, which is no function here; "
            "use abs, ceil, float, floor, int, len, log, log10, log2, max, min, round, sqrt, str",
        ),
        (
            "lr.__class__",
            "`lr.__class__` has the unknown name lr.__class__; "
            "quote it if it is text: 'lr.__class__'; "
            "known are lr, n, opt, optim.wd, a-b, sizes, flag, off",
        ),
        (
            "''.join([])",
            "`''.join([])` calls that, which is no function here; "
            "use abs, ceil, float, floor, int, len, log, log10, log2, max, min, round, sqrt, str",
        ),
        (
            "maxx(1)",
            "`maxx(1)` calls maxx, which is no function here; did you mean max? "
            "use abs, ceil, float, floor, int, len, log, log10, log2, max, min, round, sqrt, str",
        ),
        (
            "lambda: 1",
            "`lambda: 1` uses Lambda, which is not allowed; "
            "use numbers, text, names, operators and functions",
        ),
        (
            "[x for x in sizes]",
            "`[x for x in sizes]` uses ListComp, which is not allowed; "
            "use numbers, text, names, operators and functions",
        ),
        (
            "n << 3",
            "`n << 3` uses LShift, which is not allowed; "
            "use numbers, text, names, operators and functions",
        ),
        (
            "round(n, ndigits=2)",
            "`round(n, ndigits=2)` gives round more than plain arguments; write round(x)",
        ),
        ("len", "`len` needs brackets after len; write len(...)"),
        ("n is 8", "`n is 8` compares with `is`; use ==, or `is none`"),
        ("sizes[1:]", "`sizes[1:]` takes a slice; use one index, such as x[0]"),
        ("b'x'", "`b'x'` uses bytes, which is not allowed; use numbers"),
        ("n / 0", "`n / 0` fails with n = 8: division by zero; correct it"),
        (
            "sizes[9]",
            "`sizes[9]` fails with sizes = [1, 2, 3]: list index out of range; correct it",
        ),
        (
            "int(opt)",
            "`int(opt)` fails with opt = 'sgd': invalid literal for int() with base 10: 'sgd'; "
            "correct it",
        ),
        (
            "off * 2",
            "`off * 2` needs off, which is inactive or null with off = null; "
            "guard it: ... if off is not none else ...",
        ),
        (
            "opt > 1",
            "`opt > 1` fails with opt = 'sgd': '>' not supported between instances of 'str' and "
            "'int'; correct it",
        ),
        (
            "9 ** 9 ** 9",
            "`9 ** 9 ** 9` fails: 9 ** 387420489 is too large, at most 2048 bits are allowed; "
            "correct it",
        ),
        ("'a' * 10 ** 9", "`'a' * 10 ** 9` fails: * takes numbers; correct it"),
        ("'%9999999d' % 1", "`'%9999999d' % 1` fails: % takes numbers; correct it"),
        (
            "round(1, -10 ** 9)",
            "`round(1, -10 ** 9)` fails: round takes from -300 to 300 digits, not -1000000000; "
            "correct it",
        ),
        (
            "(-8) ** 0.5",
            "`(-8) ** 0.5` fails: a root of a negative number is no number; correct it",
        ),
        ("1e308 * 10", "`1e308 * 10` gives inf; it must give a finite number"),
        ("'\\0'", "`'\\0'`: text with a NUL character cannot be passed to a program; remove it"),
    ],
)
def test_evaluate_what_is_not_allowed_is_refused(source: str, message: str) -> None:
    assert refusal(source) == message


@pytest.mark.parametrize(
    "source",
    [
        "((n ** 600) ** 600) ** 600",
        " * ".join(["n ** 600"] * 100),
        "+".join(["'" + "x" * 1000 + "'"] * 40),
        "-" * 1900 + "1",
        "(" * 900 + "1" + ")" * 900,
        "1" * 5000,
        "not " * 450 + "n",
        "max(" * 150 + "n" + ")" * 150,
        "10.0 ** 400",
    ],
)
@pytest.mark.timeout(60)
def test_evaluate_hostile_expression_ends(source: str) -> None:
    assert "\n" not in outcome(source)


def test_is_true_number_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        compiled("n + 1").is_true(VALUES)
    assert str(caught.value) == (
        "s.yaml:4: where: `n + 1` gives 9 with n = 8; write a condition, such as x > 0"
    )


@given(st.text(max_size=40))
def test_compile_expression_any_text_is_compiled_or_refused(text: str) -> None:
    assert "\n" not in outcome(text)

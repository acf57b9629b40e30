from __future__ import annotations

import math

import pytest

from orchestrator.domain.metric_comparison import (
    Verdict,
    are_equal,
    compare_metrics,
    is_of_time,
    relative_difference,
)


def verdicts(first: dict[str, object], second: dict[str, object], **more: object) -> dict[str, str]:
    rows = compare_metrics(first, second, **more)  # type: ignore[arg-type]
    return {row.name: row.verdict.value for row in rows}


def test_metrics_are_compared_to_the_last_bit() -> None:
    first = {"loss": 0.3, "n": 3, "note": "x", "bad": "nan"}
    second = {"loss": 0.1 + 0.2, "n": 3.0, "note": "y", "bad": "nan", "more": 1}
    assert verdicts(first, second) == {
        "loss": "differs",
        "n": "equal",
        "note": "differs",
        "bad": "equal",
        "more": "new",
    }
    assert verdicts(first, {"loss": 0.3}, tolerance=1e-9)["n"] == "missing"
    assert verdicts({"loss": 0.3}, {"loss": 0.1 + 0.2}, tolerance=1e-12) == {"loss": "equal"}


def test_metrics_of_time_come_last_and_do_not_count_unless_ranked() -> None:
    first, second = {"run_time_s": 1.0, "loss": 2}, {"run_time_s": 2.0, "loss": 2}
    rows = compare_metrics(first, second)
    assert [(row.name, row.verdict) for row in rows] == [
        ("loss", Verdict.EQUAL),
        ("run_time_s", Verdict.NOT_COUNTED),
    ]
    assert are_equal(rows)
    assert not are_equal(compare_metrics(first, second, objective="run_time_s"))
    assert not are_equal(compare_metrics({"time": 1}, {"time": 1})), "nothing that counts"


@pytest.mark.parametrize(
    ("name", "of_time"),
    [
        ("run_time_s", True),
        ("tokens_per_second", True),
        ("trainRuntime", True),
        ("train_runtime", True),
        ("stepTime", True),
        ("sys/gpu.memory", True),
        ("took_s", True),
        ("s", False),
        ("timesteps", False),
        ("eval_perplexity", False),
        ("loss", False),
    ],
)
def test_is_of_time(name: str, of_time: bool) -> None:
    assert is_of_time(name) is of_time


def test_relative_difference_at_the_edges() -> None:
    assert relative_difference(0, 0.0) == 0
    assert relative_difference(1.0, 2.0) == pytest.approx(0.5)
    assert relative_difference(-1e308, 1e308) == pytest.approx(2)
    assert relative_difference("nan", "nan") == 0
    assert relative_difference("nan", 1) == math.inf
    assert relative_difference("inf", "inf") == 0
    assert relative_difference("x", 1) is None
    assert relative_difference(None, 1) is None

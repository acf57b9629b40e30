from __future__ import annotations

import pytest

from orchestrator.domain.spec_secrets import hide_env


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("program: a.py\n", "program: a.py\n"),
        ("env: {KEY: hunter2, B: 'x'}\na: 1\n", "env: {KEY: (not shown), B: (not shown)}\na: 1\n"),
        ("env:\n  KEY: hunter2  # mine\n  B: 2\na: 1\n", "env:\n  KEY: (not shown)  # mine\n  B: (not shown)\na: 1\n"),  # noqa: E501
        ("env:\n  KEY: |\n    hunter2\n    3\na: 1\n", "env:\n  KEY: (not shown)\na: 1\n"),
        ('{"env": {"KEY": "hunter2"}, "a": 1}', '{"env": {"KEY": (not shown)}, "a": 1}'),
        ("parameters: {env: {values: [1]}}\n", "parameters: {env: {values: [1]}}\n"),
        ("# 中文 🚀\nenv: {KEY: hunter2}\n", "# 中文 🚀\nenv: {KEY: (not shown)}\n"),
        ("", ""),
    ],
)  # fmt: skip
def test_values_of_env_are_hidden(text: str, shown: str) -> None:
    assert hide_env(text) == shown


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2\n", "env: &x {KEY: hunter2}\nb: *y\n"])
def test_text_that_cannot_be_read_is_not_shown(text: str) -> None:
    assert hide_env(text) is None

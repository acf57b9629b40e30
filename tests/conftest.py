"""What all tests share: recording golden files."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-golden", action="store_true", help="write the golden files anew; review the diff"
    )


@pytest.fixture
def check_golden(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Compare a text with a golden file, or record it."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--record-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, "`make golden` records it; review the diff"

    return check

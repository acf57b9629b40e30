"""One headless Chromium for all tests of a pytest process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.install import BrowserUnavailable, ensure_chromium
from tests.browser.opened import TIMEOUT_MS

# Chromium refuses to run as root with its sandbox; the others keep it from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Chromium, with a profile of its own that goes with it."""
    try:
        path = ensure_chromium()
    except BrowserUnavailable as error:
        pytest.skip(f"no browser: {error}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=FLAGS, headless=True, timeout=TIMEOUT_MS
        )
        yield browser
        browser.close()

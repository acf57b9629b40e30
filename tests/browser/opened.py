"""A report opened in a browser without a network, and all that it complained about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

# A busy machine may take long over anything.
TIMEOUT_MS = 120_000


@dataclass
class Opened:
    """A page, and what was noted of it."""

    page: Page
    """Playwright's page."""
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings on the console, exceptions, dialogs."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for, other than the file itself and data within it."""


@contextmanager
def open_page(browser: Browser, path: Path, **options: Any) -> Iterator[Opened]:
    """Open a file in a context of its own, offline, and see that nothing went wrong."""
    context = browser.new_context(offline=True, **options)
    try:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        opened = Opened(page)
        page.on("console", lambda it: _note_console(opened, it))
        page.on("pageerror", lambda error: opened.complaints.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: (opened.complaints.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: _note_request(opened, request.url, path))
        page.goto(path.as_uri(), wait_until="load")
        yield opened
        assert opened.complaints == []
        assert opened.requests == []
    finally:
        context.close()


def _note_console(opened: Opened, message: Any) -> None:
    if message.type in ("error", "warning"):
        opened.complaints.append(f"{message.type}: {message.text}")


def _note_request(opened: Opened, url: str, path: Path) -> None:
    if url != path.as_uri() and not url.startswith(("data:", "blob:")):
        opened.requests.append(url)

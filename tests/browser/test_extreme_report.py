"""Numbers at the ends of what floats and JavaScript hold, and names that JavaScript has taken."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from orchestrator.usecases.report import Report, make_report
from tests.browser.opened import Opened, open_page
from tests.trial_writer import add_trial, make_sweep

TAKEN = ["__proto__", "constructor", "toString", "hasOwnProperty"]
LARGEST = 1.7e308
LOSSES = [LARGEST, -LARGEST, 1e300, 1e38, 0.0, -0.0, 5e-324, 1.0, -1.0, 2.0, math.nan, math.inf]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp("results") / "extreme"
    sweep = make_sweep(str(root), ("__proto__", "minimize"), ["lr", "n", "constructor"])
    cycle = itertools.cycle(LOSSES)
    for number in range(36):
        name = f"{number:05d}-{number:010x}"
        rate = [LARGEST, -LARGEST, 1.0, 5e-324][number % 4]
        params = {"lr": rate, "n": 2**53 + 35 - number, "constructor": TAKEN[number % 4]}
        metrics = {"__proto__": next(cycle), "toString": number}
        if number % 2:
            metrics["maybe"] = math.nan if number % 3 else float(number)
        add_trial(sweep, name, params, metrics)
    return make_report(sweep)


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Report) -> Iterator[Opened]:
    with open_page(browser, Path(report.path), viewport={"width": 1400, "height": 900}) as opened:
        yield opened


@pytest.fixture
def page(opened: Opened) -> Iterator[Page]:
    yield opened.page
    opened.page.locator(".tools").get_by_role("button", name="Reset", exact=True).click()
    assert opened.complaints == []


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def test_extreme_numbers_draw_without_a_complaint(page: Page) -> None:
    page.evaluate("() => PAGE.drawAll()")
    drawn = page.locator("[data-figure]").evaluate_all("(all) => all.map((it) => it.dataset.drawn)")
    assert len(drawn) > 5
    assert set(drawn) == {"yes"}
    assert "NaN" not in page.locator("#figure-parallel svg").inner_html()


def test_copy_of_extreme_numbers_is_the_csv(page: Page, report: Report) -> None:
    table = report.input.sweep.leaderboard("csv")
    assert page.evaluate("() => TABLE.toCsv()").encode() == Path(table).read_bytes()


def test_integers_beyond_floats_sort_and_filter_by_all_digits(page: Page) -> None:
    page.locator("#trials-list thead").get_by_role("button", name="n", exact=True).click()
    shown = page.evaluate("() => TABLE.state.rows.map((row) => TABLE.byName.get('n').full(row))")
    assert shown == [str(2**53 + i) for i in range(36)]
    filtering = page.get_by_label("Filter n", exact=True)
    for text, n in ((f"{2**53 + 1}", 1), (f"<={2**53 + 1}", 2), (f"{2**53 + 3}..", 33)):
        filtering.fill(text)
        assert count(page).startswith(f"Shown: {n} trial"), text


def test_filter_by_a_taken_name_is_no_number(page: Page) -> None:
    for name in TAKEN:
        page.get_by_label("Filter n", exact=True).fill(name)
        assert "use a number" in count(page), name


def test_missing_is_not_nan(page: Page) -> None:
    n_nan = sum(bool(number % 2 and number % 3) for number in range(36))
    page.get_by_label("Filter maybe").fill("NaN")
    assert count(page) == f"Shown: {n_nan} trials (of 36)"
    page.get_by_label("Filter maybe").fill("none")
    assert count(page) == "Shown: 18 trials (of 36)"

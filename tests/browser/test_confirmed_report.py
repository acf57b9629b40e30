"""The report of a sweep whose first place fresh seeds overturned, in a real browser."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator

from orchestrator.adapters.report_html import read_assets, render_report
from orchestrator.usecases.report import make_report
from tests.browser.accessible import find_faults, find_weak_contrast
from tests.browser.opened import open_page
from tests.usecases.test_numbers_agree import make_rich_sweep


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report, with the figure of the best alone, and the leaderboard beside it."""
    report = make_report(make_rich_sweep(tmp_path_factory.mktemp("results")))
    figures = [it for it in report.document.figures if it.id == "intervals"]
    path = Path(report.path)
    path.write_bytes(render_report(replace(report.document, figures=figures), read_assets()))
    return path


def cells(table: Locator) -> list[dict[str, str]]:
    names = table.locator("thead th").all_inner_texts()
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_fresh_runs_stand_beside_those_that_chose(browser: Browser, page_path: Path) -> None:
    with open(page_path.with_name("leaderboard.csv"), newline="") as file:
        rows = {row["trial"]: row for row in csv.DictReader(file)}
    first = next(iter(rows.values()))
    with open_page(browser, page_path, viewport={"width": 1400, "height": 900}) as opened:
        page = opened.page
        assert page.locator(".badge").inner_text() == "overturned"
        best = page.locator("#best")
        assert "On fresh seeds another is better" in best.inner_text()
        boxes: dict[str, Any] = {
            box.locator("h3").inner_text(): {
                name.inner_text(): name.locator("xpath=following-sibling::dd")
                for name in box.locator("dt").all()
            }
            for box in best.locator(".best > div").all()
        }
        chosen, fresh = boxes["Scores of the runs that chose it"], boxes["On fresh seeds"]
        assert chosen["acc_mean"].get_attribute("title") == first["acc_mean"]
        assert fresh["mean of acc"].get_attribute("title") == first["confirmed_mean"]
        assert fresh["rank"].inner_text().split(" ")[0] == first["confirmed_rank"] == "2"
        assert fresh["runs done"].inner_text() == "2 of 2"
        shown = {it["trial"]: it for it in cells(best.locator("table").first)}
        confirmed = {name: row for name, row in rows.items() if row["confirmed_rank"]}
        assert set(shown) <= set(confirmed)
        assert [it["rank"] for it in shown.values()] == ["1", "2"]
        for name, it in shown.items():
            row = rows[name]
            assert (it["rank"], it["tie"]) == (row["confirmed_rank"], row["confirmed_tie"])
            assert it["mean"] == f"{float(row['confirmed_mean']):.6g}"
            assert it["runs"] == row["confirmed_n"]
            assert it["rank before"] == row["rank"]
        tied = {it["trial"]: it for it in cells(best.locator("table").nth(1))}
        assert {it["fresh mean"] for it in tied.values()} == {
            f"{float(rows[name]['confirmed_mean']):.6g}" for name in tied
        }
        names = page.locator("#trials-list thead tr").first.locator("th").all_inner_texts()
        heads = {name.replace("\n", "") for name in names}
        assert {"confirmed_rank", "confirmed_mean", "confirmed_n"} <= heads


@pytest.mark.parametrize(("width", "theme"), [(400, "dark"), (1000, "light")])
def test_page_with_fresh_runs_is_for_everyone(
    browser: Browser, page_path: Path, width: int, theme: Any
) -> None:
    viewport = {"width": width, "height": 900}
    with open_page(browser, page_path, viewport=viewport, color_scheme=theme) as opened:
        page = opened.page
        page.evaluate("() => PAGE.drawAll()")
        page.wait_for_function("() => PAGE.isQuiet()")
        legend = page.locator("#figure-intervals .legendtext").all_text_contents()
        assert legend[-1] == "on fresh seeds"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert find_faults(page) == []
        assert find_weak_contrast(page) == []

"""The report in a real browser without a network: its table, its themes, its keyboard."""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from orchestrator.adapters.report_html import read_assets, render_report
from orchestrator.contract.paths import SweepPaths
from orchestrator.usecases.report import Report, make_report
from tests.browser.accessible import find_faults, find_weak_contrast
from tests.browser.opened import Opened, open_page
from tests.browser.sample_sweep import make_sample_sweep

OBJECTIVE = "eval_perplexity"
# Every row and column that the table shows: all digits stand in the title where they are cut.
READ_TABLE = """
() => {
  const table = document.getElementById("trials-list");
  const names = [...table.tHead.rows[0].cells].slice(1).map((it) => it.textContent);
  const rows = [];
  for (;;) {
    for (const row of table.tBodies[0].rows) {
      rows.push([...row.cells].slice(1).map((it) => it.title || it.textContent));
    }
    const next = [...document.querySelectorAll(".pager button")][2];
    if (next.getAttribute("aria-disabled") === "true") return { names, rows };
    next.click();
  }
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Report on the founding grid with three seeds."""
    root = tmp_path_factory.mktemp("results") / "grid"
    sweep = make_sample_sweep(str(root), end_s=time.time(), n_reports=8)
    return make_report(sweep)


@pytest.fixture(scope="module")
def light(report: Report) -> Path:
    """Write the same report without its figures, which opens in no time."""
    path = Path(report.path).with_name("light.html")
    path.write_bytes(render_report(replace(report.document, figures=()), read_assets()))
    return path


@pytest.fixture
def opened(browser: Browser, light: Path) -> Iterator[Opened]:
    """Open that one."""
    with open_page(browser, light, viewport={"width": 1400, "height": 900}) as opened:
        yield opened


@pytest.fixture
def page(opened: Opened) -> Page:
    """Return its page."""
    return opened.page


def csv_rows(report: Report) -> list[dict[str, str]]:
    with open(SweepPaths(report.input.sweep.root).leaderboard("csv"), newline="") as file:
        return list(csv.DictReader(file))


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def column(page: Page, name: str) -> list[str]:
    """Read one column of the rows shown, all digits."""
    table = page.evaluate(
        "() => [...document.querySelectorAll('#trials-list tr')]"
        ".map((row) => [...row.cells].map((it) => it.title || it.textContent))"
    )
    place = table[0].index(name)
    return [row[place] for row in table[2:]]


def sort_button(page: Page, name: str) -> Any:
    return page.locator("#trials-list thead").get_by_role("button", name=name, exact=True)


def direction(page: Page, name: str) -> str | None:
    return sort_button(page, name).locator("..").get_attribute("aria-sort")


def test_every_cell_of_the_table_is_that_of_the_csv(page: Page, report: Report) -> None:
    page.locator("details.columns summary").click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_label("Rows").select_option("100")
    table = page.evaluate(READ_TABLE)
    rows = csv_rows(report)
    assert table["names"] == list(rows[0])
    assert len(rows) == 486
    assert [dict(zip(table["names"], row, strict=True)) for row in table["rows"]] == rows


def test_copy_as_csv_gives_the_file_to_the_byte(page: Page, report: Report) -> None:
    text = page.evaluate("() => TABLE.toCsv()")
    assert text == Path(report.input.sweep.leaderboard("csv")).read_text(encoding="utf-8")


def test_best_configuration_is_the_first_row(page: Page, report: Report) -> None:
    best = csv_rows(report)[0]
    shown = page.locator("#best .values").first
    assert float(best[f"{OBJECTIVE}_mean"]) == float(
        shown.locator("dd").first.get_attribute("title") or "nan"
    )
    number = int(best["trial"].partition("-")[0])
    command = page.locator("#best .command code").inner_text()
    assert re.fullmatch(rf"make reproduce SWEEP=grid TRIAL={number}", command)


def test_headings_sort_up_down_and_not(page: Page, report: Report) -> None:
    in_order = [row[OBJECTIVE] for row in csv_rows(report)]
    numbers = sorted(float(text) for text in in_order if text)
    button = sort_button(page, OBJECTIVE)
    button.click()
    assert direction(page, OBJECTIVE) == "ascending"
    assert [float(text) for text in column(page, OBJECTIVE)] == numbers[:50]
    button.click()
    assert direction(page, OBJECTIVE) == "descending"
    assert [float(text) for text in column(page, OBJECTIVE)] == numbers[:-51:-1]
    button.click()
    assert direction(page, OBJECTIVE) == "none"
    assert column(page, OBJECTIVE) == in_order[:50]


def test_missing_values_sort_last_both_ways(page: Page, report: Report) -> None:
    n_missing = sum(not row[OBJECTIVE] for row in csv_rows(report))
    assert n_missing > 0
    for _ in range(2):
        sort_button(page, OBJECTIVE).click()
        page.get_by_role("button", name="Last").click()
        assert column(page, OBJECTIVE)[-1] == ""


def test_filters_and_search_choose_rows(page: Page, report: Report) -> None:
    rows = csv_rows(report)
    lamb = [row for row in rows if row["optimizer"] == "lamb"]
    some = [row for row in lamb if 16 <= int(row["batch_size"]) <= 32]
    page.get_by_label("Filter optimizer").fill("LAMB")
    assert f" {len(lamb)} trials (of 486)" in count(page)
    page.get_by_label("Filter batch_size").fill("16..32")
    assert f" {len(some)} trials (of 486)" in count(page)
    page.get_by_label("Filter batch_size").fill("< 17")
    assert set(column(page, "batch_size")) == {"16"}
    page.get_by_label("Search").fill(some[0]["trial"])
    page.get_by_label("Filter batch_size").fill("")
    assert count(page) == "Shown: 1 trial (of 486)"
    page.get_by_label("Search").fill("there is no such thing")
    assert page.locator("#trials-list tbody").inner_text() == "No trial is like that."
    page.get_by_role("button", name="Reset").click()
    assert count(page) == "Shown: 1 to 50 of 486 trials"


def test_filter_that_cannot_be_read_says_so_and_hides_nothing(page: Page) -> None:
    box = page.get_by_label("Filter batch_size")
    box.fill("16..x")
    assert box.get_attribute("aria-invalid") == "true"
    assert count(page) == (
        "Shown: 1 to 50 of 486 trials. Filter of batch_size: use a number, <0.1, >=3, 1..2, "
        "none or any"
    )


def test_pages_turn_and_keep_the_focus(page: Page) -> None:
    following = page.get_by_role("button", name="Next")
    following.focus()
    for _ in range(12):  # nine would do
        page.keyboard.press("Enter")
    assert count(page) == "Shown: 451 to 486 of 486 trials"
    assert following.evaluate("(it) => it === document.activeElement")
    assert page.get_by_text("Page 10 of 10").is_visible()


def test_one_row_a_configuration(page: Page, report: Report) -> None:
    board = report.input.collection.board
    page.get_by_label("One row a configuration").check()
    assert f"of {len(board.leads) + 486 - board.n_ranked} trials" in count(page)
    ranks = [int(text) for text in column(page, "rank")]
    assert len(set(ranks)) == len(ranks) == 50


def test_two_trials_are_compared(page: Page, report: Report) -> None:
    rows = csv_rows(report)
    for place in (0, 5):
        page.locator("#trials-list tbody input").nth(place).check()
    heads = page.locator("#compared thead th").all_inner_texts()
    assert heads == ["Value", rows[0]["trial"], rows[5]["trial"]]
    shown = {
        line[0].removesuffix(" differs"): line[1:]
        for line in page.evaluate(
            "() => [...document.querySelectorAll('#compared tbody tr:not(.group)')]"
            ".map((row) => [...row.cells].map((it) => it.textContent))"
        )
    }
    for name, cells in shown.items():
        assert cells == [rows[0][name], rows[5][name]]
    page.get_by_label("Only what differs").check()
    left = page.locator("#compared tbody tr:not(.group)").count()
    assert left == sum(cells[0] != cells[1] for cells in shown.values())
    page.get_by_role("button", name="Choose none").click()
    assert page.locator("#compare").is_hidden()


def test_theme_follows_the_system_and_the_button(browser: Browser, light: Path) -> None:
    back = "() => getComputedStyle(document.documentElement).backgroundColor"
    with open_page(browser, light, color_scheme="dark") as opened:
        assert opened.page.evaluate(back) == "rgb(18, 21, 24)"
        assert find_weak_contrast(opened.page) == []
        opened.page.get_by_role("button", name="Light theme").click()
        assert opened.page.evaluate(back) == "rgb(250, 250, 250)"
        assert opened.page.get_by_role("button", name="Dark theme").is_visible()
        assert find_weak_contrast(opened.page) == []


def test_page_is_for_everyone(page: Page) -> None:
    page.locator("#trials-list tbody input").first.check()
    for details in page.locator("details").all():
        details.evaluate("(it) => { it.open = true; }")
    assert find_faults(page) == []
    assert find_weak_contrast(page) == []


def test_keyboard_skips_to_the_results_and_sorts(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    assert skip.inner_text() == "Skip to the results"
    assert skip.bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    sort_button(page, "trial").focus()
    page.keyboard.press("Space")
    assert direction(page, "trial") == "ascending"
    assert page.locator(":focus").inner_text() == "trial"
    outline = page.locator(":focus").evaluate("(it) => getComputedStyle(it).outlineStyle")
    assert outline == "solid"


def test_every_figure_draws_in_both_themes_and_on_a_narrow_screen(
    browser: Browser, report: Report
) -> None:
    with open_page(browser, Path(report.path), viewport={"width": 400, "height": 800}) as opened:
        page = opened.page
        places = page.locator("[data-figure]")
        said = [figure for figure in report.document.figures if figure.data.get("reason")]
        assert places.count() == len(report.document.figures) - len(said) > 5
        page.evaluate("() => PAGE.drawAll()")
        page.get_by_role("button", name="Dark theme").click()
        page.wait_for_function("() => PAGE.isQuiet()")
        drawn = places.evaluate_all("(all) => all.map((it) => it.dataset.drawn)")
        assert set(drawn) == {"yes"}
        for place in places.all():
            assert place.locator("svg, canvas, table").count() > 0
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
        assert find_faults(page) == []
        assert find_weak_contrast(page) == []
        page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function("() => PAGE.isQuiet()")
        colors = "() => getComputedStyle(document.querySelector('.plot text')).fill"
        assert page.evaluate(colors) == "rgb(87, 96, 106)", "light, as paper is"


def test_print_leaves_out_what_is_to_press(page: Page) -> None:
    page.emulate_media(media="print")
    assert page.get_by_role("button", name="Copy as CSV").is_hidden()
    assert page.locator("#trials-list tbody tr").first.is_visible()

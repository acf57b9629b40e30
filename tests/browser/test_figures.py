"""Every figure in a real browser: it draws, light and dark, and shows foreign texts as they are."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from orchestrator.adapters.report_html import read_assets
from orchestrator.usecases.collect import collect
from orchestrator.usecases.observe import observe
from orchestrator.usecases.report_figures import build_figures
from orchestrator.usecases.report_input import ReportInput
from tests.browser.opened import TIMEOUT_MS, open_page
from tests.browser.sample_sweep import make_sample_sweep

HOSTILE = ["<b>bold</b>", '<a href="x:y()">go</a>', "%{x} & &lt;i&gt;", "$x^2$"]
_DRAW = """
const DATA = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
async function drawAll(theme) {
  document.body.className = theme;
  for (const id of Object.keys(DATA)) await FIGURES[id](at(id), DATA[id], theme);
}
"""
_HOVER = """
([id, curve, point]) => {
  const plot = at(id).querySelector(".js-plotly-plot");
  Plotly.Fx.hover(plot, [{ curveNumber: curve, pointNumber: point }], "xy");
}
"""


def write_page(path: Path, data: Mapping[str, Any]) -> Path:
    """Write a page with nothing but figures, under the policy that reports have."""
    assets = read_assets()
    scripts = [text.replace("</script", "<\\/script") for text in (assets.plotly, *assets.figures)]
    scripts.append(_DRAW)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    places = "".join(f'<h3>{html.escape(name)}</h3><div id="{name}"></div>' for name in data)
    block = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    path.write_text(
        f'<!doctype html><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>.dark {{ background: #1a1e22; color: #e4e7ea }}</style><body>{places}"
        f'<script type="application/json" id="data">{block}</script>'
        + "".join(f"<script>{text}</script>" for text in scripts),
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Data of every figure of the founding grid with three seeds."""
    root = tmp_path_factory.mktemp("results") / "grid"
    now_s = time.time()
    sweep = make_sample_sweep(str(root), end_s=now_s, n_reports=20)
    seen = observe(sweep)
    now = datetime.fromtimestamp(now_s, UTC)
    collection = collect(sweep, seen.states, seen.reasons, now, scan=seen.scan, write_files=False)
    found = {f.id: f.data for f in build_figures(ReportInput(sweep, seen, collection, now_s))}
    return {**found, "objectives": {**found["pareto"], "goal": "maximize", "x_goal": "maximize"}}


@pytest.fixture(scope="module")
def page(
    browser: Browser, data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """Open a page with them; any complaint of the browser fails a test."""
    path = write_page(tmp_path_factory.mktemp("page") / "figures.html", data)
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        yield opened.page


def hover(page: Page, name: str, *texts: str, curve: int = 0, point: int = 0) -> Locator:
    """Hover a point, wait until its label says these texts, and return the label."""
    page.evaluate(_HOVER, [name, curve, point])
    label = page.locator(f"#{name} .hoverlayer")
    for text in texts:
        expect(label).to_contain_text(text, timeout=TIMEOUT_MS)
    return label


def test_every_figure_draws_in_both_themes(page: Page, data: dict[str, Any]) -> None:
    for theme in ("light", "dark", "light"):
        page.evaluate("(theme) => drawAll(theme)", theme)
        for name in data:
            place = page.locator(f"#{name}")
            if name == "parallel":
                assert place.locator("canvas").count() == 1
                assert place.locator("[role=slider]").count() == 6
                continue
            assert place.locator(".js-plotly-plot").count() == 1, name
            marks = place.locator(".trace, .bars path, .hm image, .hm rect")
            assert marks.count() > 0, name
            box = place.bounding_box()
            assert box is not None
            assert box["height"] > 150, name


def test_no_figure_is_wider_than_a_narrow_page(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.evaluate("drawAll('light')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.set_viewport_size({"width": 1000, "height": 900})


def test_parallel_coordinates_keep_what_passes_the_range(page: Page) -> None:
    page.evaluate("drawAll('light')")
    axis = page.locator("#parallel [role=slider]").last
    said = page.locator("#parallel .figure-said")
    axis.scroll_into_view_if_needed()
    box = axis.locator("rect").last.bounding_box()
    assert box is not None
    x, bottom = box["x"] + box["width"] / 2, box["y"] + box["height"]
    page.mouse.move(x, bottom - 2)
    page.mouse.down()
    page.mouse.move(x, bottom - 40)
    page.mouse.up()
    page.mouse.move(5, 5)
    assert "configurations pass; the best of them is" in said.inner_text()
    axis.focus()
    page.keyboard.press("Escape")
    assert said.inner_text() == "Point at a line to see which configuration it is."
    page.keyboard.press("ArrowUp")
    assert axis.get_attribute("aria-valuetext") != "all"


def test_choices_draw_anew_and_stay(page: Page) -> None:
    page.evaluate("drawAll('light')")
    title = page.locator("#curves .ytitle")
    expect(title).to_contain_text("eval_perplexity", timeout=TIMEOUT_MS)
    page.locator("#curves select").select_option("2")
    expect(title).to_contain_text("train_loss", timeout=TIMEOUT_MS)
    page.locator("#timeline select").select_option("1")
    assert page.locator("#timeline .js-plotly-plot").count() == 1
    page.evaluate("drawAll('dark')")
    expect(title).to_contain_text("train_loss", timeout=TIMEOUT_MS)
    assert page.locator("#timeline select").input_value() == "1"


def test_hover_tells_the_trial_and_all_digits(page: Page, data: dict[str, Any]) -> None:
    page.evaluate("drawAll('light')")
    row = data["pareto"]["front"][0]
    hover(page, "pareto", data["pareto"]["trial"][row], str(data["pareto"]["y"][row]), curve=1)


def test_axis_of_importance_ends_at_all_of_it(browser: Browser, tmp_path: Path) -> None:
    share = {"name": ["lr", "b"], "share": [0.9, 0.1], "correlation": [None, None],
             "direction": ["", ""], "is_sure": [True, True]}  # fmt: skip
    path = write_page(tmp_path / "importance.html", {"importance": share})
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        opened.page.evaluate("drawAll('light')")
        ticks = opened.page.locator("#importance g.xtick").all_text_contents()
        assert ticks == ["0%", "20%", "40%", "60%", "80%", "100%"]


def test_curve_of_a_diverged_trial_ends_in_a_cross(browser: Browser, tmp_path: Path) -> None:
    curves = {
        "keys": ["loss"], "log": [False], "range": [None],
        "groups": ["best 1", "better half", "worse half", "running", "not finished",
                   "done without a rank"],
        "trial": ["a", "b"], "group": [0, 5], "rank": [1, None], "state": ["done", "done"],
        "series": [{"trial": [0, 1], "step": [[1, 2, 3], [1, 2, 3]],
                    "value": [[3.0, 2.0, 1.0], [3.0, 9.0, None]]}],
    }  # fmt: skip
    path = write_page(tmp_path / "curves.html", {"curves": curves})
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        page = opened.page
        page.evaluate("drawAll('light')")
        assert "done without a rank" in page.locator("#curves .legend").all_text_contents()[0]
        sizes = page.evaluate(
            "at('curves').querySelector('.js-plotly-plot').data.map((t) => t.marker.size)"
        )
        assert sizes == [[0, 8, 0, 0], [0, 0, 0, 0]]


def test_fresh_runs_are_drawn_apart(browser: Browser, tmp_path: Path) -> None:
    intervals = {
        "objective": "loss_mean", "goal": "minimize", "trial": ["a", "b"], "rank": [1, 2],
        "mean": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7], "n": [2, 2], "n_all": [2, 2],
        "is_tied": [True, True], "repeats": [[0.5], [0.6]], "label": [["lr 1"], ["lr 2"]],
        "fresh": {"row": [1], "mean": [0.55], "low": [None], "high": [None], "n": [1],
                  "rank": [None]},
    }  # fmt: skip
    curves = {
        "keys": ["loss"], "log": [False], "range": [None],
        "groups": ["best 1", "better half", "worse half", "running", "not finished",
                   "done without a rank", "on fresh seeds"],
        "trial": ["a", "b"], "group": [0, 6], "rank": [1, None], "state": ["done", "done"],
        "series": [{"trial": [0, 1], "step": [[1, 2], [1, 2]], "value": [[3, 2], [3, 1]]}],
    }  # fmt: skip
    path = write_page(tmp_path / "fresh.html", {"intervals": intervals, "curves": curves})
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        page = opened.page
        for theme in ("light", "dark"):
            page.evaluate("(theme) => drawAll(theme)", theme)
            names = page.locator("#curves .legendtext").all_text_contents()
            assert names == ["best 1", "on fresh seeds"]
            lines = page.locator("#curves .trace")
            if theme == "light":  # shown once, they stay so in the other theme
                assert lines.count() == 1
                page.locator("#curves .legendtoggle").last.click()
            expect(lines).to_have_count(2, timeout=TIMEOUT_MS)
            names = page.locator("#intervals .legendtext").all_text_contents()
            assert names == ["each repeat", "tied with the first", "on fresh seeds"]
        hover(page, "intervals", "b, on fresh seeds", "mean 0.55", "no interval", curve=2)


def test_legend_is_worked_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    names = ["best 1", "better half", "worse half"]
    curves = {
        "keys": ["loss", "accuracy"], "log": [False] * 2, "range": [None] * 2, "groups": names,
        "trial": ["a", "b", "c"], "group": [0, 1, 2], "rank": [1, 2, 3], "state": ["done"] * 3,
        "series": [{"trial": [0, 1, 2], "step": [[1, 2]] * 3, "value": [[3, 2]] * 3}] * 2,
    }  # fmt: skip
    path = write_page(tmp_path / "legend.html", {"curves": curves})
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        page = opened.page
        page.evaluate("drawAll('light')")
        entries = [page.get_by_role("button", name=f"Show {name}") for name in names]
        lines = page.locator("#curves .trace")
        page.locator("#curves select").focus()
        for entry in entries:
            page.keyboard.press("Tab")
            expect(entry).to_be_focused(timeout=TIMEOUT_MS)
            expect(entry).to_have_attribute("aria-pressed", "true", timeout=TIMEOUT_MS)
        for key, n, pressed in (("Enter", 2, "false"), (" ", 3, "true"), (" ", 2, "false")):
            page.keyboard.press(key)
            expect(lines).to_have_count(n, timeout=TIMEOUT_MS)
            expect(entries[2]).to_have_attribute("aria-pressed", pressed, timeout=TIMEOUT_MS)
            expect(entries[2]).to_be_focused(timeout=TIMEOUT_MS)
        page.locator("#curves .legendtoggle").first.click()  # the mouse says so, too
        expect(entries[0]).to_have_attribute("aria-pressed", "false", timeout=TIMEOUT_MS)
        page.locator("#curves select").select_option("1")
        page.evaluate("drawAll('dark')")  # what was hidden stays so
        expect(lines).to_have_count(1, timeout=TIMEOUT_MS)
        expect(entries[1]).to_have_attribute("aria-pressed", "true", timeout=TIMEOUT_MS)


def test_legend_of_bars_with_marks_hides_both(browser: Browser, tmp_path: Path) -> None:
    timeline = {
        "origin_s": 0, "ends": ["committed", "failed"], "start": [0, 5], "length": [9, 9],
        "end": [0, 1], "lane": [0, 1], "n_lanes": 2, "trial": [0, 1], "attempt": [1, 1],
        "trials": ["a", "b"], "interrupted": [], "guessed": [], "count_t": [0, 14],
        "count": [2, 0],
    }  # fmt: skip
    path = write_page(tmp_path / "timeline.html", {"timeline": timeline})
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        page = opened.page
        page.evaluate("drawAll('light')")
        expect(page.locator("#timeline .bars")).to_have_count(2, timeout=TIMEOUT_MS)
        page.get_by_role("button", name="Show failed").press("Enter")
        expect(page.locator("#timeline .bars")).to_have_count(1, timeout=TIMEOUT_MS)
        expect(page.locator("#timeline .scatterlayer .points path")).to_have_count(
            0, timeout=TIMEOUT_MS
        )


def test_buttons_of_figures_send_nothing_anywhere(page: Page) -> None:
    page.evaluate("drawAll('light')")
    titles = page.eval_on_selector_all(
        ".modebar-btn", "all => [...new Set(all.map((it) => it.dataset.title))].sort()"
    )
    assert titles == ["Autoscale", "Download plot as a PNG", "Pan", "Reset axes", "Zoom"]


def test_words_in_cells_can_be_read(page: Page) -> None:
    for theme in ("light", "dark"):
        page.evaluate("(theme) => drawAll(theme)", theme)
        inks = page.evaluate("""() => {
          const words = [...at("contours").querySelectorAll(".textpoint text")];
          return [...new Set(words.map((it) => getComputedStyle(it).fill))].sort();
        }""")
        assert inks == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    inks = page.evaluate("['rgb(33, 144, 141)', 'rgb(68, 1, 84)'].map(FIGURE_KIT.inkOn)")
    assert inks == ["#000000", "#ffffff"]


def test_words_behind_bars_are_not_cut_off_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    share = {"name": ["lr", "width"], "share": [0.57, 0.43], "correlation": [None, None],
             "direction": ["best median at 0.001, between the ends", "no clear trend"],
             "is_sure": [True, False]}  # fmt: skip
    path = write_page(tmp_path / "importance.html", {"importance": share})
    for width in (400, 700, 1400):
        with open_page(browser, path, viewport={"width": width, "height": 900}) as opened:
            opened.page.evaluate("drawAll('light')")
            texts = opened.page.locator("#importance .bartext")
            assert texts.count() == 2
            for text in texts.all():
                box = text.bounding_box()
                assert box is not None
                assert box["x"] + box["width"] <= width


def test_foreign_texts_are_shown_as_they_are(browser: Browser, tmp_path: Path) -> None:
    n = len(HOSTILE)
    y, view = [float(i) for i in range(n)], {"log": False, "range": None, "n_outside": 0}
    common = {"objective": HOSTILE[0], "goal": "minimize", "view": view, "y": y, "trial": HOSTILE}
    text_axis = {"name": HOSTILE[1], "is_text": True, "log": False, "levels": HOSTILE,
                 "codes": list(range(n)), "medians": []}  # fmt: skip
    data = {
        "slices": {**common, "axes": [text_axis]},
        "parallel": {**common, "axes": [text_axis]},
        "importance": {
            "name": HOSTILE, "share": [0.4, 0.3, 0.2, 0.1], "correlation": [None] * n,
            "direction": HOSTILE, "is_sure": [True] * n,
        },
        "pareto": {
            "x_name": HOSTILE[1], "unit": HOSTILE[2], "y_name": HOSTILE[0], "goal": "minimize",
            "x_goal": "minimize", "view": view, "x": y, "y": y, "trial": HOSTILE, "front": [0],
        },
        "history": {"reason": HOSTILE[1]},
    }  # fmt: skip
    path = write_page(tmp_path / "hostile.html", data)
    with open_page(browser, path, viewport={"width": 1000, "height": 900}) as opened:
        page = opened.page
        page.evaluate("drawAll('light')")
        for name in data:
            place = page.locator(f"#{name}")
            assert place.locator("a, b").count() == 0, name
        assert page.locator("#history").inner_text() == HOSTILE[1]
        ticks = page.locator("#importance g.ytick").all_text_contents()
        assert ticks == HOSTILE
        assert page.locator("#slices .xtitle").text_content() == HOSTILE[1]
        assert page.locator("#pareto .ytitle").text_content() == HOSTILE[0]
        for point, text in enumerate(HOSTILE):
            label = hover(page, "slices", text, point=point)
            assert label.locator("a, b, [style*=bold]").count() == 0


def test_figures_without_data_say_why(
    browser: Browser, data: dict[str, Any], tmp_path: Path
) -> None:
    path = write_page(tmp_path / "why.html", {name: {"reason": f"{name}: no."} for name in data})
    with open_page(browser, path) as opened:
        opened.page.evaluate("drawAll('light')")
        for name in data:
            assert opened.page.locator(f"#{name}").inner_text() == f"{name}: no."

"""Whatever strangers named their trials, parameters and errors: it is text in the report."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from orchestrator.adapters.report_html import read_assets, render_report
from orchestrator.contract.paths import SweepPaths
from orchestrator.contract.records import FAILED, dump_record
from orchestrator.domain.figure import Figure
from orchestrator.domain.plain_text import one_line
from orchestrator.domain.text_table import TextTable
from orchestrator.usecases.report import describe, read_input
from tests.browser.opened import open_page
from tests.trial_writer import RESOURCES, add_trial, ended, make_sweep, write

HOSTILE = [
    "<script>window.hacked = 1; alert(1)</script>",
    "</script><script>window.hacked = 1; alert(2)</script>",
    "<!--<script>",
    "--><img src=x onerror='window.hacked = 1'>",
    '"><svg/onload=alert(3)>',
    "'-alert(4)-'",
    "javascript:alert(5)",
    "{{ 7 * 7 }}{% raw %}",
    "${alert(6)}`",
    "&lt;b&gt;&amp;",
    "a\u2028b\u2029c",
    "\u202egnp.exe",
    "\x1b[31mred\x1b[0m\x07",
    "=cmd|' /C calc'!A0",
    "</style><style>body{display:none}",
    "中文 <b> 值 🚀",
    "__proto__",
    "a\u200bb\ufeffc\u2060d",
    "loss: 0.5\rloss: 0.4",
    "\ud83d is half a rocket",
]


def write_hostile_sweep(root: str) -> SweepPaths:
    """Write a sweep in which every text is hostile."""
    sweep = make_sweep(root, (HOSTILE[0], "minimize"), HOSTILE)
    summary = {
        "name": HOSTILE[1],
        "metric": {"name": HOSTILE[0], "goal": "minimize"},
        "parameters": HOSTILE,
    }
    write(sweep.summary, dump_record(summary))
    write(sweep.spec, ("".join(f"# {text}\n" for text in HOSTILE[:10]) + "a: 1\n").encode())
    resources = {**RESOURCES, "partition": HOSTILE[3], "currency": HOSTILE[1]}
    for number in range(len(HOSTILE)):
        name = f"{number:05d}-{number:010x}"
        params = {key: HOSTILE[(i + number) % len(HOSTILE)] for i, key in enumerate(HOSTILE)}
        end = {"node": HOSTILE[number], "resources": resources}
        if number % 3 == 0:
            cause = f"exit code 1: {HOSTILE[number]}"
            failed = ended(
                name, outcome=FAILED, exit_code=1, cause=cause, kind="error",
                fingerprint=HOSTILE[number][:12], **end,
            )  # fmt: skip
            trial = add_trial(sweep, name, params, attempts=[failed])
            begin = f"[orchestrator] 2026-01-01T10:00:00.000Z {name} attempt 1 on node1\n"
            write(trial.log, (begin + "\n".join(HOSTILE)).encode("utf-8", "replace"))
        else:
            metrics = {HOSTILE[0]: number, **dict.fromkeys(HOSTILE[1:], HOSTILE[number])}
            add_trial(sweep, name, params, metrics, [ended(name, **end)])
    return sweep


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    sweep = write_hostile_sweep(str(folder / "sweep"))
    it = read_input(sweep, write_files=True)
    figures = [
        Figure("echo", HOSTILE[0], HOSTILE[1], {HOSTILE[0]: HOSTILE}, HOSTILE[2]),
    ]
    costs = [TextTable(HOSTILE[0], HOSTILE, [HOSTILE], notes=HOSTILE)]
    document = replace(describe(it), figures=figures, costs=costs)
    drawing = """
        const FIGURES = {
          echo(element, data) { element.textContent = JSON.stringify(data); },
        };
    """
    page = render_report(document, replace(read_assets(), figures=[drawing]))
    path = folder / "sweep" / "report.html"
    path.write_bytes(page)
    return path


def test_hostile_texts_are_text(browser: Browser, path: Path) -> None:
    with open_page(browser, path) as opened:
        page = opened.page
        for details in page.locator("details").all():
            details.evaluate("(it) => { it.open = true; }")
        page.get_by_role("button", name="All", exact=True).click()
        page.locator("#trials-list tbody input").first.check()
        page.evaluate("() => PAGE.drawAll()")
        assert page.evaluate("() => window.hacked") is None
        assert page.evaluate("() => Object.prototype.hacked") is None
        # Plotly measures texts in an image of its own, and keeps its style in the head.
        foreign = "img, svg:not(#js-plotly-tester), iframe, object, embed, form, b, body style"
        assert page.locator(foreign).count() == 0
        assert page.locator("a").evaluate_all(
            "(links) => links.every((it) => it.getAttribute('href').startsWith('#'))"
        )
        echoed = page.locator("[data-figure=echo]")
        assert HOSTILE[1] in echoed.inner_text()
        echoed.evaluate("(it) => it.remove()")  # it shows its data as they are
        text = page.locator("body").inner_text()
        log = page.locator("#failures pre").first.inner_text()
        for hostile in HOSTILE[:10]:
            assert hostile in text, hostile
            assert hostile in log, hostile
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "中文 <b> 值 🚀" in text


def test_table_strips_what_python_strips(browser: Browser, path: Path) -> None:
    texts = [f"a{chr(code)}b" for code in range(0x10000)] + [*HOSTILE, "🚀 a  b\t c", "x" * 99]
    with open_page(browser, path) as opened:
        found = opened.page.evaluate(
            "(texts) => JSON.parse(texts).map((text) => CELLS.oneLine(text, 80))", json.dumps(texts)
        )
    assert found == [one_line(text, 80) for text in texts]


def test_copy_of_hostile_texts_is_guarded_as_the_csv_is(browser: Browser, path: Path) -> None:
    table = SweepPaths(os.path.dirname(path)).leaderboard("csv")
    with open_page(browser, path) as opened:
        copied = opened.page.evaluate("() => TABLE.toCsv()")
    assert copied.encode() == Path(table).read_bytes()
    assert "'=cmd" in copied

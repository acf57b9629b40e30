from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.report_html import Assets, read_assets, render_report, script_json
from orchestrator.adapters.report_table import describe_table
from orchestrator.domain.figure import Figure
from orchestrator.domain.leaderboard import rank_trials
from orchestrator.domain.report_document import ReportDocument
from orchestrator.domain.standing import Standing
from orchestrator.domain.sweep_summary import SweepSummary
from orchestrator.domain.trial_files import TrialFiles

ROOT = Path(__file__).parents[2]
DOCUMENT = ReportDocument(
    name="demo",
    objective="Ranked by loss, minimized.",
    standing=Standing(),
    facts=[],
    at="2026-01-01 10:00:00 UTC",
    version="1.0",
    table={"n": 0, "columns": [], "leads": None},
)
ASSETS = Assets(css="p {}", theme="1;\r\n", scripts=["2;", "3;"], figures=["4;"], plotly="5;")


def scripts_of(page: str) -> list[str]:
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


@pytest.mark.parametrize(
    "text", ["</script>", "<!--", "<script", "&amp;", "\u2028", "\u2029", "\u202e", '"', "\\", "值"]
)
def test_json_block_is_the_value_and_holds_no_markup(text: str) -> None:
    spelled = script_json({text: [text, 0.1, None]})
    assert json.loads(spelled) == {text: [text, 0.1, None]}
    assert re.fullmatch(r"[ -%'-;=?-~]*", spelled), spelled


def test_json_block_refuses_numbers_that_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def test_policy_names_each_script_and_nothing_else() -> None:
    figure = Figure("a", "A", "caption", {})
    page = render_report(replace(DOCUMENT, figures=[figure]), ASSETS).decode()
    scripts = scripts_of(page)
    assert scripts == ["1;\n", "2;", "5;", "4;", "3;"]
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    policy = html.unescape(found[1])
    assert policy.startswith("default-src 'none'; script-src ")
    assert re.findall(r"'sha256-([^']*)'", policy) == digests
    assert "unsafe-eval" not in policy


def test_page_without_figures_leaves_out_plotly() -> None:
    assert scripts_of(render_report(DOCUMENT, ASSETS).decode()) == ["1;\n", "2;", "3;"]


def test_figure_with_a_reason_is_words() -> None:
    figure = Figure("a", "A", "caption", {"reason": "too <few> trials"})
    page = render_report(replace(DOCUMENT, figures=[figure]), ASSETS).decode()
    assert '<p class="note">too &lt;few&gt; trials</p>' in page
    assert "data-figure" not in page


def test_script_that_would_end_its_element_is_guarded() -> None:
    assets = replace(ASSETS, scripts=["a = '</script><!--';", "3;"])
    page = render_report(DOCUMENT, assets).decode()
    assert scripts_of(page)[1] == r"a = '\x3c/script>\x3c!--';"


def test_page_loads_nothing() -> None:
    page = render_report(replace(DOCUMENT, figures=[Figure("a", "A", "b", {})]), read_assets())
    markup = re.sub(r"<(script|style)>.*?</\1>", "", page.decode(), flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=(?!\s*["']?(#|data:,))""", markup)
    css = read_assets().css
    assert "url(" not in css
    assert "@import" not in css


def test_plotly_is_read_and_not_imported() -> None:
    code = (
        "import sys; from orchestrator.adapters.report_html import read_assets;"
        "assert len(read_assets().plotly) > 1e6; assert 'plotly' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)


def test_numbers_that_javascript_does_not_know_are_text() -> None:
    metrics = [
        {"loss": 0.1, "big": 2**60, "odd": float("inf")},
        {"loss": 0.2, "big": 1, "odd": float("nan")},
    ]
    trials = [
        TrialFiles(f"0000{i}-aaaa", i, "aaaa", {"lr": i}, {}, True, metrics=metric)
        for i, metric in enumerate(metrics)
    ]
    board = rank_trials(trials, {}, {}, SweepSummary("s", "loss", parameters=("lr",)), 0.0)
    table = describe_table(board)
    values = {column["name"]: column.get("values") for column in table["columns"]}
    assert values["loss"] == [0.1, 0.2]
    assert values["big"] == [str(2**60), 1]
    assert values["odd"] == ["inf", "nan"]
    json.dumps(table, allow_nan=False)


def test_column_of_few_values_sends_each_once() -> None:
    trials = [TrialFiles(f"{i:05d}-aaaa", i, "aaaa", {"lr": i, "k": "x"}) for i in range(20)]
    board = rank_trials(trials, {}, {}, SweepSummary("s", "loss", parameters=("lr",)), 0.0)
    column = next(it for it in describe_table(board)["columns"] if it["name"] == "k")
    assert (column["words"], column["codes"]) == (["x"], [0] * 20)


def test_wheel_holds_the_page(tmp_path: Path) -> None:
    hatch = pytest.importorskip("hatchling.builders.wheel")
    (built,) = hatch.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        names = {name for name in wheel.namelist() if "/report_page/" in name}
    folder = ROOT / "orchestrator" / "adapters" / "report_page"
    files = {str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.is_file()}
    assert files
    assert names == files
